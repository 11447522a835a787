"""The model card says what is measured: its tables are made again, and the claims of the course about it hold."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from inside_bert import data_folder

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "ways"))
from card import MODEL, lines_not_in_card

TEXT = ROOT.parent / "shared" / "text"
CARD = (MODEL / "README.md").read_text(encoding="utf-8")


def probes():
    with open(ROOT / "tests" / "probes.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_probes_can_be_answered_and_give_nothing_away():
    tokenizer = AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")
    assert len(probes()) == 20
    for probe in probes():
        words = set(tokenizer.tokenize(probe["text"]))
        answers = probe["sensible"].split("|")
        assert probe["text"].count("[MASK]") == 1 and len(set(answers)) == len(answers)
        for answer in answers:
            assert tokenizer.tokenize(answer) == [answer], f"{answer} is no single token"
            assert answer not in words, f"{answer} stands in: {probe['text']}"


def test_everyday_sentences_stand_in_the_card_as_they_are_measured():
    count, missing = lines_not_in_card("--only", "probes")
    assert count >= 22 and not missing


@pytest.mark.skipif(not TEXT.is_dir(), reason="the texts of the training are not here (tools/pretraining_text.py)")
def test_copying_stands_in_the_card_as_it_is_measured():  # the rest takes minutes: `make test-card`
    count, missing = lines_not_in_card("--only", "copying", "--text", str(TEXT))
    assert count >= 7 and not missing


def test_the_card_names_every_text_and_its_terms():
    sys.path.insert(0, str(ROOT / "tools"))
    from pretraining_text import SOURCES, TERMS

    assert set(SOURCES) < set(TERMS)
    for terms in TERMS.values():
        assert re.sub(r"\s+", " ", terms) in CARD


def test_the_log_is_the_one_of_the_card():
    with open(MODEL / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    tokens = [int(row["tokens"]) for row in rows]
    assert tokens == sorted(tokens)
    assert f"{tokens[-1] / 1e6:.1f} million tokens" in CARD
