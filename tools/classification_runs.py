"""Runs that lesson 05 compares and has no time to make: `data/runs/grid.csv` and `data/runs/seeds.csv`.

    python tools/classification_runs.py          # about 15 minutes on two cores

`grid.csv`: learning rate × batch size × epochs, one run each, every epoch a row, judged on the validation split; it
continues where it was cut. `seeds.csv`: the recipe of the lesson with three seeds, judged on the test split. Both train
on the training split of `data/reviews` from the embedded checkpoint. Reads only `data/`, writes only `data/runs/`;
touches no network.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import pandas
import torch
from sklearn.metrics import f1_score
from transformers import AutoTokenizer, BertForSequenceClassification

from inside_bert import Recipe, data_folder, fast_dtype, fine_tune, predict, read_reviews, split_by_group

RATES = (1e-5, 5e-5, 2e-4, 1e-3)
BATCH_SIZES = (16, 64)
EPOCHS = (1, 3)
SEEDS = (0, 1, 2)
DIGITS = {"train_loss": 4, "seconds": 1, "validation_loss": 4, "validation_accuracy": 4}
LESSON = Recipe(rate=1e-4, epochs=2)
CPU = torch.device("cpu")


def classifier(checkpoint: str, seed: int):
    """The lesson's classifier: no dropout, word embeddings not trained."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification.from_pretrained(
        checkpoint, num_labels=2, dtype=torch.float32, attn_implementation="eager",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model.bert.embeddings.word_embeddings.requires_grad_(False)
    return model


def texts_and_labels(table: pandas.DataFrame) -> tuple[list[str], list[int]]:
    return table["text"].tolist(), table["label"].tolist()


def main() -> int:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    checkpoint = str(data_folder() / "models" / "embedded-bert")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    splits = {name: texts_and_labels(table) for name, table in split_by_group(read_reviews()).items()}
    folder, dtype = data_folder() / "runs", fast_dtype(CPU)
    folder.mkdir(exist_ok=True)
    print(f"{len(splits['train'][0])} training reviews, {dtype}, {torch.get_num_threads()} threads", flush=True)

    path = folder / "grid.csv"
    done = pandas.read_csv(path) if path.exists() else pandas.DataFrame(columns=["rate", "batch_size", "epochs"])
    for rate, batch_size, epochs in itertools.product(RATES, BATCH_SIZES, EPOCHS):
        if len(done.query("rate == @rate and batch_size == @batch_size and epochs == @epochs")):
            continue
        recipe = Recipe(rate=rate, batch_size=batch_size, epochs=epochs, patience=epochs)
        model = classifier(checkpoint, seed=0)
        history = fine_tune(model, tokenizer, splits["train"], splits["validation"], recipe, dtype=dtype)
        rows = [{"rate": rate, "batch_size": batch_size, "epochs": epochs} | row for row in history]
        done = pandas.concat([done, pandas.DataFrame(rows)], ignore_index=True)
        done.round(DIGITS).to_csv(path, index=False)  # all columns at once would round a rate of 1e-5 to 0
        print(rows[-1], flush=True)

    rows = []
    for seed in SEEDS:
        model = classifier(checkpoint, seed)
        recipe = replace(LESSON, seed=seed)
        fine_tune(model, tokenizer, splits["train"], splits["validation"], recipe, dtype=dtype)
        truth = splits["test"][1]
        guess = predict(model, tokenizer, splits["test"][0], dtype=dtype).argmax(dim=-1).tolist()
        right = sum(a == b for a, b in zip(guess, truth, strict=True))
        rows.append({"seed": seed, "n": len(truth), "accuracy": right / len(truth),
                     "macro_f1": f1_score(truth, guess, average="macro")})  # fmt: skip
        print(rows[-1], flush=True)
    pandas.DataFrame(rows).round(4).to_csv(folder / "seeds.csv", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
