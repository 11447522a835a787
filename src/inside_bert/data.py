"""The files that the course carries: where they are, whether they are whole, and how to read them.

Reads only `data/` (of the checkout, or of the installed package); never writes, never touches the network.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

EMBEDDED_MODEL = "models/embedded-bert"
CHECKSUMS = "SHA256SUMS"


class DamagedDataError(OSError):
    """A file that the course carries is missing or is not the one that was shipped."""


def data_folder() -> Path:
    """Return the folder that holds the course's data.

    ``INSIDE_BERT_DATA`` names another one; else it is `data/` of the checkout, or, when the package was installed
    without a checkout (Colab), the copy inside the package. Raises `DamagedDataError` when there is none.
    """
    named = os.environ.get("INSIDE_BERT_DATA")
    here = Path(__file__).resolve()
    places = [Path(named)] if named else [here.parents[2] / "data", here.parent / "_data"]
    for place in places:
        if (place / "models").is_dir():
            return place
    looked = " and ".join(str(place) for place in places)
    raise DamagedDataError(f"The course's data folder is missing (looked in {looked}). {remedy('data')}")


def verify(relative: str, *, required: Sequence[str] = ()) -> Path:
    """Compare the files of one folder under `data/` with its `SHA256SUMS`; return the folder.

    `required` names files that have to be among them. Raises `DamagedDataError` that names the first missing or
    changed file and what to do about it. Files whose size and time have not changed since are not hashed again.
    """
    folder = data_folder() / relative
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise DamagedDataError(f"{sums} is missing. {remedy(f'data/{relative}')}")
    listed = dict(line.split("  ")[::-1] for line in sums.read_text(encoding="utf-8").splitlines() if "  " in line)
    if not listed or not set(required) <= set(listed):
        raise DamagedDataError(f"{sums} is damaged: it does not list every file. {remedy(f'data/{relative}')}")
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise DamagedDataError(f"{path} is missing. {remedy(f'data/{relative}/{name}')}")
        status = path.stat()
        if _sha256(str(path), status.st_size, status.st_mtime_ns) != expected:
            raise DamagedDataError(
                f"{path} is damaged: {status.st_size:,} bytes that are not the ones shipped. "
                f"{remedy(f'data/{relative}/{name}')}"
            )
    return folder


def read_texts(kinds: list[str] | None = None) -> pandas.DataFrame:
    """Return the course's own short texts as a table `id, kind, text`; `kinds` keeps some kinds only.

    Raises `ValueError` for a kind that does not exist, `DamagedDataError` for a damaged file.
    """
    import pandas

    table = pandas.read_csv(verify("texts") / "texts.csv", keep_default_na=False)
    if kinds is None:
        return table
    unknown = sorted(set(kinds) - set(table["kind"]))
    if unknown:
        raise ValueError(f"no texts of kind {unknown}; there are {sorted(set(table['kind']))}.")
    return table[table["kind"].isin(kinds)].reset_index(drop=True)


def read_pairs() -> pandas.DataFrame:
    """Return the course's own pairs of sentences as a table `id, similarity, kind, first, second`.

    `similarity` is a whole number from 0 (unrelated) to 5 (same meaning), the scale of SemEval STS; `kind` says how the
    pair is made: plain, paraphrase, word trap or order. Raises `DamagedDataError` for a damaged file.
    """
    import pandas

    return pandas.read_csv(verify("pairs") / "pairs.csv", keep_default_na=False)


def read_stories() -> list[list[str]]:
    """Return the course's own simple stories, each as the list of its sentences in order.

    Raises `DamagedDataError` for a damaged file.
    """
    text = (verify("stories") / "stories.txt").read_text(encoding="utf-8")
    return [story.splitlines() for story in text.strip().split("\n\n")]


def read_reviews() -> pandas.DataFrame:
    """Return the course's own short reviews as a table `id, text, label, phenomenon, group`.

    `label` is 1 where the reviewer recommends the thing and 0 where not; `phenomenon` says what carries the sentiment;
    reviews of one `group` are about the same thing, and belong into one split (`split_by_group`). Raises
    `DamagedDataError` for a damaged file.
    """
    import pandas

    return pandas.read_csv(verify("reviews") / "reviews.csv", keep_default_na=False)


def split_by_group(table: pandas.DataFrame) -> dict[str, pandas.DataFrame]:
    """Return `table` cut into `train` (half of the groups), `validation` (a tenth) and `test` (four tenths).

    No `group` is in two splits. Groups are dealt out at random (seed 0), stratified by label and phenomenon of their
    first row; the same rows come out on every machine. Raises `ValueError` for a table without a column it needs,
    or with fewer than ten groups of a kind.
    """
    from sklearn.model_selection import train_test_split

    missing = sorted({"group", "label", "phenomenon"} - set(table.columns))
    if missing:
        raise ValueError(f"the table has no column {missing}; a split by group needs it. It has {list(table.columns)}.")
    first = table.drop_duplicates("group").set_index("group")
    kinds = first["label"].astype(str) + " " + first["phenomenon"]
    counts = kinds.value_counts()
    if rare := sorted(counts.index[counts < 10]):
        raise ValueError(
            f"fewer than ten groups begin with {rare}; three splits need ten of each label and phenomenon."
        )
    train, rest = train_test_split(kinds, train_size=0.5, stratify=kinds, random_state=0)
    validation, test = train_test_split(rest, train_size=0.2, stratify=rest, random_state=0)
    parts = {"train": train, "validation": validation, "test": test}
    return {name: table[table["group"].isin(part.index)].reset_index(drop=True) for name, part in parts.items()}


def read_words() -> list[str]:
    """Return the course's word list: distinct words, common and rare, whole and made of many pieces.

    Raises `DamagedDataError` for a damaged file.
    """
    return (verify("words") / "words.txt").read_text(encoding="utf-8").splitlines()


def remedy(path: str) -> str:
    """Say how to get a shipped file back, for a checkout or for an installed package."""
    if (Path(__file__).resolve().parents[2] / ".git").exists():
        return f"Run `git checkout -- {path}` in the course's folder, or clone the course again."
    return f"Install the course again: `pip install --force-reinstall --no-deps git+{repository_address()}`."


def repository_address() -> str:
    """Return the course's address, which stands in `pyproject.toml` and travels with the installed package."""
    for url in importlib.metadata.metadata("inside-bert").get_all("Project-URL") or []:
        name, _, address = url.partition(", ")
        if name == "Repository":
            return address
    raise LookupError("the installed package carries no Repository address; see [project.urls] in pyproject.toml.")


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
