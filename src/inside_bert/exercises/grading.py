"""How one answer is judged: against a reference, on random inputs, with the usual mistakes known by name.

Calls only the learner's function; touches nothing else.
"""

from __future__ import annotations

import copy
import math
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-5
UNTRIED, WRONG, RIGHT = "untried", "wrong", "right"


@dataclass(frozen=True)
class Verdict:
    """What is said about one answer; `mark` is one of untried, wrong, right."""

    mark: str
    message: str

    def __str__(self) -> str:
        return f"{ {UNTRIED: '○', WRONG: '✗', RIGHT: '✓'}[self.mark] } {self.message}"


@dataclass(frozen=True)
class Misconception:
    """A usual mistake: code that makes it, and what to tell somebody whose answers equal its answers."""

    name: str
    answer: Any  # a function for an exercise that asks for one, else the wrong value itself
    diagnosis: str


@dataclass(frozen=True)
class Exercise:
    """One task: its label, the reference answer, inputs to try, and the mistakes that are known by name.

    With `inputs`, the task asks for a function, and `inputs(rng)` returns the arguments of one random call. Without,
    it asks for a value, and `reference` returns the right one. `objection` says what is still wrong with an answer
    whose value is right.
    """

    number: str  # "1.3"
    title: str
    level: str  # warm-up, core or stretch
    minutes: int
    reference: Callable[..., Any]
    right: str  # what to say when it is solved
    inputs: Callable[[random.Random], tuple] | None = None
    misconceptions: tuple[Misconception, ...] = ()
    cases: int = 6
    keeps_inputs: bool = False  # does the task say that what is handed in has to stay as it is?
    objection: Callable[[Any], str | None] = field(default=lambda answer: None)
    show: Callable[[tuple], str] = field(default=lambda arguments: ", ".join(_short(a) for a in arguments))

    def grade(self, answer: Any) -> Verdict:
        """Judge `answer`; never raises for what the learner's code does or returns."""
        try:
            return self._grade(answer)
        except Exception as error:  # an answer that cannot even be compared, such as an object that lies about itself
            return Verdict(WRONG, f"the answer cannot be compared ({type(error).__name__}: {error})")

    def _grade(self, answer: Any) -> Verdict:
        if self.inputs is None:
            return self._grade_value(answer)
        if answer is None:
            return Verdict(UNTRIED, "not tried yet: define the function above, then run this cell again")
        if not callable(answer):
            return Verdict(WRONG, f"this exercise asks for a function, and it was given {_short(answer)}")
        return self._grade_function(answer)

    def _grade_value(self, answer: Any) -> Verdict:
        if answer is None or _holds_none(answer):
            begun = "not finished: an entry is still None" if _holds_more_than_none(answer) else "not tried yet"
            return Verdict(UNTRIED, f"{begun}: put your answer in place of None, then run this cell again")
        expected = self.reference()
        if equal(answer, expected):
            return Verdict(RIGHT, self.right)
        for mistake in self.misconceptions:
            if equal(answer, mistake.answer):
                return Verdict(WRONG, mistake.diagnosis)
        return Verdict(WRONG, difference(answer, expected, reveal=False))

    def _grade_function(self, function: Callable) -> Verdict:
        calls = [self.inputs(random.Random(f"{self.number} {case}")) for case in range(self.cases)]
        answers: list[Any] = []
        for call in calls:
            given = copy.deepcopy(call)
            try:
                answers.append(function(*given))
            except Exception as error:  # the learner's mistake, whatever it is: told, not hidden
                return Verdict(WRONG, f"{_where(error, function)}\n  it was called with {self.show(call)}")
            if self.keeps_inputs and not equal(given, call):
                return Verdict(WRONG, "your function changed what it was given; work on a copy, such as x.clone()")
        if all(answer is None for answer in answers):
            return Verdict(UNTRIED, "not tried yet: the function returns None (or is a `return` missing?)")
        expected = [self.reference(*copy.deepcopy(call)) for call in calls]
        wrong = [n for n in range(self.cases) if not equal(answers[n], expected[n])]
        if not wrong:
            objections = [said for said in map(self.objection, answers) if said]
            return Verdict(WRONG, objections[0]) if objections else Verdict(RIGHT, self.right)
        for mistake in self.misconceptions:
            if all(equal(answers[n], _try(mistake.answer, calls[n]), nan=True) for n in range(self.cases)):
                return Verdict(WRONG, mistake.diagnosis)
        first = wrong[0]
        return Verdict(
            WRONG,
            f"{difference(answers[first], expected[first])}\n  it was called with {self.show(calls[first])}"
            f" ({len(wrong)} of {self.cases} calls differ)",
        )


def equal(answer: Any, expected: Any, *, nan: bool = False) -> bool:
    """Compare nested answers: text and whole numbers exactly, other numbers within `TOLERANCE`, NaN never.

    With `nan`, NaN in an array equals NaN: so a mistake that makes them is known by name.

    A list may be given as a tuple, an array or a tensor, and a whole number as a float (``135.0``).
    """
    if hasattr(expected, "shape"):
        mine, other = _array(answer), _array(expected)
        if mine is None or mine.shape != other.shape:
            return False
        import numpy

        return bool(numpy.allclose(mine, other, atol=TOLERANCE, rtol=TOLERANCE, equal_nan=nan))
    answer = _plain(answer)
    if isinstance(expected, (list, tuple)):
        same = isinstance(answer, (list, tuple)) and len(answer) == len(expected)
        return same and all(equal(a, b, nan=nan) for a, b in zip(answer, expected))
    if isinstance(expected, dict):
        same = isinstance(answer, dict) and answer.keys() == expected.keys()
        return same and all(equal(answer[key], expected[key]) for key in expected)
    if isinstance(expected, bool) or isinstance(answer, bool):
        return answer is expected
    if isinstance(expected, (int, float)):
        if not isinstance(answer, (int, float)):
            return False
        if isinstance(expected, int) or not math.isfinite(expected):
            return answer == expected
        return abs(answer - expected) <= TOLERANCE * max(1.0, abs(expected))
    return type(answer) is type(expected) and answer == expected


def difference(answer: Any, expected: Any, *, reveal: bool = True, place: str = "") -> str:
    """Say how `answer` differs: its type, its length, its shape, or its first wrong value and where that stands.

    Without `reveal` the expected value is not given away.
    """
    where = f"answer{place}: " if place else ""
    if hasattr(expected, "shape"):
        return where + _tensor_difference(answer, expected)
    answer = _plain(answer)
    if isinstance(expected, (list, tuple)) and isinstance(answer, (list, tuple)):
        wrong = [n for n, (a, b) in enumerate(zip(answer, expected)) if not equal(a, b)]
        length = f"{where}expected {len(expected)} items, got {len(answer)}"
        if not wrong:
            return length
        first = difference(answer[wrong[0]], expected[wrong[0]], reveal=reveal, place=f"{place}[{wrong[0]}]")
        return first if len(answer) == len(expected) else f"{length}; {first}"
    if isinstance(expected, dict) and isinstance(answer, dict):
        if answer.keys() != expected.keys():
            return f"{where}expected the keys {_short(list(expected))}, got {_short(list(answer))}"
        key = next(key for key in expected if not equal(answer[key], expected[key]))
        return difference(answer[key], expected[key], reveal=reveal, place=f"{place}[{key!r}]")
    number = isinstance(expected, (int, float)) and not isinstance(expected, bool)
    kind = "True or False" if isinstance(expected, bool) else "a number" if number else _a(type(expected).__name__)
    fits = (
        isinstance(answer, (int, float)) and not isinstance(answer, bool) if number else type(answer) is type(expected)
    )
    if not fits:
        return f"{where}expected {kind}, got {_short(answer)}"
    if not reveal:
        return f"{where}{_short(answer)} is not right"
    if number and _short(answer) == _short(expected):
        return f"{where}expected {expected}, got {answer}: is it rounded?"
    return f"{where}expected {_short(expected)}, got {_short(answer)}"


def _tensor_difference(answer: Any, expected: Any) -> str:
    if not hasattr(answer, "shape"):
        return f"expected a tensor of shape {tuple(expected.shape)}, got {_short(answer)}"
    if tuple(answer.shape) != tuple(expected.shape):
        return f"expected shape {tuple(expected.shape)}, got {tuple(answer.shape)}"
    mine, other = _array(answer), _array(expected)
    if mine is None:
        return f"expected numbers, got {_short(answer)}"
    if mine.size <= 8:
        return f"expected {_short(_plain(expected))}, got {_short(_plain(answer))}"
    if (mine != mine).any():
        return "some values are NaN, not a number: is something divided by zero?"
    return f"the shape is right, but values differ by up to {abs(mine - other).max():.3g}"


def _try(function: Callable, call: tuple) -> Any:
    try:
        return function(*copy.deepcopy(call))
    except Exception:  # a known mistake that fails on this input: then nobody's answer equals it
        return object()


def _where(error: Exception, function: Callable) -> str:
    told = f"your function raised {type(error).__name__}: {str(error) or 'no message'}"
    filename = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    return told + (f"\n  in its line `{frames[-1].line}`" if frames and frames[-1].line else "")


def _array(value: Any):
    import numpy

    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return numpy.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """Return lists and numbers of Python for arrays and tensors, anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "shape") else value


def _holds_none(answer: Any) -> bool:
    if isinstance(answer, dict):
        return any(_holds_none(value) for value in answer.values())
    return answer is None or (isinstance(answer, (list, tuple)) and any(_holds_none(item) for item in answer))


def _holds_more_than_none(answer: Any) -> bool:
    items = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (list, tuple)) else ()
    return any(item is not None for item in items)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _short(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "an array" if type(value).__module__ == "numpy" else "a tensor"
        return f"{kind} of shape {tuple(value.shape)}" if tuple(value.shape) else f"{value}"
    text = repr(_rounded(value))
    return text if len(text) <= 160 else text[:157] + "..."


def _rounded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_rounded(item) for item in value)
    return round(value, 4) if isinstance(value, float) else value
