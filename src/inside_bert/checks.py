"""Checks that stand beside a claim: each prints one line when it holds and stops the lesson when it does not.

Touches nothing: reads its arguments, prints, raises.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def check(claim: str, holds: Any, *, skip: str | None = None) -> None:
    """Print ``✓ claim`` when `holds` is true, raise `AssertionError` when it is not.

    `holds` is one truth value: a bool, or a NumPy or torch array of type bool with a single element. An array with
    more raises `ValueError`, because "is it true everywhere or somewhere?" has to be said with ``.all()`` or
    ``.any()``; anything else (a list, a number, a forgotten comparison) raises `TypeError`. `skip` gives a reason why
    the claim cannot be judged in this run (``run.stand_in`` for claims about trained weights); the claim is then
    printed as skipped and not judged. ``None`` judges it.
    """
    __tracebackhide__ = True
    if skip:
        print(f"– skipped ({skip}): {claim}")
        return
    if not isinstance(holds, bool) and "bool" not in str(getattr(holds, "dtype", "")):
        raise TypeError(f"check({claim!r}, …) needs a truth value, not {holds!r:.60}; write the comparison itself.")
    if not isinstance(holds, bool) and _elements(holds) != 1:
        raise ValueError(
            f"check({claim!r}, …) was given {_elements(holds)} truth values; say .all() or .any() to make it one."
        )
    if not bool(holds):
        raise AssertionError(f"✗ {claim}")
    print(f"✓ {claim}")


def check_shape(array: Any, expected: Sequence[int]) -> None:
    """Print ``✓ shape (…)`` when `array.shape` equals `expected`, raise `AssertionError` when it does not.

    Raises `TypeError` for something without a shape.
    """
    __tracebackhide__ = True
    if not hasattr(array, "shape"):
        raise TypeError(f"check_shape needs something with a shape, not {type(array).__name__}.")
    actual, wanted = tuple(array.shape), tuple(expected)
    if actual != wanted:
        raise AssertionError(f"✗ the shape is {actual}, not {wanted}")
    print(f"✓ shape {actual}")


def largest_difference(mine: Any, reference: Any) -> float:
    """Return ``max |mine - reference|`` over all elements; both have the same shape, else `ValueError`."""
    if tuple(mine.shape) != tuple(reference.shape):
        raise ValueError(f"shapes differ: {tuple(mine.shape)} and {tuple(reference.shape)}; nothing to compare.")
    return float(abs(mine - reference).max())


@contextmanager
def expect_error(*kinds: type[Exception]) -> Iterator[None]:
    """Run a block that is meant to fail, and print the error's name and the first line of its message.

    A cell that raises stops "Run all" in Colab, and its stored traceback carries the paths of one machine; this
    shows the line that matters. Another kind of error passes through; no error at all raises `AssertionError`.
    """
    __tracebackhide__ = True
    try:
        yield
    except kinds as error:
        first_line = (str(error).splitlines() or [""])[0]
        print(textwrap.fill(f"{type(error).__name__}: {first_line}", width=100, subsequent_indent="    "))
    else:
        raise AssertionError(f"✗ expected {' or '.join(kind.__name__ for kind in kinds)}, but nothing failed")


def _elements(array: Any) -> int:
    count = 1
    for size in array.shape:
        count *= size
    return count
