"""Question answering on real passages: `benchmarks/qa_real.json`, and its part of `benchmarks/README.md`.

    python benchmarks/qa_real.py choose            # one change at a time, judged on two articles; about 20 minutes
    python benchmarks/qa_real.py final report      # three seeds, judged on two others; about 12 minutes

Reads 1,612 questions of SQuAD 1.1 on seven Wikipedia articles (`--squad FILE`, any file in that layout). Split by
article: settings are chosen on two of them, the final figure comes from two others. Trains from the embedded
checkpoint; touches no network; writes `qa_real.json` beside this file, after each way, and goes on where it was cut.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas
import torch
import transformers
from report import markdown_table, write_part
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
    read_squad,
)

HERE = Path(__file__).resolve().parent
REAL = HERE.parents[1] / "shared" / "real" / "squad_mini.json.gz"
FOUND = HERE / "qa_real.json"
TEST = ("University_of_Notre_Dame", "Victoria_(Australia)")
CHOOSE = ("Normans", "Southern_California")
WINDOW = {"max_length": 256, "stride": 64}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Way:
    """One way to train: a recipe, and what is changed about the model, the data or their order."""

    recipe: Recipe = field(default_factory=lambda: Recipe(rate=2e-4, batch_size=8, epochs=3))
    dropout: float = 0.0
    frozen_layers: int = 0
    fresh_layers: int = 0  # highest encoder layers that start at random again (Zhang et al. 2021)
    warm_start: bool = False  # an epoch on data/qa first
    mixed: bool = False  # data/qa and SQuAD shuffled together
    short_first: bool = False  # the shorter half of the windows for an epoch, and then all of them


BASE = Way()
WAYS = {
    "base": BASE,
    "rate 1e-4": replace(BASE, recipe=replace(BASE.recipe, rate=1e-4)),
    "rate 3e-4": replace(BASE, recipe=replace(BASE.recipe, rate=3e-4)),
    "batches of 16": replace(BASE, recipe=replace(BASE.recipe, batch_size=16)),
    "2 epochs": replace(BASE, recipe=replace(BASE.recipe, epochs=2)),
    "5 epochs": replace(BASE, recipe=replace(BASE.recipe, epochs=5)),
    "dropout 0.1": replace(BASE, dropout=0.1),
    "two lowest layers frozen": replace(BASE, frozen_layers=2),
    "highest layer at random": replace(BASE, fresh_layers=1),
    "short windows first": replace(BASE, short_first=True),
    "warm start from data/qa": replace(BASE, warm_start=True),
    "mixed with data/qa": replace(BASE, mixed=True),
}
FINAL = "warm start from data/qa"


class Bench:
    """Tokenizer, data and number type, read once."""

    def __init__(self, path: Path) -> None:
        self.checkpoint = str(data_folder() / "models" / "embedded-bert")
        self.tokenizer = AutoTokenizer.from_pretrained(self.checkpoint)
        self.dtype = fast_dtype(torch.device("cpu"))
        table = read_squad(path)
        missing = {*TEST, *CHOOSE} - set(table["title"])
        if missing:
            raise ValueError(f"{path} has no article {sorted(missing)}; the split is by these titles.")
        self.test, self.choose = (
            table[table["title"].isin(titles)].reset_index(drop=True) for titles in (TEST, CHOOSE)
        )
        self.rest = table[~table["title"].isin([*TEST, *CHOOSE])].reset_index(drop=True)
        self.own = read_questions()

    def windows(self, table: pandas.DataFrame) -> list:
        spans = table["answers"].map(answer_span)
        return make_windows(self.tokenizer, table["question"], table["context"], spans, **WINDOW)

    def train(self, way: Way, table: pandas.DataFrame, seed: int):
        torch.manual_seed(seed)
        model = BertForQuestionAnswering.from_pretrained(
            self.checkpoint, dtype=torch.float32, attn_implementation="eager",
            hidden_dropout_prob=way.dropout, attention_probs_dropout_prob=way.dropout,
        )  # fmt: skip
        for part in (model.bert.embeddings, *model.bert.encoder.layer[: way.frozen_layers]):
            part.requires_grad_(False)
        for layer in model.bert.encoder.layer[len(model.bert.encoder.layer) - way.fresh_layers :]:
            layer.apply(start_anew)
        recipe = replace(way.recipe, seed=seed)
        windows = self.windows(table)
        if way.warm_start:
            once = replace(recipe, epochs=1)
            fine_tune_spans(model, self.tokenizer, self.windows(self.own), recipe=once, dtype=self.dtype)
        if way.mixed:
            windows = windows + self.windows(self.own)
        if way.short_first:
            short = sorted(windows, key=lambda window: len(window.input_ids))[: len(windows) // 2]
            fine_tune_spans(model, self.tokenizer, short, recipe=replace(recipe, epochs=1), dtype=self.dtype)
        fine_tune_spans(model, self.tokenizer, windows, recipe=recipe, dtype=self.dtype)
        model.set_attn_implementation("sdpa")
        return model

    def judge(self, model, table: pandas.DataFrame) -> dict:
        found = predict_spans(
            model, self.tokenizer, table["question"].tolist(), table["context"].tolist(), dtype=self.dtype, **WINDOW
        )
        best = [prediction.spans[0].text for prediction in found]
        f1 = np.array([answer_f1(text, answers["text"]) for text, answers in zip(best, table["answers"])])
        em = [exact_match(text, answers["text"]) for text, answers in zip(best, table["answers"])]
        low, high = interval(f1, table["context"])
        return {"n": len(table), "em": float(np.mean(em)), "f1": float(f1.mean()), "low": low, "high": high}


def start_anew(part: torch.nn.Module) -> None:
    """Draw the weights of a matrix again (sigma 0.02, as BERT's code does), and set LayerNorm to the identity."""
    if isinstance(part, torch.nn.Linear):
        torch.nn.init.normal_(part.weight, std=0.02)
        torch.nn.init.zeros_(part.bias)
    elif isinstance(part, torch.nn.LayerNorm):
        torch.nn.init.ones_(part.weight)
        torch.nn.init.zeros_(part.bias)


def interval(values: np.ndarray, groups: pandas.Series, draws: int = 1_000) -> tuple[float, float]:
    """Return where the middle 95 % of the means lie if whole passages are drawn anew."""
    sums = pandas.DataFrame({"sum": values, "n": 1}).groupby(groups.to_numpy()).sum().to_numpy()
    picks = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    totals = sums[picks].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(low), float(high)


def measured(bench: Bench, way: Way, known: pandas.DataFrame, asked: pandas.DataFrame, seed: int) -> dict:
    model = bench.train(way, known, seed)
    return {"seed": seed, "trained on": len(known)} | bench.judge(model, asked)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=["choose", "final", "report"])
    parser.add_argument("--squad", type=Path, default=REAL)
    parser.add_argument("--seeds", type=int, default=1, help="how many, for choosing")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="some of them only")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {"choose": {}, "final": []}

    def keep() -> None:
        found["machine"] = {"date": time.strftime("%Y-%m-%d"), "processor": processor(),
                            "threads": torch.get_num_threads(), "torch": torch.__version__}  # fmt: skip
        FOUND.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    bench = Bench(args.squad) if {"choose", "final"} & set(args.parts) else None
    if "choose" in args.parts:
        for name in args.ways or WAYS:
            for seed in SEEDS[: args.seeds]:
                rows = found["choose"].setdefault(name, [])
                if seed not in [row["seed"] for row in rows]:
                    rows.append(measured(bench, WAYS[name], bench.rest, bench.choose, seed))
                    keep()
                    print(name, rows[-1], flush=True)
    if "final" in args.parts:
        known = pandas.concat([bench.rest, bench.choose], ignore_index=True)
        for name in (FINAL, "base"):
            for seed in SEEDS:
                if (name, seed) not in [(row["way"], row["seed"]) for row in found["final"]]:
                    found["final"].append({"way": name} | measured(bench, WAYS[name], known, bench.test, seed))
                    keep()
                    print(found["final"][-1], flush=True)
    if "report" in args.parts:
        write_part(HERE / "README.md", "questions", found["machine"], table_of(found))
    return 0


def table_of(found: dict) -> str:
    """Return both tables in Markdown."""

    def mean(rows: list[dict], name: str) -> str:
        values = [row[name] for row in rows]
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        return f"{np.mean(values):.3f}{spread}"

    def line(name: str, rows: list[dict]) -> list[str]:
        spans = "; ".join(f"{row['low']:.3f} to {row['high']:.3f}" for row in rows)
        return [name, mean(rows, "f1"), mean(rows, "em"), spans, str(rows[0]["trained on"]), str(rows[0]["n"])]

    head = ["F1", "EM", "95 % of F1, passages drawn anew, each seed", "trained on", "n"]
    final = {
        way: [row for row in found["final"] if row["way"] == way] for way in (row["way"] for row in found["final"])
    }
    parts = {"chosen on two articles, one seed": found["choose"], "judged on two others, three seeds": final}
    return "\n\n".join(
        markdown_table([title, *head], [line(name, rows) for name, rows in part.items()])
        for title, part in parts.items()
        if part
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
