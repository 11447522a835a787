"""The texts that the embedded model is trained on: fetched, checked, read as documents of sentences, and split.

Nothing of these texts is in the repository. `read_documents` reads them from a folder, `fetch` fills such a folder from
where they are published, and each file is compared with a SHA-256 before it is read. A document belongs to the held-out
part by the hash of its name, so the split is the same for everyone and for every version of this script.

Usage: python tools/pretraining_text.py FOLDER   (fetches what FOLDER lacks, then counts what is there)
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import re
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NLTK = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/"
HELD_OUT = 20  # one document in twenty


@dataclass(frozen=True)
class Document:
    """One text: its source, its name within the source, and its sentences in order."""

    source: str
    name: str
    sentences: list[str]

    @property
    def held_out(self) -> bool:
        """Whether the document is kept away from training, decided by its name alone."""
        digest = hashlib.sha256(f"{self.source}/{self.name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT == 0


@dataclass(frozen=True)
class Source:
    """A file of texts: where it is published, the SHA-256 it must have, and the terms of what is in it."""

    file: str
    sha256: str
    terms: str

    @property
    def url(self) -> str:
        """Where NLTK publishes the file."""
        return NLTK + self.file


SOURCES = {
    "brown": Source(
        "brown.zip", "9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6",
        "Brown corpus (Francis and Kučera 1964), through NLTK; non-commercial",
    ),
    "masc": Source(
        "masc_tagged.zip", "678a5141cf3381bedb1839c58a330507337be07c7c71603279c0ef5337032304",
        "MASC, open American English (Ide et al. 2010), through NLTK; open",
    ),
    "state_union": Source(
        "state_union.zip", "366c1dc82b2abf896f42b2ec50ba802a0141a29f75d29ca48a7a243ce5bfbe8d",
        "State of the Union addresses, through NLTK; public domain",
    ),
    "inaugural": Source(
        "inaugural.zip", "7c5fb5793e31fbeae12bf1aa0ffda5336468f07cedb50654c6d31ca384e2046b",
        "Inaugural addresses, through NLTK; public domain",
    ),
    "abc": Source(
        "abc.zip", "129bb6001beb828049a90a59b7dd3c2f0594a47012e48fc5177dfae38e658565",
        "Australian Broadcasting Commission, rural and science news 2006, through NLTK",
    ),
    "movie_reviews": Source(
        "movie_reviews.zip", "a41211ae685019137410268134db6a1a14428c89b671eb83056151a878539008",
        "Film reviews (Pang and Lee 2004), through NLTK; research use",
    ),
}  # fmt: skip
WIKITEXT = {  # file: split of the data set Salesforce/wikitext, configuration wikitext-2-v1
    "wikitext2.valid.txt.gz": "validation",
    "wikitext2.test.txt.gz": "test",
}
WORDNET = "wordnet_glosses.txt.gz"
TEXT_SHA256 = {  # of the text within the gzip file
    "wikitext2.valid.txt.gz": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "wikitext2.test.txt.gz": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    WORDNET: "60eaafe547bc6c4476911a6d9d5fa0b4b9196b376b1238f11f9577991e684c5c",
}
TERMS = {name: source.terms for name, source in SOURCES.items()} | {
    "wikitext": "WikiText-2, validation and test parts (Merity et al. 2016); CC BY-SA",
    "wordnet": "WordNet 3 glosses and examples (Princeton University); WordNet licence",
}


def split_sentences(paragraph: str) -> list[str]:
    """Cut a paragraph after `.`, `!` or `?` where a capital letter, a digit or a quotation mark follows."""
    ends = r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b[MDS][rst]\.)(?<!\bMrs\.)([\"')\]]*) (?=[\"'(\[]*[A-Z0-9])"
    return [part for part in re.sub(ends, r"\1\n", " ".join(paragraph.split())).split("\n") if part]


def undo_tokenization(text: str) -> str:
    """Write a tokenized line as people write: quotation marks, contractions, WikiText's `@-@`, spaces before commas."""
    text = re.sub(r" @([-.,])@ ", r"\1", text)
    text = text.replace("``", '"').replace("''", '"').replace("-LRB-", "(").replace("-RRB-", ")")
    text = re.sub(r"(?i)\b(\w+) n't\b", r"\1n't", text)
    text = re.sub(r"(?i)(\w) ('(?:s|re|ve|ll|d|m)\b|')(?= )", r"\1\2", text)
    text = re.sub(r" ([,.;:!?)\]])", r"\1", text)
    return re.sub(r"([(\[]) ", r"\1", text).strip()


def _tagged(line: str, mark: str) -> str:
    return undo_tokenization(" ".join(token.rsplit(mark, 1)[0] for token in line.split()))


def _zip_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """The texts of a zip file in the order of their names, in memory: nothing is unpacked to disk."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith("/") or name.count("/") < 1:
                continue
            yield name.split("/", 1)[1], archive.read(name).decode("utf-8", errors="replace")


def _paragraph_document(source: str, name: str, text: str) -> Document:
    return Document(source, name, [s for line in text.splitlines() for s in split_sentences(line)])


def _brown(data: bytes) -> Iterator[Document]:
    for name, text in _zip_texts(data):
        if re.fullmatch(r"c[a-r]\d\d", name):
            yield Document("brown", name, [_tagged(line, "/") for line in text.splitlines() if line.strip()])


def _masc(data: bytes) -> Iterator[Document]:
    for name, text in _zip_texts(data):
        if name.endswith(".txt") and name != "categories.txt":
            yield Document("masc", name, [_tagged(line, "_") for line in text.splitlines() if line.strip()])


def _plain(source: str, data: bytes) -> Iterator[Document]:
    for name, text in _zip_texts(data):
        if name.endswith(".txt"):
            yield _paragraph_document(source, name, text)


def _abc(data: bytes) -> Iterator[Document]:
    for name, text in _zip_texts(data):
        if name.endswith(".txt"):
            for number, item in enumerate(re.split(r"\n\s*\n", text)):  # a blank line stands between two items
                yield _paragraph_document("abc", f"{name}/{number}", item)


def _movie_reviews(data: bytes) -> Iterator[Document]:
    for name, text in _zip_texts(data):
        if name.endswith(".txt"):
            lines = [undo_tokenization(line) for line in text.splitlines() if line.strip()]
            yield Document("movie_reviews", name, lines)


def _wikitext(text: str, part: str) -> Iterator[Document]:
    for number, article in enumerate(re.split(r"(?m)^ = (?!=).* = $", text)):
        lines = (line.strip() for line in article.splitlines())
        sentences = [s for line in lines if line and not line.startswith("=") for s in split_sentences(line)]
        kept = [undo_tokenization(s) for s in sentences if "<unk>" not in s]  # a sentence with a hole is left out
        yield Document("wikitext", f"{part}/{number}", kept)


def _wordnet(text: str) -> Iterator[Document]:
    for number, line in enumerate(text.splitlines()):
        yield Document("wordnet", str(number), [part.strip() for part in line.split("\t") if part.strip()])


def _found(folder: Path, file: str) -> Path | None:
    """The file in the folder, or in the folder `real` beside it."""
    return next((path for path in (folder / file, folder.parent / "real" / file) if path.is_file()), None)


def read_documents(folder: str | Path) -> list[Document]:
    """Read all documents of at least two sentences (WordNet: one) from `folder`, in an order that never changes.

    Raises `FileNotFoundError` for a file that is missing and `ValueError` for one whose checksum is wrong.
    """
    folder, documents = Path(folder), []
    readers = {
        "brown": _brown, "masc": _masc, "abc": _abc, "movie_reviews": _movie_reviews,
        "state_union": lambda data: _plain("state_union", data), "inaugural": lambda data: _plain("inaugural", data),
    }  # fmt: skip
    for name, source in SOURCES.items():
        path = _found(folder, source.file)
        if path is None:
            raise FileNotFoundError(
                f"{folder / source.file} is missing: fetch it with `python tools/pretraining_text.py {folder}`"
            )
        data = path.read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != source.sha256:
            raise ValueError(
                f"{path} is not the file that this was written for (SHA-256 {found}); delete it and fetch it again"
            )
        documents += readers[name](data)
    for file, part in WIKITEXT.items():
        documents += _wikitext(_gunzip(folder, file), part)
    documents += _wordnet(_gunzip(folder, WORDNET))
    return [d for d in documents if len(d.sentences) >= (1 if d.source == "wordnet" else 2)]


def _gunzip(folder: Path, file: str) -> str:
    path = _found(folder, file)
    if path is None:
        raise FileNotFoundError(
            f"{folder / file} is missing: fetch it with `python tools/pretraining_text.py {folder}`"
        )
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (EOFError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and fetch it again") from error
    _check_text(path, text)
    return text


def fetch(folder: str | Path) -> None:
    """Fetch into `folder` what it lacks: NLTK's packages by address, WikiText-2 from the Hugging Face hub.

    A file is put in its place when it is whole and its checksum is right, so a cut leaves nothing half-done behind.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES.values():
        if _found(folder, source.file) is None:
            _put(folder / source.file, _download(source.url), source.sha256)
    for file, part in WIKITEXT.items():
        if _found(folder, file) is None:
            from datasets import load_dataset

            lines = load_dataset("Salesforce/wikitext", "wikitext-2-v1", split=part)["text"]
            _put_text(folder / file, "".join(lines))
    if _found(folder, WORDNET) is None:
        _put_text(folder / WORDNET, "\n".join(wordnet_lines(_download(NLTK + "wordnet.zip"))))


def _put(path: Path, data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"what was fetched for {path.name} is not what this script was written for")
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def _put_text(path: Path, text: str) -> None:
    """Write a text gzipped; its checksum is that of the text, since gzip has several ways to say the same."""
    data = gzip.compress(text.encode("utf-8"), mtime=0)
    _check_text(path, text)
    _put(path, data, hashlib.sha256(data).hexdigest())


def _check_text(path: Path, text: str) -> None:
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    if digest != TEXT_SHA256[path.name]:
        raise ValueError(
            f"{path} does not hold the text that this was written for (SHA-256 of the text {digest}); "
            "with another text, documents would change between the training and the held-out part"
        )


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def wordnet_lines(archive: bytes) -> list[str]:
    """One line a synset of NLTK's `wordnet.zip`: a sentence made of lemma and gloss, then its examples, by tabs."""
    lines = []
    texts = {name.rsplit("/", 1)[-1]: text for name, text in _zip_texts(archive)}
    for part in ("noun", "verb", "adj", "adv"):
        for record in texts[f"data.{part}"].splitlines():
            if record.startswith("  ") or " | " not in record:
                continue  # the licence at the head of the file
            fields, gloss = record.split(" | ", 1)
            lemma = fields.split()[4].replace("_", " ").split("(")[0]
            examples = re.findall(r'"([^"]+)"', gloss)
            meaning = re.sub(r'"[^"]*"', "", gloss).strip(" ;")
            sentence = f"{lemma} is {meaning}." if part == "noun" else f"{lemma} : {meaning}."
            lines.append("\t".join([sentence, *(example.strip() + "." for example in examples)]))
    return lines


FUNCTION_WORDS = frozenset(
    """a about above after again against all almost along already also although always am among an and another any
    are around as at away be became because become been before began behind being below between both but by can could
    did do does doing done down during each either else enough even ever every few first for from further get had
    has have having he her here hers herself him himself his how however i if in into is it its itself just last
    least less let made make many may me might mine more most much must my myself near neither never next no nobody
    none nor not nothing now of off often on once one only onto or other others our ours ourselves out over own per
    perhaps quite rather same several shall she should since so some somebody something still such than that the
    their theirs them themselves then there these they this those though three through thus till to together too
    toward towards two under until up upon us very was we well were what whatever when where whether which while who
    whole whom whose why will with within without would yes yet you your yours yourself s t d ll m re ve don didn
    doesn isn wasn weren won wouldn couldn shouldn hasn haven hadn aren ain""".split()  # noqa: SIM905
)


def kind_of_word(token: str) -> str:
    """`content`, `function`, `number`, `subword` (a piece that continues a word) or `punctuation`."""
    if token.startswith("##"):
        return "subword"
    if any(c.isdigit() for c in token):
        return "number"
    if not any(c.isalpha() for c in token):
        return "punctuation"
    return "function" if token in FUNCTION_WORDS else "content"


def sample(items: list, count: int, seed: int) -> list:
    """`count` items without replacement, in their own order, the same for the same seed."""
    chosen = sorted(random.Random(seed).sample(range(len(items)), min(count, len(items))))
    return [items[i] for i in chosen]


def main() -> None:
    """Fetch what the folder lacks and count what is there."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    fetch(folder)
    documents = read_documents(folder)
    print(f"{'source':<15} {'documents':>9} {'held out':>9} {'words':>10}")
    for name in TERMS:
        own = [d for d in documents if d.source == name]
        words = sum(len(s.split()) for d in own for s in d.sentences)
        print(f"{name:<15} {len(own):>9,} {sum(d.held_out for d in own):>9,} {words:>10,}")


if __name__ == "__main__":
    main()
