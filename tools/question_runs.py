"""Runs that lesson 06 has no time to make: `data/runs/qa_seeds.csv` and `data/runs/qa_answers.csv`.

    python tools/question_runs.py | tee data/runs/qa_log.txt          # about 8 minutes on two cores

`qa_seeds.csv`: the lesson's recipe with three seeds, judged on the answerable test questions of `data/qa`, and over all
of them with the threshold that is best on the validation split. `qa_answers.csv`: what seed 0 answers to each test
question. Trains from the embedded checkpoint. Then run `tools/write_checksums.py`. Reads only `data/`, writes only
`data/runs/`; touches no network.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas
import torch
from transformers import AutoTokenizer, BertForQuestionAnswering

from inside_bert import (
    Recipe,
    answer_f1,
    answer_span,
    data_folder,
    exact_match,
    fast_dtype,
    fine_tune_spans,
    make_windows,
    predict_spans,
    read_questions,
)

SEEDS = (0, 1, 2)
LESSON = Recipe(rate=2e-4, batch_size=8, epochs=2)
WINDOW = {"max_length": 256, "stride": 64}
VALIDATED = 60  # windows of the validation split


def pointer(checkpoint: str, seed: int):
    """The lesson's model: no dropout, embeddings and the two lowest layers not trained, a random head."""
    torch.manual_seed(seed)
    model = BertForQuestionAnswering.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    for part in (model.bert.embeddings, *model.bert.encoder.layer[:2]):
        part.requires_grad_(False)
    return model


def judged(model, tokenizer, table: pandas.DataFrame, dtype) -> pandas.DataFrame:
    """Return id, answer and its first character, margin and scores of the best span of each question."""
    found = predict_spans(
        model, tokenizer, table["question"].tolist(), table["context"].tolist(), dtype=dtype, **WINDOW
    )
    best = [prediction.spans[0] for prediction in found]
    references = [answers["text"] for answers in table["answers"]]
    return pandas.DataFrame({
        "id": table["id"], "answer": [span.text for span in best], "start": [span.start for span in best],
        "margin": [prediction.margin for prediction in found],
        "answerable": [bool(texts) for texts in references],
        "em": [exact_match(span.text, texts) for span, texts in zip(best, references)],
        "f1": [answer_f1(span.text, texts) for span, texts in zip(best, references)],
    })  # fmt: skip


def overall(table: pandas.DataFrame, threshold: float) -> float:
    """Return the mean F1 over all questions if those with a margin below `threshold` are declined."""
    declined = table["margin"] < threshold
    return float(np.where(declined, ~table["answerable"], table["f1"]).mean())


def main() -> int:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    checkpoint = str(data_folder() / "models" / "embedded-bert")
    tokenizer, dtype = AutoTokenizer.from_pretrained(checkpoint), fast_dtype(torch.device("cpu"))
    train, validation, test = (read_questions(name) for name in ("train", "validation", "test"))
    windows, known_windows = (
        make_windows(tokenizer, table["question"], table["context"], table["answers"].map(answer_span), **WINDOW)
        for table in (train, validation)
    )
    print(f"{len(train)} training questions, {len(windows)} windows, {dtype}", flush=True)
    rows = []
    for seed in SEEDS:
        model = pointer(checkpoint, seed)
        recipe = replace(LESSON, seed=seed)
        history = fine_tune_spans(model, tokenizer, windows, known_windows[:VALIDATED], recipe, dtype=dtype)
        model.set_attn_implementation("sdpa")
        known, found = (judged(model, tokenizer, table, dtype) for table in (validation, test))
        levels = [float("-inf"), *sorted(known["margin"]), float("inf")]
        threshold = max(levels, key=lambda level: overall(known, level))
        answerable = found[found["answerable"]]
        rows.append({
            "seed": seed, "n": len(answerable), "em": answerable["em"].mean(), "f1": answerable["f1"].mean(),
            "n of all": len(found), "f1 of all, answers everything": overall(found, float("-inf")),
            "f1 of all, may decline": overall(found, threshold),
        })  # fmt: skip
        losses = [round(row["validation_loss"], 3) for row in history]
        print({name: round(float(value), 4) for name, value in rows[-1].items()}, losses, flush=True)
        if seed == SEEDS[0]:
            found.round({"margin": 2, "f1": 4}).to_csv(
                data_folder() / "runs" / "qa_answers.csv", index=False, lineterminator="\n"
            )
    pandas.DataFrame(rows).round(4).to_csv(data_folder() / "runs" / "qa_seeds.csv", index=False, lineterminator="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
