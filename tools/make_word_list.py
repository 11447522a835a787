"""Make data/words/words.txt: distinct words on which a WordPiece tokenizer can be tried.

Three sources, all of this project: the words of data/texts, words built from stems and affixes (English makes words
that way, and so most of them exist), and a handful of awkward ones written out below. Run again, it gives the same
file. Usage: python tools/make_word_list.py
"""

from __future__ import annotations

import csv
import re
import unicodedata
from itertools import product
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
PREFIXES = ("", "un", "re", "over", "mis", "anti")
STEMS = (
    "happi", "think", "read", "write", "token", "attend", "train", "mask", "predict", "embed",
    "walk", "run", "stand", "detect", "frame", "friend", "care", "help", "hope", "govern",
    "compute", "measure", "classify", "translate", "learn", "teach", "colour", "light", "play", "work",
)  # fmt: skip
SUFFIXES = ("", "s", "ed", "ing", "er", "able", "ness", "less", "ful", "ization", "ment")
AWKWARD = (
    "unhappiness", "antidisestablishmentarianism", "pneumonoultramicroscopicsilicovolcanoconiosis", "rhythm",
    "transformers", "bert", "wordpiece", "tokenization", "softmax", "perambulator", "zyzzyva", "xylophonists",
    "1", "42", "1984", "2026", "31415926535", "0x7f", "utf8", "mp3", "covid19", "b2b",
    "pergi", "pasar", "membeli", "buah", "terima", "kasih", "selamat", "berjalan", "berlari", "mempertanggungjawabkan",
    "strassenbahn", "donaudampfschifffahrt", "naive", "cafe", "uber", "ærø", "łódź", "straße", "привет", "ελλάδα",
    "שלום", "سلام", "日", "本", "你", "好", "한국어", "ไทย",
    "😀", "👍🏽", "❤", "→", "½", "ﬁ", "µ", "€", "#", "##", "##ing",
    "a" * 100, "a" * 101, "supercalifragilistic" * 5, "supercalifragilistic" * 6,
)  # fmt: skip


def words() -> list[str]:
    with open(DATA / "texts" / "texts.csv", encoding="utf-8", newline="") as file:
        text = " ".join(row["text"] for row in csv.DictReader(file))
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    found = re.findall(r"\w+", plain.lower())  # as BERT sees them: lower case, without accents
    built = ["".join(parts) for parts in product(PREFIXES, STEMS, SUFFIXES)]
    return sorted({*found, *built, *AWKWARD})


if __name__ == "__main__":
    target = DATA / "words" / "words.txt"
    made = words()
    target.write_text("\n".join(made) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(made)} words in {target.relative_to(DATA.parent)}")
