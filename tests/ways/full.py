"""Run every lesson in the full way, against a hub on this machine: `make test-full`.

Outputs are not compared, because the weights are stand-ins; a cell that fails is. What is found this way: prose and
checks that hold for the embedded model alone, and loading code that the embedded way never runs. At the end stands
which claims could not be judged on stand-in weights, and why.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import hub
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = hub.ROOT / "notebooks"
SKIPPED = re.compile(r"^– skipped \((.*?)\): (.*)$", re.MULTILINE)


def run_lesson(path: Path, folder: Path) -> tuple[str | None, str]:
    """Return what failed (None if nothing did) and all that the lesson printed; `folder` is where it runs."""
    lesson = nbformat.read(path, as_version=4)
    client = NotebookClient(lesson, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    failure = None
    try:
        client.execute()
    except CellExecutionError as error:
        failure = str(error)
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", [])]
    return failure, "".join(output.get("text", "") for output in outputs)


def main() -> int:
    passed = failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hub.build(folder / "hub")
        with hub.serve(folder / "hub") as (address, server):
            os.environ.update(hub.environment(address, folder / "cache"))
            os.environ.pop("INSIDE_BERT", None)  # the hub has to be found, not told
            os.environ.pop("HF_HUB_OFFLINE", None)
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            for path in sorted(NOTEBOOKS.glob("*.ipynb")):
                before, begun = len(server.requests), time.perf_counter()
                failure, printed = run_lesson(path, folder)
                if not failure and "the full way: the Hugging Face hub answers" not in printed:
                    failure = "the lesson did not find the hub, and ran in the embedded way"
                asked = len(server.requests) - before
                checks = printed.count("✓ ")
                print(f"{path.stem:32} {'FAILED' if failure else 'passed'}  {checks} checks, {asked} requests to the hub, "
                      f"{time.perf_counter() - begun:.0f} s")  # fmt: skip
                for reason, claim in SKIPPED.findall(printed):
                    print(f"    not judged ({reason}): {claim}")
                if failure:
                    print(failure)
                passed, failed = passed + (not failure), failed + bool(failure)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
