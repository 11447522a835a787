"""Measure the embedded model again and compare with its card, to the printed digit: `make test-card`.

Needs the texts that the model was trained on (tools/pretraining_text.py fetches them) and SST-2; takes about ten
minutes on two cores. Every line that tools/evaluate_embedded_model.py prints has to stand in the card.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "data" / "models" / "embedded-bert"


def lines_not_in_card(*options: str) -> tuple[int, list[str]]:
    """Run the evaluation with `options`; return how many lines it printed, and in which lines card and print differ."""
    command = [sys.executable, str(ROOT / "tools" / "evaluate_embedded_model.py"), str(MODEL), *options]
    printed = subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8")
    if printed.returncode:
        raise RuntimeError(f"the evaluation failed: {printed.stderr[-2000:]}")
    card, found, missing = sections((MODEL / "README.md").read_text(encoding="utf-8")), 0, []
    for title, lines in sections(printed.stdout).items():
        found += len(lines)
        missing += [line for line in lines if line not in card.get(title, [])]
        missing += [f"(no longer measured) {line}" for line in card.get(title, []) if title and line not in lines]
    return found, missing


def sections(text: str) -> dict[str, list[str]]:
    """Lines by the title of their section; what stands before the first `###` has the title ""."""
    found: dict[str, list[str]] = {"": []}
    title = ""
    for line in text.splitlines():
        if line.startswith("#"):
            title = line.removeprefix("### ") if line.startswith("### ") else ""
            found.setdefault(title, [])
        elif line.strip():
            found[title].append(line)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default=str(ROOT.parent / "shared" / "text"))
    parser.add_argument("--sst2", default=str(ROOT.parent / "shared" / "real"))
    folders = parser.parse_args()
    count, missing = lines_not_in_card("--text", folders.text, "--sst2", folders.sst2)
    for line in missing:
        print("card and measurement differ:", line)
    print(f"{count} lines measured, {count - len(missing)} of them stand in the card")
    return bool(missing) or not count


if __name__ == "__main__":
    sys.exit(main())
