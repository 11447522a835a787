"""Write the repository's address into everything that carries it: ``python -m inside_bert.publish OWNER/NAME``.

The address stands in `pyproject.toml`; badges and setup cells of the lessons, and the README, repeat it because
they are read where no package is installed. Changes those files in the current checkout, and nothing else.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ADDRESS = re.compile(r'^Repository = "https://github\.com/([^/"\s]+/[^/"\s]+)"$', re.MULTILINE)
SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/(?!\.+$)[A-Za-z0-9._-]+")


def carriers(root: Path) -> list[Path]:
    """Return the files of the checkout `root` that carry the address."""
    return [root / "pyproject.toml", root / "README.md", *sorted((root / "notebooks").glob("*.ipynb"))]


def current_slug(root: Path) -> str:
    """Return ``OWNER/NAME`` as `pyproject.toml` has it; raises `ValueError` when it is not there."""
    path = root / "pyproject.toml"
    found = ADDRESS.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    if not found:
        raise ValueError(f'{path} has no line Repository = "https://github.com/OWNER/NAME"; run this in the checkout.')
    return found.group(1)


def publish(root: Path, slug: str) -> list[Path]:
    """Replace the address by that of `slug` (``OWNER/NAME``) in all `carriers`; return the files that changed.

    Raises `ValueError` for a slug of another form or outside a checkout, `OSError` when a file is missing; nothing is
    written before all files have been read.
    """
    if not SLUG.fullmatch(slug):
        raise ValueError(f"{slug!r} is not of the form OWNER/NAME, as in github.com/OWNER/NAME.")
    old = re.escape(current_slug(root))
    # github.com/OLD in links and pip lines; colab.research.google.com/github/OLD in badges
    pattern = re.compile(rf"(github(?:\.com)?/){old}(?![\w.-]*\w)")
    before = {path: path.read_bytes().decode("utf-8") for path in carriers(root)}
    after = {path: pattern.sub(rf"\g<1>{slug}", text) for path, text in before.items()}
    changed = [path for path in before if after[path] != before[path]]
    for path in changed:
        path.write_bytes(after[path].encode("utf-8"))
    return changed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m inside_bert.publish", description=__doc__.splitlines()[0])
    parser.add_argument("slug", metavar="OWNER/NAME", help="the repository on GitHub")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: this folder)")
    options = parser.parse_args(arguments)
    try:
        changed = publish(options.root, options.slug)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for path in changed:
        print(path.relative_to(options.root))
    print(f"{len(changed)} files now carry {options.slug}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
