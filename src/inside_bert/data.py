"""The files that the course carries: where they are, whether they are whole, and how to read them.

Reads only `data/` (of the checkout, or of the installed package); never writes, never touches the network.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import os
import zlib
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


def read_questions(split: str | None = None) -> pandas.DataFrame:
    """Return the course's own passages with questions as `read_squad` does; `split` keeps one of the three.

    There are `train`, `validation` and `test`; no passage is in two of them, and a column `split` says in which it is.
    `form` says what kind of text a passage is. Raises `ValueError` for another split, and `DamagedDataError` for a
    damaged file.
    """
    import pandas

    names = ("train", "validation", "test")
    if split not in (None, *names):
        raise ValueError(f"there is no split {split!r}; there are {', '.join(names)}.")
    folder = verify("qa", required=[f"{name}.json" for name in names])
    tables = [read_squad(folder / f"{name}.json").assign(split=name) for name in names if split in (None, name)]
    return pandas.concat(tables, ignore_index=True)


def read_scenes() -> pandas.DataFrame:
    """Return the simulated scenes of `data/movement` as a table, a row a scene, indexed by `scene`.

    `path` is the file of detections; `rate` is in frames/s, `width`, `height` and `focal` (the focal length) in pixels,
    `camera_height` in metres over the ground, `tilt` in degrees downwards. A scene is in one `split`. Raises
    `DamagedDataError` for a damaged file.
    """
    import pandas

    folder = verify("movement", required=["scenes.csv"])
    verify("movement/scenes")
    table = pandas.read_csv(folder / "scenes.csv", dtype={"scene": str}).set_index("scene")
    return table.assign(path=[folder / name for name in table.pop("file")])


def read_behaviours() -> pandas.DataFrame:
    """Return the truth about the tracks in the scenes of `read_scenes`, a row a track.

    `scene` and `track` say which one; `person` whose it is (0: no person), `share` the part of its boxes that are that
    person's, `first` and `last` its frames; `behaviour` what can be seen of the person in these frames, "" where a
    track is shorter than 2.5 s, mixed from several people, or of no person; `speed` the person's median in m/s and
    `stature` in m. Raises `DamagedDataError` for a damaged file.
    """
    import pandas

    table = pandas.read_csv(verify("movement") / "tracks.csv", dtype={"scene": str, "behaviour": str})
    return table.fillna({"behaviour": "", "person": 0}).astype({"person": int})


def read_squad(path: str | os.PathLike) -> pandas.DataFrame:
    """Return a JSON file (or a `.json.gz`) in the layout of SQuAD 1.1 or 2.0 as a table with one row a question.

    Columns: `id, title, form, context, question, answers, plausible`. `answers` is a dict with the lists `text` and
    `answer_start` (characters of the context), as on the Hugging Face hub; both are empty for a question without an
    answer (Rajpurkar et al. 2018). `form` and `plausible`, wrong answers that come to mind, are empty where the file
    has none. Raises `ValueError` that names the place of what is missing, empty or wrong, such as an answer that does
    not stand at its `answer_start`.
    """
    import pandas

    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            content = json.load(file)
    except (UnicodeDecodeError, json.JSONDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is not a whole JSON file ({type(error).__name__}: {error}).") from None
    articles, rows = _field(content, "data", list, str(path)), []
    for a, article in enumerate(articles):
        for p, paragraph in enumerate(_field(article, "paragraphs", list, f"{path}: article {a}")):
            place = f"{path}: article {a}, paragraph {p}"
            context = _field(paragraph, "context", str, place)
            for q, qa in enumerate(_field(paragraph, "qas", list, place)):
                rows.append(_question(qa, context, f"{place}, question {q}") | {
                    "title": article.get("title", ""), "form": article.get("form", ""), "context": context,
                })  # fmt: skip
    columns = ["id", "title", "form", "context", "question", "answers", "plausible"]
    if not rows:
        raise ValueError(f"{path} holds no questions.")
    return pandas.DataFrame(rows, columns=columns)


def _question(qa: dict, context: str, place: str) -> dict:
    found, question = {"text": [], "answer_start": []}, _field(qa, "question", str, place)
    for answer in [] if qa.get("is_impossible", False) else _field(qa, "answers", list, place):
        text, start = _field(answer, "text", str, place), _field(answer, "answer_start", int, place)
        if not text.strip() or start < 0 or context[start : start + len(text)] != text:
            raise ValueError(
                f"{place}: the answer {text!r:.60} does not stand at character {start}; there stands "
                f"{context[start : start + len(text)]!r:.60}."
            )
        found["text"].append(text), found["answer_start"].append(start)
    if not question.strip() or not context.strip():
        raise ValueError(f"{place}: the {'context' if question.strip() else 'question'} is empty.")
    plausible = [_field(answer, "text", str, place) for answer in qa.get("plausible_answers") or []]
    return {"id": _field(qa, "id", str, place), "question": question, "answers": found, "plausible": plausible}


def _field(record: dict, name: str, kind: type, place: str):
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{place}: {name!r} has to be of type {kind.__name__}, not {value!r:.40}.")
    return value


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
