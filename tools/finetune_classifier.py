"""Fine-tune a classifier on one process or on several: GPUs, machines, or, as the test does, two CPU processes.

    python tools/finetune_classifier.py --out runs/reviews
    accelerate launch --num_processes 2 --multi_gpu tools/finetune_classifier.py --out runs/reviews

A batch is split between the processes, and the gradients of its parts are averaged, so without dropout the losses are
those of one process up to rounding. (`accelerate launch --cpu --num_processes 2` needs `mpirun` to start more than one
process; `--multi_gpu` starts them with torch alone, and this script runs them on what there is, GPUs or CPUs.)

Reads a CSV with the columns `text` and `label`, by default the training split of `data/reviews`; writes the model, its
tokenizer and `losses.json` to `--out`. Touches no network.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import pandas
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)

from inside_bert import data_folder, read_reviews, split_by_group
from inside_bert.finetuning import Recipe, length_groups, make_optimizer


def read_examples(path: Path | None) -> tuple[list[str], list[int]]:
    """Return texts and labels of a CSV; exits with what is wrong where there is no such file, column or class."""
    if path is not None and not path.is_file():
        sys.exit(f"{path} is not there; name a CSV with the columns text and label.")
    if path is None:
        table = split_by_group(read_reviews())["train"]
    else:
        table = pandas.read_csv(path, keep_default_na=False)
    missing = {"text", "label"} - set(table.columns)
    if missing:
        sys.exit(f"{path}: the column {sorted(missing)} is missing; there are {sorted(table.columns)}.")
    labels = pandas.to_numeric(table["label"], errors="coerce")
    wrong = table["label"][~labels.isin(list(range(len(labels))))]
    if len(wrong):
        sys.exit(
            f"{path}: {len(wrong)} of {len(labels)} labels are no whole numbers from 0 on, such as {wrong.iloc[0]!r}; "
            "number the classes 0, 1, 2."
        )
    if labels.nunique() < 2:
        sys.exit(f"{path}: there are {labels.nunique()} different labels; a classifier needs two or more.")
    return table["text"].tolist(), labels.astype(int).tolist()


def epoch_batches(examples: list[dict], recipe: Recipe, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch as indices; the last one, which may be smaller, is left out."""
    chance = random.Random(f"{recipe.seed}-{epoch}")
    batches = length_groups([len(example["input_ids"]) for example in examples], recipe.batch_size, chance)
    return [batch for batch in batches if len(batch) == recipe.batch_size]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the result")
    parser.add_argument("--data", type=Path, help="a CSV with the columns text and label (default: data/reviews)")
    parser.add_argument("--checkpoint", default=None, help="folder or hub name (default: the embedded model)")
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--batch-size", type=int, default=Recipe.batch_size, help="of all processes together")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args(arguments)
    recipe = Recipe(rate=args.rate, batch_size=args.batch_size, epochs=args.epochs)
    checkpoint = args.checkpoint or str(data_folder() / "models" / "embedded-bert")

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if args.batch_size % accelerator.num_processes:
        sys.exit(f"a batch of {args.batch_size} cannot be split between {accelerator.num_processes} processes.")
    set_seed(recipe.seed)
    texts, labels = read_examples(args.data)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = BertForSequenceClassification.from_pretrained(
        checkpoint, num_labels=max(labels) + 1, dtype=torch.float32,
        hidden_dropout_prob=args.dropout, attention_probs_dropout_prob=args.dropout,
    )  # fmt: skip
    encoded = tokenizer(texts, truncation=True, max_length=recipe.max_length)["input_ids"]
    examples = [{"input_ids": ids, "labels": label} for ids, label in zip(encoded, labels, strict=True)]
    steps = len(epoch_batches(examples, recipe, 0)) * recipe.epochs
    if not steps:
        sys.exit(f"{len(examples)} examples do not fill one batch of {recipe.batch_size}.")
    args.out.mkdir(parents=True, exist_ok=True)  # before the work: a folder that cannot be made must not cost it
    set_seed(recipe.seed, device_specific=True)  # each process drops others
    optimizer = make_optimizer(model, recipe)
    schedule = get_linear_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)
    model, optimizer = accelerator.prepare(model, optimizer)
    collate = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)
    share = recipe.batch_size // accelerator.num_processes
    mine = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    losses: list[float] = []
    model.train()
    for epoch in range(recipe.epochs):
        began = len(losses)
        parts = [batch[mine] for batch in epoch_batches(examples, recipe, epoch)]
        for batch in DataLoader(examples, batch_sampler=parts, collate_fn=collate):
            loss = model(**batch.to(accelerator.device)).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step(), schedule.step(), optimizer.zero_grad()
            losses.append(float(accelerator.reduce(loss.detach(), "mean")))
            if args.steps and len(losses) >= args.steps:
                break
        accelerator.print(f"epoch {epoch + 1}: loss {sum(losses[began:]) / len(losses[began:]):.4f}")
        if args.steps and len(losses) >= args.steps:
            break
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)
        report = {"processes": accelerator.num_processes, "losses": losses}
        (args.out / "losses.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    sys.exit(main())
