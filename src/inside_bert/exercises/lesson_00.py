"""Exercises of lesson 00: logits, gradients, positions, direction."""

from __future__ import annotations

import random
from functools import partial

import torch

from inside_bert.exercises.grading import Exercise, Misconception

VOCABULARY = 50  # of the toy encoders in 0.5


# 0.1 ---------------------------------------------------------------------------------------------------------------
def _gradient_after(backward_calls: int) -> float:
    weight = torch.tensor(3.0, requires_grad=True)
    for _ in range(backward_calls):
        (weight**2).backward()
    return weight.grad.item()


# 0.2 ---------------------------------------------------------------------------------------------------------------
def _most_likely(logits, labels):
    return _labelled(logits.softmax(dim=-1), logits, labels)


def _labelled(values, logits, labels):
    best = logits.argmax(dim=-1)
    return [(labels[k], values[row, k].item()) for row, k in enumerate(best.tolist())]


def _logits_and_labels(rng: random.Random) -> tuple:
    rows, columns = rng.choice([(2, 3), (4, 2), (3, 5)])
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    names = rng.sample(["calm", "glad", "sad", "angry", "bored", "proud"], columns)
    return 2 * torch.randn(rows, columns, generator=generator), names


# 0.3 ---------------------------------------------------------------------------------------------------------------
def _masked_ids(logits, input_ids, mask_token_id):
    rows, places = (input_ids == mask_token_id).nonzero(as_tuple=True)
    return logits[rows, places].argmax(dim=-1)


def _masked_batch(rng: random.Random) -> tuple:
    rows, tokens, vocabulary = rng.choice([(2, 6, 9), (3, 5, 8), (1, 7, 11)])
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    ids = torch.randint(0, vocabulary - 1, (rows, tokens), generator=generator)
    for row in range(rows):
        ids[row, rng.randrange(1, tokens - 1)] = vocabulary - 1
    return torch.randn(rows, tokens, vocabulary, generator=generator), ids, vocabulary - 1


# 0.4 ---------------------------------------------------------------------------------------------------------------
def _descend(loss_of, start, learning_rate, steps, *, keep_gradient=False, sign=-1.0):
    x = start.clone().requires_grad_()
    for _ in range(steps):
        loss_of(x).backward()
        with torch.no_grad():
            x += sign * learning_rate * x.grad
        if not keep_gradient:
            x.grad = None
    return x.detach()


def _quartic(scale, centre, x):
    return scale * ((x - centre) ** 2).sum() + 0.01 * (x**4).sum()


def _slope(rng: random.Random) -> tuple:
    size = rng.choice([1, 2, 4])
    start = torch.tensor([rng.uniform(-2, 2) for _ in range(size)])
    loss_of = partial(_quartic, rng.uniform(0.5, 2), rng.uniform(-1, 1))
    return loss_of, start, rng.choice([0.05, 0.1]), rng.choice([2, 3, 5])


# 0.5 ---------------------------------------------------------------------------------------------------------------
def _toy_encoder(kind: str, seed: int, ids):
    table = torch.randn(VOCABULARY, 4, generator=torch.Generator().manual_seed(seed))[ids]  # (T, 4)
    positions = torch.arange(1, len(ids) + 1).unsqueeze(-1)
    if kind == "left to right":
        return table.cumsum(dim=0) / positions
    if kind == "right to left":
        return table.flip(0).cumsum(dim=0).flip(0)
    if kind == "both":
        return table + table.mean(dim=0)
    return table  # each token alone


def _changed(encode, ids, place):
    other = ids.clone()
    other[place] = (other[place] + 1) % VOCABULARY
    return (encode(other) - encode(ids)).abs().amax(dim=-1) > 1e-6  # (T,)


def _encoder_and_ids(rng: random.Random) -> tuple:
    kind = ("left to right", "both", "right to left", "each alone")[rng.randrange(4)]
    length = rng.choice([4, 6, 9])
    return partial(_toy_encoder, kind, rng.randrange(10**6)), torch.tensor([rng.randrange(50) for _ in range(length)])


EXERCISES = (
    Exercise(
        "0.1",
        "Three calls of backward",
        "warm-up",
        3,
        partial(_gradient_after, 3),
        "right: backward adds to .grad, so three calls leave three times the gradient",
        misconceptions=(
            Misconception("one call", 6.0, "6 is the gradient of one call; what does backward do with what is there?"),
            Misconception("the loss", 9.0, "9 is the loss, w²; .grad holds its derivative, 2w, once for each call"),
            Misconception("loss times three", 27.0, "27 adds up the loss; what is added up in .grad is the derivative"),
        ),
    ),
    Exercise(
        "0.2",
        "From logits to a label",
        "core",
        8,
        _most_likely,
        "right: softmax over the classes of each row, and the class with the largest share",
        _logits_and_labels,
        (
            Misconception(
                "softmax over the batch",
                lambda logits, labels: _labelled(logits.softmax(dim=0), logits, labels),
                "your probabilities sum to 1 over the batch; they have to sum to 1 over the classes of one row: "
                "which dim is that? (hint 1)",
            ),
            Misconception(
                "sigmoid",
                lambda logits, labels: _labelled(logits.sigmoid(), logits, labels),
                "you squashed each logit alone (sigmoid); classes that exclude each other share one softmax (hint 2)",
            ),
            Misconception(
                "the logit",
                lambda logits, labels: _labelled(logits, logits, labels),
                "the label is right, but the number beside it is a logit; turn the row into probabilities (hint 1)",
            ),
        ),
    ),
    Exercise(
        "0.3",
        "Find the bug: the wrong place",
        "core",
        8,
        _masked_ids,
        "right: each row is read where its own [MASK] stands",
        _masked_batch,
        (
            Misconception(
                "last position",
                lambda logits, ids, mask: logits[:, -1].argmax(dim=-1),
                "that reads the last position of every row, as a left-to-right model would; where is [MASK]? (hint 1)",
            ),
            Misconception(
                "first position",
                lambda logits, ids, mask: logits[:, 0].argmax(dim=-1),
                "that reads position 0, which is [CLS]; where is [MASK]? (hint 1)",
            ),
            Misconception(
                "argmax over positions",
                lambda logits, ids, mask: logits.argmax(dim=1)[torch.arange(len(ids)), (ids == mask).int().argmax(1)],
                "argmax ran over the positions; the vocabulary is the last axis, dim=-1 (hint 2)",
            ),
        ),
    ),
    Exercise(
        "0.4",
        "Gradient descent by hand",
        "core",
        10,
        _descend,
        "right: step against the gradient, outside the graph, and start each step with an empty .grad",
        _slope,
        (
            Misconception(
                "gradients pile up",
                partial(_descend, keep_gradient=True),
                "each step uses the sum of all gradients so far; empty .grad after every step (hint 2)",
            ),
            Misconception(
                "uphill",
                partial(_descend, sign=1.0),
                "you walk uphill: the gradient points to where the loss grows (hint 1)",
            ),
            Misconception(
                "no step",
                lambda loss_of, start, learning_rate, steps: start,
                "the start comes back unchanged: is the update written into x, under torch.no_grad()? (hint 1)",
            ),
        ),
        show=lambda call: f"start={call[1].tolist()}, learning_rate={call[2]}, steps={call[3]}",
    ),
    Exercise(
        "0.5",
        "Does it see the future?",
        "stretch",
        12,
        lambda encode, ids: bool(_changed(encode, ids, -1)[:-1].any()),
        "right: change the last token, and look whether anything before it moves",
        _encoder_and_ids,
        (
            Misconception(
                "all positions",
                lambda encode, ids: bool(_changed(encode, ids, -1).any()),
                "True for every encoder, and some do not see it; the last position always moves, because its own "
                "token changed: leave it out (hint 2)",
            ),
            Misconception(
                "changed the first token",
                lambda encode, ids: bool(_changed(encode, ids, 0)[1:].any()),
                "you changed the first token and looked to its right: that is the past; change the last one (hint 1)",
            ),
            Misconception("never", lambda encode, ids: False, "False for every encoder, and some do see it (hint 1)"),
        ),
        cases=10,
        show=lambda call: f"an encoder that reads {call[0].args[0]}, and {len(call[1])} ids",
    ),
)
