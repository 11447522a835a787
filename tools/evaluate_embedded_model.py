"""Measure a checkpoint of the embedded model: the tables of its card, in Markdown, to the printed digit.

Masked words, next-sentence pairs and copying are measured on held-out documents (tools/pretraining_text.py), everyday
sentences on tests/probes.csv, and SST-2 by fine-tuning. Everything is float32 on the CPU, with two threads, fixed seeds
and fixed batches. A hidden token is always behind [MASK], not 80 % of the time: this measures, it does not train.

Usage: python tools/evaluate_embedded_model.py data/models/embedded-bert --text FOLDER --sst2 FOLDER
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoTokenizer, BertForPreTraining, BertForSequenceClassification

sys.path.insert(0, str(Path(__file__).resolve().parent))
from pretraining_text import TERMS, kind_of_word, read_documents, sample
from train_embedded_model import encode

PARTS = ("masked", "nsp", "copying", "probes", "sst2")
KINDS = ("function", "content", "number", "subword", "punctuation")
MASKED_TOKENS = 100_000  # in the sequences of the running text; WordNet's glosses get a fifth of that beside them
ROOM = 126  # tokens of a sequence besides [CLS] and [SEP]
FAR = 10  # sentences between a run and one of the same document that does not follow it
Text = tuple[str, list[list[int]]]  # source, token ids of the sentences
Pair = tuple[list[int], list[int]]
Part = tuple[dict, str]  # figures, Markdown


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder of a BertForPreTraining (for sst2 any BERT encoder)")
    parser.add_argument("--text", type=Path, help="folder of texts (see tools/pretraining_text.py)")
    parser.add_argument("--sst2", type=Path, help="folder of sst2.train.txt and sst2.dev.txt, lines of `label text`")
    parser.add_argument("--probes", type=Path, default=Path(__file__).resolve().parents[1] / "tests" / "probes.csv")
    parser.add_argument("--only", default=",".join(PARTS), help="which of %(default)s")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--lr", type=float, default=1e-4, help="rate for SST-2 (default: %(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="part of the examples, to try the script out")
    args = parser.parse_args()
    args.only = set(args.only.split(","))
    if unknown := args.only - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if args.text is None and args.only & {"masked", "nsp", "copying"}:
        parser.error("--text FOLDER is needed; `python tools/pretraining_text.py FOLDER` fetches what belongs there")
    if args.sst2 is None and "sst2" in args.only:
        parser.error("--sst2 FOLDER is needed, or leave sst2 out of --only")
    return args


class Checkpoint:
    """A model in evaluation mode, its tokenizer, and what its vocabulary holds."""

    def __init__(self, folder: Path) -> None:
        """Read the folder; ends the run if the heads are not in it."""
        model, info = BertForPreTraining.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        if any(name.startswith(("cls.", "bert.pooler.")) for name in info["missing_keys"]):
            sys.exit(f"{folder} has no heads for masked words and sentence pairs: measure it with --only sst2")
        self.model, self.tokenizer = model.eval(), AutoTokenizer.from_pretrained(folder)
        self.cls, self.sep, self.mask = self.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", "[MASK]"])
        self.special = set(self.tokenizer.all_special_ids)
        self.tokens = self.tokenizer.convert_ids_to_tokens(range(model.config.vocab_size))
        self.kinds = np.array([kind_of_word(token) for token in self.tokens])
        self.content = (self.kinds == "content") & np.array([len(token) > 2 for token in self.tokens])
        self.content[list(self.special)] = False  # what is left counts as a word that can be copied

    def hide(self, tokens: list[int], share: float, chance: random.Random) -> tuple[list[int], list[int]]:
        """[CLS] tokens [SEP] with at least one token behind [MASK], and the places of those in `tokens`."""
        known = [i for i, token in enumerate(tokens) if token not in self.special]
        places = sorted(chance.sample(known, max(1, round(share * len(known)))))
        return [self.cls, *(self.mask if i in places else t for i, t in enumerate(tokens)), self.sep], places

    def as_in_training(self, row: list[int], tokens: list[int], places: list[int], chance: random.Random) -> list[int]:
        """The row with 80 % of its hidden places behind [MASK], 10 % random and 10 % as they were."""
        row = list(row)
        for place in places:
            fate = chance.random()
            if fate >= 0.8:
                row[place + 1] = chance.randrange(999, len(self.tokens)) if fate < 0.9 else tokens[place]
        return row

    @torch.no_grad()
    def at_masks(
        self, rows: list[list[int]], name: str, places: list[list[int]] | None = None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """For each row, its index and the log-probabilities (masks, V) at its [MASK] tokens, or at its `places`."""
        for indices in batches(rows, name):
            ids, real = padded([rows[i] for i in indices])
            hidden, masks = self.model.bert(ids, attention_mask=real).last_hidden_state, ids == self.mask
            if places is not None:
                masks = padded([[int(n - 1 in places[i]) for n in range(len(rows[i]))] for i in indices])[0] == 1
            scores = self.model.cls.predictions(hidden[masks]).log_softmax(-1)
            yield from zip(indices, scores.split(masks.sum(1).tolist()), strict=True)

    @torch.no_grad()
    def follows(self, pairs: list[Pair], name: str) -> np.ndarray:
        """For each pair, whether the NSP head says that B follows A (label 0)."""
        rows = [[self.cls, *a, self.sep, *b, self.sep] for a, b in pairs]
        types = [[0] * (len(a) + 2) + [1] * (len(b) + 1) for a, b in pairs]
        answers = np.zeros(len(pairs), dtype=bool)
        for indices in batches(rows, name):
            ids, real = padded([rows[i] for i in indices])
            segments, _ = padded([types[i] for i in indices])
            pooled = self.model.bert(ids, attention_mask=real, token_type_ids=segments).pooler_output
            answers[indices] = (self.model.cls.seq_relationship(pooled).argmax(-1) == 0).numpy()
        return answers


def batches(rows: list[list[int]], name: str, size: int = 32) -> Iterator[list[int]]:
    """Indices of rows, like lengths together, the same at every run."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for at in tqdm(range(0, len(order), size), desc=name, leave=False):
        yield order[at : at + size]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one tensor filled up with 0 ([PAD], and the first token type), and where the rows are real."""
    tensors = [torch.tensor(row) for row in rows]
    real = pad_sequence([torch.ones_like(row) for row in tensors], batch_first=True)
    return pad_sequence(tensors, batch_first=True), real


def share_of(hits: np.ndarray) -> dict:
    """How many of how many, the share, and its 95 % interval after Wilson."""
    right, n, z = int(hits.sum()), len(hits), 1.959964
    if not n:
        return {"right": 0, "n": 0, "share": 0.0, "interval": [0.0, 1.0]}
    middle, spread = right / n + z * z / (2 * n), z * math.sqrt(right * (n - right) / n**3 + z * z / (4 * n * n))
    interval = [(middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)]
    return {"right": right, "n": n, "share": right / n, "interval": interval}


def bootstrap(values: np.ndarray, documents: np.ndarray, draws: int = 1000) -> list[float]:
    """95 % interval of the mean of `values` when whole documents are drawn with replacement."""
    _, own = np.unique(documents, return_inverse=True)
    sums, counts = np.bincount(own, weights=values), np.bincount(own)
    drawn = np.random.RandomState(0).randint(len(sums), size=(draws, len(sums)))
    return np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5]).tolist()


def span(interval: list[float], digits: int = 3) -> str:
    """An interval as people write it."""
    return f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def table(head: str, rows: list[list[str]]) -> str:
    """A Markdown table; a column after the first is aligned to the right where it begins with a figure."""
    marks = ["--:" if i and cell[:1].isdigit() else "---" for i, cell in enumerate(rows[0])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head.split("|"), marks, *rows])


class Baselines:
    """What counting the training documents gives: the most frequent token, and the most frequent one after another."""

    def __init__(self, training: list[Text], size: int, cls: int) -> None:
        """Each document runs on over its sentences; [CLS] stands before each sentence, as it may in a sequence."""
        self.size = size
        stream = np.fromiter(chain.from_iterable(chain([cls], *s) for _, s in training), dtype=np.int64)
        firsts = np.array([sentence[0] for _, sentences in training for sentence in sentences[1:]], dtype=np.int64)
        pairs = np.concatenate([stream[:-1] * size + stream[1:], cls * size + firsts])
        self.pairs, self.counts = np.unique(pairs[pairs % size != cls], return_counts=True)
        counts = np.bincount(stream[stream != cls], minlength=size)
        self.frequent, self.unigram = int(counts.argmax()), (counts + 1) / (counts.sum() + size)
        left = self.pairs // size
        self.totals = np.bincount(left, weights=self.counts, minlength=size)
        order = np.lexsort((self.pairs, -self.counts, left))
        seen, first = np.unique(left[order], return_index=True)
        self.follower = np.full(size, self.frequent)
        self.follower[seen] = self.pairs[order][first] % size

    def measure(self, left: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Hits and losses; bigram: 0.8 of the share after `left` plus 0.2 unigram, unigram alone if `left` is new."""
        wanted = left * self.size + truth
        at = np.searchsorted(self.pairs, wanted).clip(max=len(self.pairs) - 1)
        after = np.where(self.pairs[at] == wanted, self.counts[at], 0) / np.maximum(self.totals[left], 1)
        unigram = self.unigram[truth]
        bigram = np.where(self.totals[left] > 0, 0.8 * after + 0.2 * unigram, unigram)
        return {"unigram accuracy": truth == self.frequent, "unigram loss": -np.log(unigram),
                "bigram accuracy": truth == self.follower[left], "bigram loss": -np.log(bigram)}  # fmt: skip


def packed(sentences: list[list[int]]) -> list[list[int]]:
    """Whole sentences in a row while they fit into `ROOM`; one that is longer is cut off."""
    rows: list[list[int]] = [[]]
    for sentence in sentences:
        if rows[-1] and len(rows[-1]) + len(sentence) > ROOM:
            rows.append([])
        rows[-1] = rows[-1] + sentence[:ROOM]
    return rows


def sequences(texts: list[Text], goal: float, special: set[int]) -> list[tuple[int, list[int]]]:
    """(number of the document, tokens) of about `goal` tokens, every source by its share of the texts."""
    rows: dict[str, list[tuple[int, list[int]]]] = {}
    for number, (source, sentences) in enumerate(texts):
        rows.setdefault(source, []).extend((number, row) for row in packed(sentences) if set(row) - special)
    share = min(1.0, goal / sum(len(row) + 2 for own in rows.values() for _, row in own))
    return [row for own in rows.values() for row in sample(own, max(1, round(share * len(own))), seed=0)]


def hidden_words(
    checkpoint: Checkpoint, texts: list[Text], goal: float, counted: Baselines, mixed: bool = False
) -> dict[str, np.ndarray]:
    """Columns with an entry for each hidden token: document, source, kind, accuracy and loss.

    `mixed` shows the same tokens as training does: 80 % behind [MASK], 10 % random, 10 % as they are.
    """
    chance, fates, rows, hidden, entries, answers = random.Random(0), random.Random(1), [], [], [], {}
    for number, tokens in sequences(texts, goal, checkpoint.special):
        row, places = checkpoint.hide(tokens, 0.15, chance)
        rows.append(checkpoint.as_in_training(row, tokens, places, fates) if mixed else row)
        hidden.append(places)
        entries.append([(number, tokens[i - 1] if i else checkpoint.cls, tokens[i]) for i in places])
    for index, scores in checkpoint.at_masks(rows, "masked words", hidden):
        truth = torch.tensor([entry[2] for entry in entries[index]])
        losses = -scores.gather(1, truth[:, None])[:, 0]
        answers[index] = torch.stack([(scores.argmax(-1) == truth).float(), losses]).double().numpy()
    document, left, truth = np.array(list(chain(*entries))).T
    right, loss = np.concatenate([answers[index] for index in range(len(rows))], axis=1)
    columns = {"document": document, "source": np.array([texts[n][0] for n in document])}
    columns |= {"kind": checkpoint.kinds[truth], "accuracy": right, "loss": loss}
    return columns | counted.measure(left, truth)


def means(columns: dict[str, np.ndarray], chosen: np.ndarray | slice = slice(None)) -> dict:
    """Number of the chosen tokens and of their documents, and the mean of each figure."""
    own = {name: column[chosen] for name, column in columns.items()}
    names = [name for name in own if "accuracy" in name or "loss" in name]
    count = {"n": len(own["loss"]), "documents": len(np.unique(own["document"]))}
    return count | {name: float(own[name].mean()) if count["n"] else 0.0 for name in names}


def masked(checkpoint: Checkpoint, held: list[Text], training: list[Text], share: float) -> Part:
    """Accuracy and loss by kind of word and by source, beside the baselines."""
    counted, goal = Baselines(training, len(checkpoint.tokens), checkpoint.cls), share * MASKED_TOKENS
    running = hidden_words(checkpoint, [text for text in held if text[0] != "wordnet"], goal, counted)
    glosses = hidden_words(checkpoint, [text for text in held if text[0] == "wordnet"], goal / 5, counted)
    mixed = means(hidden_words(checkpoint, [text for text in held if text[0] != "wordnet"], goal, counted, mixed=True))
    accuracy, loss = (bootstrap(running[name], running["document"]) for name in ("accuracy", "loss"))
    total = means(running) | {"accuracy_interval": accuracy, "loss_interval": loss}
    kinds = {kind: means(running, running["kind"] == kind) for kind in KINDS}
    sources = {name: means(running, running["source"] == name) for name in TERMS if name != "wordnet"}
    figures = {"all": total, "kinds": kinds, "sources": sources, "wordnet": means(glosses), "mixed": mixed}
    columns = ["accuracy", "loss", "unigram accuracy", "unigram loss", "bigram accuracy", "bigram loss"]

    def row(name: str, own: dict, columns: list[str]) -> list[str]:
        return [name, f"{own['n']:,}", *(f"{own[c]:.2f}" if "loss" in c else f"{own[c]:.3f}" for c in columns)]

    by_kind = [row(name, own, columns) for name, own in {"**all**": total, **kinds}.items()]
    by_source = {**sources, "wordnet (not in the total)": figures["wordnet"]}
    rows = [[*row(name, own, columns[:2]), str(own["documents"])] for name, own in by_source.items()]
    return figures, (
        f"### Masked words\n\n15 % of the tokens, always behind [MASK], in {total['documents']} held-out documents. "
        f"95 % interval over documents: accuracy {span(accuracy)}, loss {span(loss, 2)}.\n\n"
        f"{table('|'.join(['kind of word', 'n', *columns]), by_kind)}\n\n"
        "The same tokens shown as in training (80 % behind [MASK], 10 % random, 10 % as they are), which is how such "
        f"figures are often given: accuracy {mixed['accuracy']:.3f}, loss {mixed['loss']:.2f}.\n\n"
        f"Unigram: always `{checkpoint.tokens[counted.frequent]}`. Bigram: the most frequent token after the one to "
        "the left, which the baseline sees even where it is hidden from the model.\n\n"
        f"{table('source|n|accuracy|loss|documents', rows)}"
    )


SETTINGS = {  # where a B that does not follow comes from: words for it, and how many pairs
    "within": ("the same source", 1000), "across": ("another source", 500),
    "short": ("the same source, one sentence each", 500),
    "same": (f"the same document, at least {FAR} sentences away", 500),
}  # fmt: skip


def other(
    texts: list[Text], places: dict[str, list], number: int, run: range, setting: str, chance: random.Random
) -> tuple[int, int] | None:
    """Text and sentence where a B that does not follow begins; never a text's first sentence, as no true B is."""
    source, sentences = texts[number]
    if setting == "same":
        far = [i for i in range(1, len(sentences)) if i >= run.stop + FAR or i <= run.start - FAR]
        return (number, chance.choice(far)) if far else None
    while True:
        own = chance.choice([name for name in places if name != source]) if setting == "across" else source
        number_of_b, before = chance.choice(places[own])
        if number_of_b != number:
            return number_of_b, before + 1


def make_pairs(texts: list[Text], setting: str, count: int) -> list[Pair]:
    """Pairs of 128 tokens (`short`: fewer), B cut off at its end: the first half follow each other, the rest do not."""
    chance, places, made = random.Random(0), {}, []
    for number, (source, sentences) in enumerate(texts):
        places.setdefault(source, []).extend((number, at) for at in range(len(sentences) - 1))
    alone = {source for source, own in places.items() if len({number for number, _ in own}) < 2}
    kept = [own for source, own in places.items() if setting in ("across", "same") or source not in alone]
    starts = list(chain(*kept))
    while len(made) < count:
        number, at = chance.choice(starts)
        sentences, end = texts[number][1], at + 2
        while setting != "short" and end < len(sentences) and sum(map(len, sentences[at:end])) < ROOM - 1:
            end += 1
        cut = chance.randrange(at + 1, end)
        found = other(texts, places, number, range(at, end), setting, chance)
        if found is None:  # asked for both labels, so that A comes from the same places
            continue
        a, b = list(chain(*sentences[at:cut])), list(chain(*sentences[cut:end]))
        room = ROOM - 1 - len(a)
        wrong = list(chain(*texts[found[0]][1][found[1] : found[1] + 1 if setting == "short" else None]))
        if room < 8 or setting != "short" and min(len(b), len(wrong)) < room:  # for both labels: lengths tell nothing
            continue
        made.append((a, (wrong if len(made) >= count // 2 else b)[:room]))
    return made


def nsp(checkpoint: Checkpoint, held: list[Text], share: float) -> Part:
    """Accuracy on pairs by where the wrong B comes from."""
    texts, figures, rows = [text for text in held if text[0] != "wordnet"], {}, []
    for setting, (words, count) in SETTINGS.items():
        half = max(4, int(share * count / 2))
        said = checkpoint.follows(make_pairs(texts, setting, 2 * half), f"pairs, {setting}")
        own = share_of(np.concatenate([said[:half], ~said[half:]]))
        own |= {"follows": float(said[:half].mean()), "other": float(1 - said[half:].mean())}
        figures[setting] = own
        rows.append([words, f"{own['n']:,}", f"{own['share']:.3f}", span(own["interval"])])
        rows[-1] += [f"{own['follows']:.3f}", f"{own['other']:.3f}"]
    head = "the wrong B comes from|n|accuracy|95 % interval|right where B follows|right where it does not"
    return figures, (
        "### Next sentences\n\nHeld-out pairs of 128 tokens (single sentences: fewer), half of them following each other: "
        "always the same answer scores 0.50 by construction. Training shows no wrong B of the same document.\n\n" + table(head, rows)
    )


def copying(checkpoint: Checkpoint, held: list[Text], share: float) -> Part:
    """How often the first guess for a hidden token is a content word that stands elsewhere in the sentence."""
    pool = [s for source, own in held if source != "wordnet" for s in own]
    pool = [s for s in pool if 6 <= len(s) <= 30 and set(s) - checkpoint.special]
    chance, rows, truths, rests = random.Random(0), [], [], []
    for sentence in sample(pool, int(share * 2000), seed=0):
        row, (place,) = checkpoint.hide(sentence, 0, chance)
        rows.append(row)
        truths.append(sentence[place])
        rests.append(set(sentence[:place] + sentence[place + 1 :]))
    guesses = {index: int(scores.argmax()) for index, scores in checkpoint.at_masks(rows, "copying")}
    copied = np.array([bool(checkpoint.content[guesses[i]]) and guesses[i] in rest for i, rest in enumerate(rests)])
    repeated = np.array([truth in rest for truth, rest in zip(truths, rests, strict=True)])
    content = checkpoint.content[truths]
    measured = {
        "copied, all hidden tokens": copied[~(repeated & content)],
        "copied, hidden content words": copied[~repeated & content],
        "for comparison: the truth stands elsewhere, all": repeated,
        "for comparison: the truth stands elsewhere, content words": repeated[content],
    }
    figures = {name: share_of(hits) for name, hits in measured.items()}
    rows = [[name, f"{own['n']:,}", f"{own['share']:.3f}", span(own["interval"])] for name, own in figures.items()]
    return figures, (
        "### Copying\n\nOne token hidden in each of the held-out sentences of 6 to 30 tokens. Copied: the first guess "
        "is a content word of at least 3 letters that stands elsewhere in the sentence, and the truth is no such word."
        "\n\n" + table("what|n|share|95 % interval", rows)
    )


def probes(checkpoint: Checkpoint, path: Path) -> Part:
    """The three first guesses for each everyday sentence."""
    if not path.is_file():
        sys.exit(f"{path} is missing: it comes with the repository (git checkout tests/probes.csv)")
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    encoded = checkpoint.tokenizer([line["text"] for line in lines])["input_ids"]
    found = []
    for index, scores in sorted(checkpoint.at_masks(encoded, "probes"), key=lambda answer: answer[0]):
        best = scores[0].exp().topk(3)
        words, ids = [checkpoint.tokens[i] for i in best.indices], best.indices.tolist()
        found.append({"text": lines[index]["text"], "top": list(zip(words, best.values.tolist(), strict=True))})
        found[-1]["sensible"] = bool(set(words) & set(lines[index]["sensible"].split("|")))
        found[-1]["copied"] = sum(bool(checkpoint.content[i]) and i in encoded[index] for i in ids)
    figures = {"probes": found} | {name: sum(probe[name] for probe in found) for name in ("sensible", "copied")}
    rows = [[p["text"], ", ".join(f"{w} {share:.2f}" for w, share in p["top"]), "✗✓"[p["sensible"]]] for p in found]
    return figures, (
        f"### Everyday sentences\n\nA sensible word is among the first three guesses in {figures['sensible']} of "
        f"{len(rows)}; {figures['copied']} of the {3 * len(rows)} guesses copy a content word of the sentence.\n\n"
        + table("sentence|first three guesses|sensible", rows)
    )


Labelled = list[tuple[int, list[int]]]  # label, token ids


def read_sst2(path: Path, tokenizer) -> Labelled:
    """Label and token ids of each line."""
    if not path.is_file():
        sys.exit(f"{path} is missing: the Stanford Sentiment Treebank (Socher et al. 2013), lines of `label text`")
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    rows = tokenizer([line[2:] for line in lines], truncation=True, max_length=64, padding=False)["input_ids"]
    return [(int(line[0]), row) for line, row in zip(lines, rows, strict=True)]


def fine_tune(folder: Path, training: Labelled, test: Labelled, seed: int, rate: float) -> float:
    """Accuracy on `test` after three epochs over `training`; the seed sets head, order and dropout."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32).train()
    adam = torch.optim.AdamW(model.parameters(), lr=rate, eps=1e-8, weight_decay=0.01)
    steps, chance, order = 3 * math.ceil(len(training) / 16), random.Random(seed), list(range(len(training)))
    schedule = transformers.get_linear_schedule_with_warmup(adam, int(0.1 * steps), steps)
    with tqdm(total=steps, desc=f"sst2, seed {seed}", leave=False) as bar:
        for at in chain(*[range(0, len(order), 16)] * 3):
            if at == 0:
                chance.shuffle(order)
            ids, real = padded([training[i][1] for i in order[at : at + 16]])
            labels = torch.tensor([training[i][0] for i in order[at : at + 16]])
            loss = model(ids, attention_mask=real, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step(), schedule.step(), adam.zero_grad()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()
    right = 0
    with torch.no_grad():
        for indices in batches([row for _, row in test], f"sst2, seed {seed}, test"):
            ids, real = padded([test[i][1] for i in indices])
            labels = torch.tensor([test[i][0] for i in indices])
            right += int((model(ids, attention_mask=real).logits.argmax(-1) == labels).sum())
    return right / len(test)


def sst2(folder: Path, data: Path, rate: float, share: float) -> Part:
    """Test accuracy after fine-tuning on 1,000 sentences, for three seeds."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    training, test = (read_sst2(data / f"sst2.{part}.txt", tokenizer) for part in ("train", "dev"))
    random.Random(0).shuffle(training)
    training, test = training[: int(share * 1000)], test[: int(share * len(test))]
    seeds = [fine_tune(folder, training, test, seed, rate) for seed in (0, 1, 2)]
    most = round(statistics.mean(label for label, _ in training))
    figures = {"seeds": seeds, "mean": statistics.mean(seeds), "deviation": statistics.stdev(seeds), "rate": rate,
               "majority": sum(label == most for label, _ in test) / len(test), "n": len(test)}  # fmt: skip
    row = [*(f"{value:.3f}" for value in seeds), f"{figures['mean']:.3f} ± {figures['deviation']:.3f}"]
    row += [f"{figures['majority']:.3f}", f"{len(test):,}"]
    return figures, (
        f"### SST-2 after fine-tuning\n\nOn {len(training):,} sentences, 3 epochs, rate {rate:g}, three seeds.\n\n"
        + table("seed 0|seed 1|seed 2|mean ± standard deviation|majority|n", [row])
    )


def documents(args: argparse.Namespace, tokenizer) -> tuple[list[Text], list[Text]]:
    """Held-out and training documents, encoded; the latter only where they are counted."""
    try:
        read = read_documents(args.text)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    training = [d for d in read if not d.held_out] if "masked" in args.only else []
    training = sample(training, int(args.share * len(training)), seed=0)
    return encode([d for d in read if d.held_out], tokenizer), encode(training, tokenizer) if training else []


def measure(args: argparse.Namespace) -> Iterator[tuple[str, Part]]:
    """The parts that were asked for, one after the other."""
    checkpoint = Checkpoint(args.checkpoint) if args.only - {"sst2"} else None
    if args.only & {"masked", "nsp", "copying"}:
        held, training = documents(args, checkpoint.tokenizer)
    tasks = {
        "masked": lambda: masked(checkpoint, held, training, args.share),
        "nsp": lambda: nsp(checkpoint, held, args.share),
        "copying": lambda: copying(checkpoint, held, args.share),
        "probes": lambda: probes(checkpoint, args.probes),
        "sst2": lambda: sst2(args.checkpoint, args.sst2, args.lr, args.share),
    }
    yield from ((name, tasks[name]()) for name in PARTS if name in args.only)


def main() -> None:
    """Print the tables, and write the figures where --json says."""
    args = arguments()
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    weights = args.checkpoint / "model.safetensors"
    if not weights.is_file():
        sys.exit(f"{weights} is missing: name a folder that `save_pretrained` or the training script wrote")
    everything: dict = {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "share": args.share}
    print(f"`model.safetensors`: SHA-256 `{everything['sha256']}`", flush=True)
    began = time.monotonic()
    for name, (figures, text) in measure(args):
        everything[name] = figures
        print(f"\n{text}", flush=True)
        print(f"{name}: done after {time.monotonic() - began:.0f} s", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
