"""Write `data/qa/cases.csv`: 30 tricky guesses with exact match and F1 as SQuAD 2.0's own rules give them.

    python tools/score_answer_cases.py [--out FILE]

Needs a transformers that still carries the rules of the official script as `transformers.data.metrics.squad_metrics`
(5.15 does, 5.23 no longer): `.venv-colab/bin/python` after `make test-colab`, which compares them with the stored
ones. The scores are that module's, not ours. Writes that one file; touches no network.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

CASES = [  # guess, references: with " || " between them, empty for a question without an answer
    ("Ilse Brandt", "Ilse Brandt"),
    ("ilse brandt", "Ilse Brandt"),
    ("Brandt", "Ilse Brandt"),
    ("the watchmaker Ilse Brandt", "Ilse Brandt"),
    ("Ilse Brandt.", "Ilse Brandt"),
    ("U.S.", "US"),
    ("the U.S. Navy", "U.S. Navy || Navy of the United States"),
    ("cafe", "café"),
    ("CAFÉ", "café"),
    ("1,400", "1400"),
    ("1.5 metres", "15 metres"),
    ("€40", "40"),
    ("twelve", "12 || twelve"),
    ("7 a.m.", "7 am"),
    ("an A-frame", "A-frame"),
    ("vitamin A", "vitamin"),
    ("a", "the"),
    ("the", ""),
    ("", ""),
    ("", "Ilse Brandt"),
    ("Ilse Brandt", ""),
    ("!", "the || Verel"),
    ("to keep the wind out", "to keep out the wind"),
    ("new new york", "new york"),
    ("new york", "new new york new"),
    ("well-known", "well known"),
    ("wellknown", "well-known"),
    ("Zoë  O'Neill", "Zoë O’Neill"),
    ("in 2019", "2019 || the year 2019"),
    ("for nine years, until 2019", "nine years || 2019"),
]


def main() -> None:
    from transformers.data.metrics.squad_metrics import compute_exact, compute_f1, normalize_answer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "data" / "qa" / "cases.csv")
    path = parser.parse_args().out
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["guess", "references", "exact", "f1"])
        for guess, text in CASES:
            references = [part for part in text.split(" || ") if normalize_answer(part)] or [""]
            exact = float(max(compute_exact(reference, guess) for reference in references))
            writer.writerow([guess, text, exact, float(max(compute_f1(reference, guess) for reference in references))])
    print(f"{len(CASES)} cases in {path}")


if __name__ == "__main__":
    main()
