"""Write SHA256SUMS into each folder of data/ that holds files: run it after a data file was changed on purpose.

Usage: python tools/write_checksums.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
UNSUMMED = ("SHA256SUMS", "README.md", "LICENSE")


def sums(folder: Path) -> str:
    """Return what `SHA256SUMS` of `folder` has to say; empty for a folder without data files."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in UNSUMMED)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


if __name__ == "__main__":
    for folder in sorted({path.parent for path in DATA.rglob("*") if path.is_file()}):
        if text := sums(folder):
            (folder / "SHA256SUMS").write_text(text, encoding="utf-8", newline="\n")
            print(f"{text.count(chr(10))} files in {folder.relative_to(DATA.parent)}")
