"""pytest plugin: the lessons run in the embedded way, and the summary says how much was really compared."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import IPyNbCell

PICTURES = {"image/png", "image/jpeg"}


def pytest_configure(config):
    os.environ["INSIDE_BERT"] = "embedded"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # outputs were stored on a CPU
    os.environ["INSIDE_BERT_LIVE"] = "no"  # nbval cannot follow a picture that changes while a cell runs
    os.environ.pop("INSIDE_BERT_DATA", None)
    config.lesson_tally = defaultdict(lambda: defaultdict(float))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if not isinstance(item, IPyNbCell):
        return
    tally = item.config.lesson_tally[item.path.stem]
    tally["seconds"] += call.duration
    if call.when == "call" and outcome.get_result().passed:
        tally["cells"] += 1
        if item.options["check"]:
            tally["compared"] += comparable_outputs(item.cell)
        else:
            tally["ignored"] += 1


def comparable_outputs(cell) -> int:
    """Return how many stored outputs of `cell` nbval compares: all but those that hold a picture and nothing else."""
    return sum(not PICTURES >= set(output.get("data", {"text": ""})) for output in cell.outputs)


def pytest_terminal_summary(terminalreporter, config):
    if not config.lesson_tally:
        return
    terminalreporter.section("lessons")
    for lesson, tally in sorted(config.lesson_tally.items()):
        terminalreporter.write_line(_line(lesson, tally))
    keys = ("cells", "compared", "ignored", "seconds")
    total = {key: sum(tally[key] for tally in config.lesson_tally.values()) for key in keys}
    terminalreporter.write_line(_line("all lessons", total))


def _line(name: str, tally) -> str:
    return (
        f"{name:32} {tally['cells']:4.0f} cells ran, {tally['compared']:4.0f} outputs compared, "
        f"{tally['ignored']:2.0f} cells not compared (reason in the cell), {tally['seconds']:5.1f} s"
    )


def lessons() -> list[Path]:
    """Return the paths of all lessons."""
    return sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """Return the lesson at `path`."""
    return nbformat.read(path, as_version=4)
