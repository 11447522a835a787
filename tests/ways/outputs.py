"""Run lessons from top to bottom in the embedded way and store their outputs: `make outputs`.

Without arguments all lessons; `make outputs LESSONS=notebooks/01_tokenization_and_masks.ipynb` runs one. A lesson
that fails is left as it was.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def main(arguments: list[str]) -> None:
    os.environ["INSIDE_BERT"] = "embedded"
    os.environ["INSIDE_BERT_LIVE"] = "no"  # what stays is the same, and the tests run in this way
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for path in [Path(argument) for argument in arguments] or sorted(NOTEBOOKS.glob("*.ipynb")):
        lesson = nbformat.read(path, as_version=4)
        NotebookClient(
            lesson,
            timeout=600,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
        lesson.metadata.language_info = {"name": "python"}  # not the version of one machine
        text = nbformat.writes(lesson)
        path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8", newline="\n")
        print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in lesson.cells)} cells run, outputs stored")


if __name__ == "__main__":
    main(sys.argv[1:])
