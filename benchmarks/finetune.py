"""How fast can a classifier be fine-tuned on this machine? The recipe of most tutorials beside the course's.

    python benchmarks/finetune.py speed accuracy memory ideas generalization    # about an hour on two cores
    python benchmarks/finetune.py report    # tables and picture, from what is stored

Each part measures its recipes in turn, round after round, in one run, so that a machine that gets slower or faster
meanwhile does so for all of them; ratios are taken within a round. Results go to `finetune.json` beside this file, part
by part. Reads `data/reviews` and the embedded model, and for long texts and for other people's sentences the files
named by `--long` (NLTK's movie_reviews.zip) and `--sst2` (lines `label text`). Touches no network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import random
import re
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from inside_bert import Recipe, data_folder, fine_tune, length_groups, predict, read_reviews, split_by_group
from inside_bert.finetuning import fast_dtype, make_optimizer, matmul_speed

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "finetune.json"
REAL = HERE.parents[1] / "shared" / "real"
CHECKPOINT = str(data_folder() / "models" / "embedded-bert")
CPU = torch.device("cpu")
ROUNDS = 5
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Way:
    """How a training step is made; the defaults are the tutorials'."""

    pad: str = "512"  # a length, "longest" (of the batch), or "grouped" (longest, and like lengths together)
    dtype: str = "float32"  # "float32", "autocast" (to bfloat16), "bfloat16" (weights, with float32 masters)
    attention: str = "eager"
    dropout: float = 0.1
    embeddings: bool = True  # are the word embeddings trained?
    fused: bool = False
    batch_size: int = 16
    compiled: bool = False


TUTORIAL = Way()
FAST = "autocast" if fast_dtype(CPU) == torch.bfloat16 else "float32"
OURS = Way("grouped", FAST, "eager", 0.0, embeddings=False, fused=True, batch_size=32)
OURS_LONG = replace(OURS, attention="sdpa", batch_size=16)
STAIRS = {
    "tutorials: pad to 512, float32": TUTORIAL,
    "pad to 128": replace(TUTORIAL, pad="128"),
    "+ pad to the longest of the batch": replace(TUTORIAL, pad="longest"),
    "+ like lengths together": replace(TUTORIAL, pad="grouped"),
    "+ batches of 32": replace(TUTORIAL, pad="grouped", batch_size=32),
    "+ bfloat16 autocast": replace(OURS, dtype="autocast", fused=False, embeddings=True, dropout=0.1),
    "+ fused AdamW": replace(OURS, embeddings=True, dropout=0.1),
    "+ word embeddings frozen": replace(OURS, dropout=0.1),
    "+ no dropout = ours": OURS,
}
IDEAS = {
    "ours": OURS,
    "sdpa attention": replace(OURS, attention="sdpa"),
    "sdpa attention, dropout 0.1": replace(OURS, attention="sdpa", dropout=0.1),
    "dropout 0.1": replace(OURS, dropout=0.1),
    "word embeddings trained": replace(OURS, embeddings=True),
    "AdamW not fused": replace(OURS, fused=False),
    "batches of 64": replace(OURS, batch_size=64),
    "batches of 16": replace(OURS, batch_size=16),
    "bfloat16 weights, float32 masters": replace(OURS, dtype="bfloat16"),
    "float32": replace(OURS, dtype="float32"),
    "torch.compile": replace(OURS, compiled=True),
}


class Masters:
    """AdamW on float32 copies of bfloat16 weights, with the interface of an optimizer."""

    def __init__(self, model, recipe: Recipe) -> None:
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone().requires_grad_() for p in self.weights]
        self.adam = torch.optim.AdamW(self.masters, lr=recipe.rate, weight_decay=recipe.decay, fused=True)

    def step(self) -> None:
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad, weight.grad = weight.grad.float(), None
        self.adam.step()
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.masters)

    def zero_grad(self) -> None:
        self.adam.zero_grad()


def classifier(way: Way, seed: int = 0):
    """A fresh classifier on the embedded checkpoint."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification.from_pretrained(
        CHECKPOINT, num_labels=2, attn_implementation=way.attention, hidden_dropout_prob=way.dropout,
        attention_probs_dropout_prob=way.dropout, dtype=torch.bfloat16 if way.dtype == "bfloat16" else torch.float32,
    )  # fmt: skip
    model.bert.embeddings.word_embeddings.weight.requires_grad_(way.embeddings)
    return model.train()


class Trainer:
    """One way at work on one set of texts: `steps(seconds)` trains for about so long and returns the speed."""

    def __init__(self, way: Way, tokenizer, texts: list[str], labels: list[int]) -> None:
        self.way, self.tokenizer = way, tokenizer
        self.model = classifier(way)
        self.call: Callable = torch.compile(self.model) if way.compiled else self.model
        recipe = Recipe()
        if way.dtype == "bfloat16":
            self.optimizer = Masters(self.model, recipe)
        elif way.fused:
            self.optimizer = make_optimizer(self.model, recipe)
        else:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.rate)
        self.rows = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
        self.labels = torch.tensor(labels)
        self.batches = self._batches()

    def _batches(self):
        chance = random.Random(0)
        size = self.way.batch_size
        while True:
            if self.way.pad == "grouped":
                batches = length_groups([len(row) for row in self.rows], size, chance)
            else:
                order = chance.sample(range(len(self.rows)), len(self.rows))
                batches = [order[at : at + size] for at in range(0, len(order), size)]
            yield from (batch for batch in batches if len(batch) == size)

    def step(self, some: list[int]) -> tuple[int, int]:
        """Train on one batch; return how many places it has, padding included, and their length."""
        fixed = self.way.pad.isdigit()
        shape = {"padding": "max_length", "max_length": int(self.way.pad)} if fixed else {"pad_to_multiple_of": 8}
        batch = self.tokenizer.pad({"input_ids": [self.rows[n] for n in some]}, return_tensors="pt", **shape)
        cast = torch.autocast("cpu", torch.bfloat16) if self.way.dtype == "autocast" else contextlib.nullcontext()
        with cast:
            loss = self.call(**batch, labels=self.labels[some]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return batch["input_ids"].numel(), batch["input_ids"].shape[1]

    def steps(self, seconds: float) -> dict[str, float]:
        """Train for about `seconds` (one step at least): examples and floating-point operations per second."""
        examples = work = 0.0
        began = time.perf_counter()
        while not examples or time.perf_counter() - began < seconds:
            places, length = self.step(next(self.batches))
            examples += self.way.batch_size
            work += operations(self.model.config, places, length)
        took = time.perf_counter() - began
        return {"examples_per_s": examples / took, "operations_per_s": work / took}


def operations(config, places: int, length: int) -> float:
    """Operations of one training step in the encoder's matrix products: forward once, backward twice."""
    width, inner = config.hidden_size, config.intermediate_size
    per_place = 2 * (4 * width * width + 2 * width * inner) + 4 * length * width
    return 3.0 * config.num_hidden_layers * per_place * places


# Texts ----------------------------------------------------------------------------------------------------------------
def short_texts() -> dict[str, tuple[list[str], list[int]]]:
    """The splits of data/reviews as (texts, labels)."""
    return {k: (t["text"].tolist(), t["label"].tolist()) for k, t in split_by_group(read_reviews()).items()}


def long_texts(path: Path) -> tuple[list[str], list[int]]:
    """The 2,000 long film reviews of Pang and Lee (2004), shuffled."""
    rows = []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".txt"):
                rows.append((archive.read(name).decode("utf-8", "replace"), int("/pos/" in f"/{name}")))
    random.Random(0).shuffle(rows)
    return [text for text, _ in rows], [label for _, label in rows]


def sst2(path: Path) -> tuple[list[str], list[int]]:
    lines = [line.split(" ", 1) for line in path.read_text(encoding="latin-1").splitlines()]
    return [text for _, text in lines], [int(label) for label, _ in lines]


# Parts ----------------------------------------------------------------------------------------------------------------
def rounds(ways: dict[str, Way], tokenizer, texts, labels, seconds: float) -> dict[str, dict]:
    """Measure each way once a round; the first round warms up and is not counted."""
    trainers = {name: Trainer(way, tokenizer, texts, labels) for name, way in ways.items()}
    found: dict[str, list[dict]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        peak = {"float32": matmul_speed(CPU, torch.float32, 1536), "bfloat16": matmul_speed(CPU, torch.bfloat16, 1536)}
        for name in random.Random(number).sample(list(trainers), len(trainers)):  # another order in each round
            trainer = trainers[name]
            row = trainer.steps(seconds)
            kind = "float32" if trainer.way.dtype == "float32" else "bfloat16"
            row["share_of_peak"] = row["operations_per_s"] / peak[kind]
            if number:
                found[name].append(row | {"peak": peak[kind]})
            share = row["share_of_peak"]
            print(f"round {number}  {name:42} {row['examples_per_s']:8.1f} examples/s  {share:.0%} of peak", flush=True)
    first = next(iter(ways))
    summary = {}
    for name, rows in found.items():
        ratios = [row["examples_per_s"] / base["examples_per_s"] for row, base in zip(rows, found[first], strict=True)]
        summary[name] = {
            "way": asdict(ways[name]),
            "examples_per_s": middle([row["examples_per_s"] for row in rows]),
            "ratio": middle(ratios),
            "share_of_peak": middle([row["share_of_peak"] for row in rows]),
            "peak_gflops": middle([row["peak"] / 1e9 for row in rows]),
            "rounds": len(rows),
        }
    return summary


def middle(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def speed(args, tokenizer) -> dict:
    texts, labels = short_texts()["train"]
    found = {"short": rounds(STAIRS, tokenizer, texts, labels, args.seconds), "examples_short": len(texts)}
    ways = {"tutorials: float32": TUTORIAL, "ours": OURS_LONG, "ours, eager attention": replace(OURS, batch_size=16)}
    found["long"] = rounds(ways, tokenizer, *long_texts(args.long), args.seconds)
    return found


def ideas(args, tokenizer) -> dict:
    return {"short": rounds(IDEAS, tokenizer, *short_texts()["train"], args.seconds)}


def accuracy(args, tokenizer) -> dict:
    """Three seeds of each recipe on the same texts, judged on texts that neither has seen."""
    short = short_texts()
    count = args.train
    few = tuple(part[:count] for part in short["train"])
    found = {"padding_changes_nothing": padding_difference(tokenizer, few[0])}
    found["short"] = compare(tokenizer, few, short["test"], 3)
    texts, labels = long_texts(args.long)
    few, judged = slice(args.train_long), slice(-200, None)
    found["long"] = compare(tokenizer, (texts[few], labels[few]), (texts[judged], labels[judged]), 2)
    return found


def compare(tokenizer, train, test, epochs: int) -> dict:
    """Accuracy of both recipes on `test`.

    The tutorials' recipe is trained with padding to the longest of the batch: padding changes no result (lesson 01;
    `padding_changes_nothing` measures it here), only the time.
    """
    found: dict = {}
    ours = OURS if max(map(len, train[0])) < 1_000 else OURS_LONG
    for name, way in {"tutorial": replace(TUTORIAL, pad="longest"), "ours": ours}.items():
        shares = []
        for seed in SEEDS:
            model = classifier(way, seed)
            if name == "ours":
                dtype = fast_dtype(CPU)
                rate = 5e-5 * ours.batch_size / TUTORIAL.batch_size  # a larger batch takes fewer steps, and longer ones
                recipe = Recipe(rate=rate, batch_size=ours.batch_size, epochs=epochs, seed=seed)
                fine_tune(model, tokenizer, train, recipe=recipe, dtype=dtype)
            else:
                tutorial_training(model, tokenizer, train, epochs, seed)
                dtype = None
            right = predict(model, tokenizer, test[0], dtype=dtype).argmax(dim=-1) == torch.tensor(test[1])
            shares.append(float(right.float().mean()))
            print(f"{name} seed {seed}: {shares[-1]:.3f}", flush=True)
        n = len(test[1])
        mean = statistics.mean(shares)
        found[name] = {"seeds": shares, "mean": mean, "spread": statistics.stdev(shares),
                       "standard_error": (mean * (1 - mean) / n) ** 0.5, "n": n, "trained_on": len(train[0]),
                       "epochs": epochs}  # fmt: skip
    return found


def tutorial_training(model, tokenizer, train, epochs: int, seed: int) -> None:
    """The loop of most tutorials: AdamW at 5e-5, no groups of like length, a linear schedule."""
    from transformers import get_linear_schedule_with_warmup

    rows, labels = tokenizer(train[0], truncation=True, max_length=512)["input_ids"], torch.tensor(train[1])
    size = TUTORIAL.batch_size
    steps = -(-len(rows) // size) * epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    chance = random.Random(seed)
    for _ in range(epochs):
        order = chance.sample(range(len(rows)), len(rows))
        for at in range(0, len(order), size):
            some = order[at : at + size]
            batch = tokenizer.pad({"input_ids": [rows[n] for n in some]}, return_tensors="pt")
            model(**batch, labels=labels[some]).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(), schedule.step(), optimizer.zero_grad()


@torch.no_grad()
def padding_difference(tokenizer, texts: list[str]) -> float:
    """The largest difference between the logits of 16 texts padded to the longest of them and padded to 512."""
    model = classifier(TUTORIAL).eval()
    rows = {"input_ids": tokenizer(texts[:16], truncation=True, max_length=512)["input_ids"]}
    short = tokenizer.pad(rows, return_tensors="pt")
    full = tokenizer.pad(rows, padding="max_length", max_length=512, return_tensors="pt")
    return float((model(**short).logits - model(**full).logits).abs().max())


def memory(args, tokenizer) -> dict:
    """Peak memory of a process that makes a few steps, beside that of one that only loads the libraries."""
    if not Path("/proc/self/status").exists():
        sys.exit("memory is measured on Linux only.")
    found = {}
    for texts in ["short", "long"]:
        for name in ("nothing", "tutorial", "ours"):
            command = [sys.executable, __file__, "one", "--name", name, "--texts", texts, "--long", str(args.long)]
            found[f"{texts} {name}"] = int(
                subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()[-1]
            )
            print(f"{texts} {name}: {found[f'{texts} {name}']} MB", flush=True)
    return found


def one(args, tokenizer) -> None:
    """Make four steps in one way in this process, and print the peak of its memory in MB."""
    texts, labels = short_texts()["train"] if args.texts == "short" else long_texts(args.long)
    if args.name != "nothing":
        trainer = Trainer(TUTORIAL if args.name == "tutorial" else OURS_LONG, tokenizer, texts, labels)
        for _ in range(4):
            trainer.step(next(trainer.batches))
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]  # ru_maxrss starts at the parent's
    print(int(peak) // 1024)


def generalization(args, tokenizer) -> dict:
    """Trained on all of data/reviews and on nothing else, judged on other people's sentences."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    table = read_reviews()
    everything = table["text"].tolist(), table["label"].tolist()
    texts, labels = sst2(args.sst2)
    baseline = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)).fit(*everything)
    found = {"n": len(labels), "trained_on": len(table), "tfidf": float(baseline.score(texts, labels)), "seeds": []}
    for seed in SEEDS:
        model = classifier(OURS, seed)
        fine_tune(model, tokenizer, everything, recipe=Recipe(rate=1e-4, epochs=2, seed=seed), dtype=fast_dtype(CPU))
        right = predict(model, tokenizer, texts, dtype=fast_dtype(CPU)).argmax(dim=-1) == torch.tensor(labels)
        found["seeds"].append(float(right.float().mean()))
        print(f"SST-2, seed {seed}: {found['seeds'][-1]:.3f}, TF-IDF {found['tfidf']:.3f}", flush=True)
    return found


PARTS = {"speed": speed, "accuracy": accuracy, "memory": memory, "ideas": ideas, "generalization": generalization}


def machine() -> dict:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []  # fmt: skip
    names = names or [platform.processor() or platform.machine()]
    return {"date": date.today().isoformat(), "processor": names[0], "threads": torch.get_num_threads(),
            "torch": torch.__version__, "fast dtype": str(fast_dtype(CPU)).removeprefix("torch.")}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "one", "report"])
    parser.add_argument("--seconds", type=float, default=4.0, help="of training, for each way in each round")
    parser.add_argument("--train", type=int, default=800, help="short texts that the accuracy is trained on")
    parser.add_argument("--train-long", type=int, default=96, help="long texts that the accuracy is trained on")
    parser.add_argument("--long", type=Path, default=REAL / "movie_reviews.zip")
    parser.add_argument("--sst2", type=Path, default=REAL / "sst2.dev.txt")
    parser.add_argument("--name", choices=["nothing", "tutorial", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--texts", choices=["short", "long"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    for part, path in {"speed": args.long, "accuracy": args.long, "memory": args.long,
                       "generalization": args.sst2}.items():  # fmt: skip
        if part in args.parts and not path.is_file():
            parser.error(f"{part} needs {path}, which is not there; name the file with --long or --sst2.")
    if not 0 < args.train_long <= 1_800:
        parser.error(f"--train-long {args.train_long}: 1 to 1800, because the last 200 long texts are the test.")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    if args.parts == ["one"]:
        one(args, tokenizer)
        return 0
    for part in args.parts:
        if part in PARTS:
            stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            here = machine()
            stored[part] = PARTS[part](args, tokenizer) | {"machine": here}
            RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if "report" in args.parts:
        from report import write_report

        write_report(json.loads(RESULTS.read_text()), HERE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
