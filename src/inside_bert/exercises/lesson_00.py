"""Exercises of lesson 00: untrained heads, logits, positions, gradients, direction."""

from __future__ import annotations

import random
from functools import partial

import torch

from inside_bert.exercises.grading import Exercise, Misconception

VOCABULARY = 50  # of the toy encoders in 0.5


# 0.1 ---------------------------------------------------------------------------------------------------------------
UNTRAINED = {  # class: does a checkpoint from pre-training lack its head?
    "BertForMaskedLM": False,
    "BertForNextSentencePrediction": False,
    "BertForSequenceClassification": True,
    "BertForTokenClassification": True,
    "BertForQuestionAnswering": True,
}


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
def _descend(loss_of, start, learning_rate, steps, *, keep_gradient=False, sign=-1.0, unit=False):
    x = start.clone().requires_grad_()
    for _ in range(steps):
        loss_of(x).backward()
        with torch.no_grad():
            x += sign * learning_rate * (x.grad / x.grad.norm() if unit else x.grad)
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
KINDS = ("left to right", "both", "right to left", "each alone", "one ahead", "all from the first")


def _toy_encoder(kind: str, seed: int, ids):
    table = torch.randn(VOCABULARY, 4, generator=torch.Generator().manual_seed(seed))[ids]  # (T, 4)
    positions = torch.arange(1, len(ids) + 1).unsqueeze(-1)
    if kind == "left to right":
        return table.cumsum(dim=0) / positions
    if kind == "right to left":
        return table.flip(0).cumsum(dim=0).flip(0)
    if kind == "both":
        return table + table.mean(dim=0)
    if kind == "one ahead":
        return table + torch.cat([table[1:], table[-1:]])
    if kind == "all from the first":
        return torch.cat([table.mean(dim=0, keepdim=True), table[1:]])
    return table  # each token alone


def _changed(encode, ids, place):
    other = ids.clone()
    other[place] = (other[place] + 1) % VOCABULARY
    return (encode(other) - encode(ids)).abs().amax(dim=-1) > 1e-6  # (T,)


def _encoder_and_ids(rng: random.Random) -> tuple:
    ids = torch.tensor([rng.randrange(VOCABULARY) for _ in range(rng.choice([4, 6, 9]))])
    ids[-1] = rng.choice([0, VOCABULARY - 1, int(ids[-1])])  # the smallest and the largest id there are
    return partial(_toy_encoder, rng.choice(KINDS), rng.randrange(10**6)), ids


EXERCISES = (
    Exercise(
        "0.1",
        "Which heads are trained?",
        "warm-up",
        4,
        lambda: UNTRAINED,
        "right: two heads come from pre-training; the others are initialised anew until you fine-tune them",
        misconceptions=(
            Misconception(
                "none untrained",
                dict.fromkeys(UNTRAINED, False),
                "a name such as BertForQuestionAnswering promises a head, not a trained one (hint 1)",
            ),
            Misconception(
                "all untrained",
                dict.fromkeys(UNTRAINED, True),
                "two of the heads were trained together with the encoder; which tasks did pre-training have? (hint 2)",
            ),
            Misconception(
                "turned round",
                {name: not untrained for name, untrained in UNTRAINED.items()},
                "all five are turned round: True stands for an *untrained* head",
            ),
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
                lambda logits, labels: _labelled(logits.softmax(dim=0), logits.softmax(dim=0), labels),
                "your probabilities sum to 1 over the batch; they have to sum to 1 over the classes of one row: "
                "which dim is that? (hint 1)",
            ),
            Misconception(
                "softmax over the batch, label from the logits",
                lambda logits, labels: _labelled(logits.softmax(dim=0), logits, labels),
                "the labels are right, but your probabilities sum to 1 over the batch; they have to sum to 1 over the "
                "classes of one row (hint 1)",
            ),
            Misconception(
                "softmax over everything",
                lambda logits, labels: _labelled(logits.flatten().softmax(0).view_as(logits), logits, labels),
                "your probabilities sum to 1 over the whole batch; each row is a text of its own (hint 1)",
            ),
            Misconception(
                "pairs turned round",
                lambda logits, labels: [(p, label) for label, p in _most_likely(logits, labels)],
                "each pair is turned round: first the label, then its probability",
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
                "the place of the first text",
                lambda logits, ids, mask: logits[:, (ids[0] == mask).int().argmax()].argmax(dim=-1),
                "you read all rows where the first row has its [MASK]; it differs from row to row (hint 1)",
            ),
            Misconception(
                "positions",
                lambda logits, ids, mask: (ids == mask).int().argmax(dim=1),
                "that is where [MASK] stands; now read the logits there, and take the likeliest id (hint 2)",
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
                "gradient of length one",
                partial(_descend, unit=True),
                "you divide by the gradient's length; a step is learning_rate times the gradient, however long it is "
                "(hint 1)",
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
        objection=lambda answer: (
            "the numbers are right, but the result still carries a graph: return x.detach() (hint 3)"
            if getattr(answer, "requires_grad", False)
            else None
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
            Misconception(
                "never",
                lambda encode, ids: False,
                "False for every encoder, and some do see it; if you wrote other = ids, both names are one tensor: "
                "change a copy, ids.clone() (hint 1)",
            ),
            Misconception(
                "only the first",
                lambda encode, ids: bool(_changed(encode, ids, -1)[0]),
                "you look at the first vector only; some encoders look just one token ahead (hint 2)",
            ),
            Misconception(
                "only the last but one",
                lambda encode, ids: bool(_changed(encode, ids, -1)[-2]),
                "you look at the last vector but one only; in some encoders another one sees the end (hint 2)",
            ),
        ),
        cases=14,
        show=lambda call: f"an encoder of the kind '{call[0].args[0]}', and {len(call[1])} ids",
    ),
)
