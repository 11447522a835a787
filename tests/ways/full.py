"""Run every lesson in the full way, against a hub on this machine: `make test-full`.

Outputs are not compared, because the weights are stand-ins; a cell that fails is. What is found this way: prose and
checks that hold for the embedded model alone, and loading code that the embedded way never runs. At the end stands
which claims could not be judged on stand-in weights, and why.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import colab
import hub
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = hub.ROOT / "notebooks"
SKIPPED = re.compile(r"^– skipped \((.*?)\): (.*)$", re.MULTILINE)


def run_lesson(path: Path, folder: Path, kernel: str) -> tuple[str | None, str]:
    """Return what failed (None if nothing did) and all that the lesson printed; `folder` is where it runs."""
    lesson = nbformat.read(path, as_version=4)
    client = NotebookClient(lesson, timeout=600, kernel_name=kernel, resources={"metadata": {"path": str(folder)}})
    failure = None
    try:
        client.execute()
    except CellExecutionError as error:
        failure = str(error)
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", [])]
    return failure, "".join(output.get("text", "") for output in outputs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, help="another virtual environment, with the course installed")
    environment = parser.parse_args().environment
    passed = failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hub.build(folder / "hub")
        kernel = "python3"
        if environment:
            kernel = colab.KERNEL
            colab.write_kernel(folder / "jupyter", environment.resolve() / "bin" / "python", {})
            os.environ["JUPYTER_PATH"] = str(folder / "jupyter")
        with hub.serve(folder / "hub") as (address, server):
            os.environ.update(hub.environment(address, folder / "cache"))
            os.environ.pop("INSIDE_BERT", None)  # the hub has to be found, not told
            os.environ.pop("HF_HUB_OFFLINE", None)
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            for path in sorted(NOTEBOOKS.glob("*.ipynb")):
                before = len(server.requests)
                failure, printed = run_lesson(path, folder, kernel)
                if not failure and "the full way: the Hugging Face hub answers" not in printed:
                    failure = "the lesson did not find the hub, and ran in the embedded way"
                asked = len(server.requests) - before
                checks = printed.count("✓ ")
                result = "FAILED" if failure else "passed"
                print(f"{path.stem:32} {result}  {checks} checks, {asked} requests to the hub")
                for reason, claim in SKIPPED.findall(printed):
                    print(f"    not judged ({reason}): {claim}")
                if failure:
                    print(failure)
                passed, failed = passed + (not failure), failed + bool(failure)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
