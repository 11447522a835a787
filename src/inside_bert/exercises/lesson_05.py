"""Exercises of lesson 05: scores of a lazy classifier, a training loop, macro-F1, the learning rate, calibration."""

from __future__ import annotations

import random
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from inside_bert.exercises.grading import Exercise, Misconception

FAULTS = {  # of the loop in 5.2, and how to make each
    "gradients are never cleared (hint 1)": {"clear": "never"},
    "clipping has no effect (hint 2)": {"late": True},
    "the loss is not given logits (hint 3)": {"twice": True},
}


# 5.2 ---------------------------------------------------------------------------------------------------------------
def _train(model, batches, optimizer, max_norm, *, twice=False, clip=clip_grad_norm_, late=False, clear="last"):
    losses = []
    for features, labels in batches:
        logits = model(features)
        loss = cross_entropy(logits.softmax(dim=-1) if twice else logits, labels)
        loss.backward()
        if clear == "too early":
            optimizer.zero_grad()
        if not late:
            clip(model.parameters(), max_norm)
        optimizer.step()
        if late:
            clip(model.parameters(), max_norm)
        if clear == "last":
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def _losses_afterwards(model, batches, optimizer, max_norm):
    losses = []
    for batch in batches:
        _train(model, [batch], optimizer, max_norm)
        losses.append(float(cross_entropy(model(batch[0]), batch[1]).detach()))
    return losses


def _holds_a_graph(answer: Any) -> str | None:
    losses = answer if isinstance(answer, (list, tuple)) else [answer]
    if any(getattr(loss, "requires_grad", False) for loss in losses):
        return "the numbers are right, but each loss still holds its graph in memory; append loss.item()"
    return None


def _model_and_batches(rng: random.Random) -> tuple:
    width, classes, texts = rng.choice([(4, 2, 8), (5, 3, 6), (3, 4, 7)])
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator: put it back
        torch.manual_seed(rng.randrange(10**6))
        model = torch.nn.Linear(width, classes)
        if rng.random() < 0.5:
            model = torch.nn.Sequential(torch.nn.Linear(width, 6), torch.nn.Tanh(), torch.nn.Linear(6, classes))
        batches = [(2 * torch.randn(texts, width), torch.randint(classes, (texts,))) for _ in range(6)]
    if rng.random() < 0.7:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, batches, optimizer, rng.choice([0.2, 0.5, 1.0])


def _show_training(call: tuple) -> str:
    model, batches, optimizer, max_norm = call
    shape, rate = tuple(batches[0][0].shape), optimizer.param_groups[0]["lr"]
    kind = f"{type(model).__name__}, {type(optimizer).__name__} with lr={rate}"
    return f"{kind}, {len(batches)} batches of shape {shape}, max_norm={max_norm}"


# 5.3 ---------------------------------------------------------------------------------------------------------------
def _counts(predictions, labels, name):
    """Return how often a class was hit, predicted, and the right one."""
    hits = sum(p == name and q == name for p, q in zip(predictions, labels))
    return hits, predictions.count(name), labels.count(name)


def _f1(predictions, labels, name):
    hits, predicted, true = _counts(predictions, labels, name)
    return 2 * hits / (predicted + true) if predicted + true else 0.0


def _macro_f1(predictions, labels, *, names=lambda predictions, labels: {*predictions, *labels}):
    return _mean([_f1(predictions, labels, name) for name in names(predictions, labels)])


def _mean(values):
    return sum(values) / len(values) if values else 0.0


def _weighted_f1(predictions, labels):
    return _mean([_f1(predictions, labels, label) for label in labels])


def _mean_of_shares(predictions, labels):
    counts = [_counts(predictions, labels, name) for name in {*predictions, *labels}]
    return _mean([(hits / max(predicted, 1) + hits / max(true, 1)) / 2 for hits, predicted, true in counts])


def _f1_of_means(predictions, labels):
    counts = [_counts(predictions, labels, name) for name in {*predictions, *labels}]
    precision = _mean([hits / max(predicted, 1) for hits, predicted, _ in counts])
    recall = _mean([hits / max(true, 1) for hits, _, true in counts])
    return 2 * precision * recall / (precision + recall)


def _answers_and_labels(rng: random.Random) -> tuple:
    names = rng.choice([[0, 1], [0, 1, 2], [0, 1, 4], [1, 2, 3, 6]])
    texts, often = rng.choice([12, 20, 30]), rng.choice([2, 4])
    labels = [*names, *rng.choices(names, [often] + [1] * (len(names) - 1), k=texts)]
    predictions = [label if rng.random() < 0.6 else rng.choice(names) for label in labels]
    never = rng.choice(names[1:])  # in some calls one class is never predicted, in others one is never right
    if rng.random() < 0.4:
        predictions = [names[0] if name == never else name for name in predictions]
    elif rng.random() < 0.6:
        labels = [names[0] if name == never else name for name in labels]
        predictions[-1] = never
    return predictions, labels


# 5.4 ---------------------------------------------------------------------------------------------------------------
def _share(step, warmup, total):
    return step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))


def _no_rise(step, warmup, total):
    return _share(max(step, warmup), warmup, total)


def _rise_then(fall):
    return lambda step, warmup, total: step / warmup if step < warmup else fall(step, warmup, total)


def _step_of_a_run(rng: random.Random) -> tuple:
    warmup, total = rng.choice([0, 4, 10, 25]), rng.choice([40, 100, 250])
    return rng.choice([0, warmup // 2, warmup, (warmup + total) // 2, total - 3, total, total + 7]), warmup, total


# 5.5 ---------------------------------------------------------------------------------------------------------------
def _weighted(shares, gaps):
    return (shares * gaps.abs()).sum()


def _calibration_error(confidences, correct, bins, *, combine=_weighted, right=True):
    place = confidences * bins
    number = place.ceil() - 1 if right else place.floor().clamp(max=bins - 1)
    members = [inside for inside in (number == n for n in range(bins)) if inside.any()]
    shares = torch.stack([inside.float().mean() for inside in members])
    gaps = torch.stack([correct[inside].float().mean() - confidences[inside].mean() for inside in members])
    return float(combine(shares, gaps))


def _one_bin(confidences, correct, bins):
    return _calibration_error(confidences, correct, 1)


def _confidences(rng: random.Random) -> tuple:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    texts, bins = rng.choice([(40, 4), (60, 5), (60, 8), (90, 10)])
    lowest = rng.choice([0, 512])  # of 1024: from 0.5 on, as with two classes, the lower bins are empty
    confidences = (torch.randint(lowest, 1024, (texts,), generator=generator) + 0.5) / 1024  # on no edge of a bin
    if bins in (4, 8):  # these edges are exact in binary
        confidences[:12] = torch.randint(lowest * bins // 1024 + 1, bins + 1, (12,), generator=generator) / bins
    truth = (confidences + rng.choice([-0.2, 0.2]) + (confidences * 40).sin() / 3).clamp(0.02, 0.98)
    return confidences, torch.rand(texts, generator=generator) < truth, bins


EXERCISES = (
    Exercise(
        "5.1",
        "Always the same answer",
        "warm-up",
        4,
        lambda: [0.9, 0.0, 18 / 19, 9 / 19],
        "right: nine in ten are correct, and the class that is never found halves the macro-F1",
        misconceptions=(
            Misconception(
                "macro-F1 is the accuracy",
                [0.9, 0.0, 18 / 19, 0.9],
                "the first three are right; macro-F1 is not the accuracy, it is the mean of the two F1 (hint 2)",
            ),
            Misconception(
                "one class forgotten",
                [0.9, 0.0, 18 / 19, 18 / 19],
                "the first three are right; label 0 has an F1, too: it is 0, not undefined, and counts in the mean",
            ),
            Misconception(
                "macro-F1 weighted by frequency",
                [0.9, 0.0, 18 / 19, 0.9 * 18 / 19],
                "the first three are right; in the macro mean each class counts the same, however rare (hint 2)",
            ),
            Misconception(
                "balanced accuracy",
                [0.9, 0.0, 18 / 19, 0.5],
                "the first three are right; 0.5 is the mean of the recalls, and (d) asks for the mean of the F1",
            ),
            Misconception(
                "precision for F1",
                [0.9, 0.0, 0.9, 0.45],
                "0.9 is the precision of label 1; F1 brings in its recall as well, which is 1 (hint 1)",
            ),
            Misconception(
                "recall for F1",
                [0.9, 0.0, 1.0, 0.5],
                "1 is the recall of label 1; F1 brings in its precision as well, which is 0.9 (hint 1)",
            ),
            Misconception(
                "recall of the other class",
                [0.9, 1.0, 18 / 19, 9 / 19],
                "1 is the recall of label 1; of the 10 texts of label 0 none is found",
            ),
            Misconception(
                "rounded", [0.9, 0.0, 0.95, 0.47], "nearly: (c) and (d) are rounded; write fractions, such as 2 / 3"
            ),
        ),
    ),
    Exercise(
        "5.2",
        "Find the bug: a loop that does not learn as it should",
        "core",
        10,
        _train,
        "right: logits into the loss, then backward, clip, step, clear, and a plain number per step",
        _model_and_batches,
        (
            Misconception(
                "the version with all bugs",
                partial(_train, twice=True, late=True, clear="never"),
                "that is the version from above; three things are wrong",
            ),
            Misconception(
                "never cleared",
                partial(_train, clear="never"),
                "the gradients of all earlier batches add up: clear them once per step (hint 1)",
            ),
            Misconception(
                "cleared too early",
                partial(_train, clear="too early"),
                "gradients are cleared before the step can use them, so nothing is learned; clear after it (hint 1)",
            ),
            Misconception(
                "clipped too late",
                partial(_train, late=True),
                "clipping has no effect here: it stands after the step, or not at all; it belongs before it (hint 2)",
            ),
            Misconception(
                "softmax twice",
                partial(_train, twice=True),
                "cross_entropy takes logits: it does the softmax itself, and yours does it twice (hint 3)",
            ),
            Misconception(
                "loss after the step",
                _losses_afterwards,
                "those are the losses after each step; keep the one that you called backward() on",
            ),
            Misconception(
                "each number clipped",
                partial(_train, clip=clip_grad_value_),
                "you clip each number of the gradient; clip the norm of the whole, with clip_grad_norm_ (hint 2)",
            ),
            *(
                Misconception(f"{a}, {b}", partial(_train, **FAULTS[a], **FAULTS[b]), f"two faults are left: {a}; {b}")
                for a, b in combinations(FAULTS, 2)
            ),
        ),
        objection=_holds_a_graph,
        show=_show_training,
    ),
    Exercise(
        "5.3",
        "Macro-F1 by hand",
        "core",
        8,
        _macro_f1,
        "right: one F1 per class, each class counted once, however rare",
        _answers_and_labels,
        (
            Misconception(
                "accuracy",
                lambda predictions, labels: _mean([p == q for p, q in zip(predictions, labels)]),
                "that is the accuracy (or micro-F1, the same here): compute one F1 per class, then their mean (hint 1)",
            ),
            Misconception(
                "only class 1",
                partial(_f1, name=1),
                "that is the F1 of class 1 alone; the other classes count as much (hint 2)",
            ),
            Misconception(
                "weighted by frequency",
                _weighted_f1,
                "frequent classes count for more here; in the macro mean every class counts once (hint 2)",
            ),
            Misconception(
                "mean of precision and recall",
                _mean_of_shares,
                "you take the plain mean of precision and recall; F1 is 2 · hits / (predicted + true) (hint 1)",
            ),
            Misconception(
                "F1 of the means",
                _f1_of_means,
                "that is one F1 of the mean precision and mean recall; first one F1 per class, then the mean (hint 1)",
            ),
            Misconception(
                "classes of labels only",
                partial(_macro_f1, names=lambda predictions, labels: {*labels}),
                "a class that is predicted and never right counts, too, with an F1 of 0 (hint 2)",
            ),
            Misconception(
                "classes of predictions only",
                partial(_macro_f1, names=lambda predictions, labels: {*predictions}),
                "a class that is never predicted counts, too, with an F1 of 0 (hint 2)",
            ),
            Misconception(
                "classes with hits only",
                partial(_macro_f1, names=lambda p, q: {a for a, b in zip(p, q) if a == b}),
                "a class without hits has an F1 of 0; it stays in the mean (hint 2)",
            ),
            Misconception(
                "numbers that do not occur",
                partial(_macro_f1, names=lambda predictions, labels: range(max(predictions + labels) + 1)),
                "you count numbers that occur in neither list; take the classes from the lists (hint 2)",
            ),
        ),
        cases=12,
    ),
    Exercise(
        "5.4",
        "Up, then down",
        "core",
        6,
        _share,
        "right: 0 at the start, 1 at the end of the warm-up, 0 at the end of the run, never less",
        _step_of_a_run,
        (
            Misconception(
                "no warm-up",
                _no_rise,
                "the share does not rise: before step `warmup` it is step / warmup (hint 1)",
            ),
            Misconception(
                "falls all the time",
                lambda step, warmup, total: max(0.0, (total - step) / total),
                "the share falls from step 0 on; it first rises, until step `warmup` (hint 1)",
            ),
            Misconception(
                "jumps at the end of the warm-up",
                _rise_then(lambda step, warmup, total: max(0.0, (total - step) / total)),
                "it jumps at step `warmup`; the fall begins there, at 1, and takes total - warmup steps (hint 2)",
            ),
            Misconception(
                "falls too slowly",
                _rise_then(lambda step, warmup, total: max(0.0, 1 - (step - warmup) / total)),
                "at step `total` the share is not 0 yet: the fall takes total - warmup steps (hint 2)",
            ),
            Misconception(
                "no decay",
                lambda step, warmup, total: min(1.0, step / warmup) if warmup else 1.0,
                "the share stays at 1; after the warm-up it falls, to 0 at step `total` (hint 2)",
            ),
            Misconception(
                "negative in the end",
                _rise_then(lambda step, warmup, total: (total - step) / (total - warmup)),
                "beyond step `total` the share is negative, and the model would unlearn; stop at 0, with max",
            ),
            Misconception(
                "counted from one",
                lambda step, warmup, total: _share(step + 1, warmup, total),
                "you are one step ahead: at step 0 the share is 0, and at step `warmup` it is 1 (hint 1)",
            ),
        ),
        cases=40,
        show=lambda call: "step={}, warmup={}, total={}".format(*call),
    ),
    Exercise(
        "5.5",
        "Expected calibration error",
        "stretch",
        12,
        _calibration_error,
        "right: the gap of each bin, without its sign, weighted by the bin's share of the texts",
        _confidences,
        (
            Misconception(
                "added without weights",
                partial(_calibration_error, combine=lambda shares, gaps: gaps.abs().sum()),
                "the gaps are added as they are; multiply each by the bin's share of the texts (hint 2)",
            ),
            Misconception(
                "mean of the bins",
                partial(_calibration_error, combine=lambda shares, gaps: gaps.abs().mean()),
                "a bin with one text counts as much as a full one; weight each by its share of the texts (hint 2)",
            ),
            Misconception(
                "signed",
                partial(_calibration_error, combine=lambda shares, gaps: (shares * gaps).sum()),
                "bins that are too sure and bins that are too careful cancel: take each gap without its sign (hint 2)",
            ),
            Misconception(
                "one bin for all",
                _one_bin,
                "that is |accuracy - mean confidence| over all texts, where gaps cancel; take it per bin (hint 1)",
            ),
            Misconception(
                "squared",
                partial(_calibration_error, combine=lambda shares, gaps: (shares * gaps**2).sum()),
                "you square the gaps; take their absolute values (hint 2)",
            ),
            Misconception(
                "the largest gap",
                partial(_calibration_error, combine=lambda shares, gaps: gaps.abs().max()),
                "that is the largest gap (the maximum calibration error); add all gaps, weighted (hint 2)",
            ),
            Misconception(
                "left edge included",
                partial(_calibration_error, right=False),
                "a confidence on an edge belongs to the bin below it: > on the left, <= on the right (hint 1)",
            ),
        ),
        cases=10,
        show=lambda call: f"{len(call[0])} confidences from {call[0].min():.2f} to {call[0].max():.2f}, bins={call[2]}",
    ),
)
