"""Write SHA256SUMS into each folder of data/ that holds files: run it after a data file was changed on purpose.

Usage: python tools/write_checksums.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
UNSUMMED = ("SHA256SUMS", "README.md", "LICENSE")

if __name__ == "__main__":
    for folder in sorted({path.parent for path in DATA.rglob("*") if path.is_file()}):
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in UNSUMMED)
        if files:
            lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
            (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")
            print(f"{len(files)} files in {folder.relative_to(DATA.parent)}")
