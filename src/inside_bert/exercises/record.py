"""What has been solved: check one exercise, and show or keep the table.

Writes only to a file that the learner names.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
from pathlib import Path
from typing import Any

from inside_bert.exercises.grading import RIGHT, UNTRIED, WRONG, Exercise

_marks: dict[str, str] = {}
_file: Path | None = None


def lesson_numbers() -> list[int]:
    """Return the numbers of the lessons that have exercises."""
    package = importlib.import_module("inside_bert.exercises")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(int(name.removeprefix("lesson_")) for name in names if name.startswith("lesson_"))


def exercises_of(lesson: int) -> dict[str, Exercise]:
    """Return the exercises of one lesson by number, such as ``"1.3"``."""
    module = importlib.import_module(f"inside_bert.exercises.lesson_{lesson:02d}")
    return {exercise.number: exercise for exercise in module.EXERCISES}


def check_exercise(number: str, answer: Any) -> None:
    """Judge `answer` to exercise `number`, print the verdict, and remember it for `progress`.

    Raises `KeyError` for a number that does not exist; never for what the answer does.
    """
    exercise = _find(number)
    verdict = exercise.grade(answer)
    print(f"{number} {exercise.title}\n{verdict}")
    if _marks.get(number) != RIGHT:  # a solved exercise stays solved
        _marks[number] = verdict.mark
    if _file is not None:
        _write(_file)


def progress(file: str | os.PathLike | None = None) -> None:
    """Print which exercises are solved, for each lesson that was begun.

    With `file`, what that file remembers is added first, and from then on every check is kept there, so that it is
    there tomorrow. Raises `ValueError` for a file that is not such a record (it is left as it is), and `OSError`
    with a remedy when the file cannot be written.
    """
    global _file
    if file is not None:
        path = Path(file).expanduser()
        for number, mark in _read(path).items():
            if _marks.get(number) != RIGHT:
                _marks[number] = mark
        _write(path)
        _file = path
    print(_table())


def _find(number: str) -> Exercise:
    try:
        return exercises_of(int(number.split(".")[0]))[number]
    except (ValueError, ModuleNotFoundError, KeyError, AttributeError):
        raise KeyError(f"there is no exercise {number!r}; numbers look like '1.3'.") from None


def _table() -> str:
    signs = {UNTRIED: "○", WRONG: "✗", RIGHT: "✓"}
    lines = []
    for lesson in lesson_numbers():
        exercises = exercises_of(lesson)
        if not exercises.keys() & _marks.keys():
            continue
        solved = sum(_marks.get(number) == RIGHT for number in exercises)
        row = "  ".join(f"{signs[_marks.get(number, UNTRIED)]} {number}" for number in exercises)
        lines.append(f"lesson {lesson:02d}   {row}   {solved} of {len(exercises)} solved")
    return "\n".join(lines) or "no exercise tried yet"


def _read(path: Path) -> dict[str, str]:
    if path.is_dir():
        raise OSError(f"{path} is a folder; name a file in it, such as {path / 'progress.json'}.")
    if not path.exists():
        return {}
    try:
        marks = json.loads(path.read_text(encoding="utf-8"))["exercises"]
        if not isinstance(marks, dict) or not set(marks.values()) <= {UNTRIED, WRONG, RIGHT}:
            raise ValueError("not a record of exercises")
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is not a record of exercises, and was left as it is; name another file, or move it away."
        ) from None
    return marks


def _write(path: Path) -> None:
    text = json.dumps({"exercises": dict(sorted(_marks.items()))}, indent=1) + "\n"
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a folder that cannot be written holds no draft either
            draft.unlink()
        raise OSError(
            f"{path} cannot be written ({error.strerror}); name a file in a folder of yours. "
            "What you solved is still remembered in this session."
        ) from error
