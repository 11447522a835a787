"""Exercises of lesson 03: breadth, head scores, rollout, ablation, rank agreement."""

from __future__ import annotations

import random

import torch

from inside_bert.exercises.grading import Exercise, Misconception


def _attention(rng: random.Random, *shape: int, sharp: float = 2.0) -> torch.Tensor:
    """Return random attention weights: the last axis sums to 1."""
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return (sharp * torch.randn(*shape, generator=generator)).softmax(dim=-1)


# 3.2 ---------------------------------------------------------------------------------------------------------------
def _previous(weights, mask, *, offset=-1, rows=slice(1, None)):
    before = weights.diagonal(offset=offset, dim1=-2, dim2=-1)
    real = mask[:, None, rows]
    return (before * real).sum(dim=(0, 2)) / real.sum()


def _padded_weights(rng: random.Random) -> tuple:
    texts, heads, tokens = rng.choice([(2, 3, 7), (3, 2, 6), (4, 5, 8)])
    lengths = [tokens] + [rng.randrange(3, tokens - 1) for _ in range(texts - 1)]
    mask = torch.tensor([[1] * length + [0] * (tokens - length) for length in lengths])
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    scores = 2 * torch.randn(texts, heads, tokens, tokens, generator=generator)
    return scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf).softmax(dim=-1), mask


# 3.3 ---------------------------------------------------------------------------------------------------------------
def _roll(attentions, *, residual=0.5, left=True, heads=lambda weights: weights.mean(0)):
    identity = torch.eye(attentions[0].shape[-1])
    result = identity
    for weights in attentions:
        layer = (1 - residual) * heads(weights) + residual * identity
        result = layer @ result if left else result @ layer
    return result


def _roll_from_the_start(attentions):
    identity = torch.eye(attentions[0].shape[-1])
    result = identity
    for weights in attentions:
        result = 0.5 * weights.mean(0) @ result + 0.5 * identity
    return result


def _layers(rng: random.Random) -> tuple:
    layers, heads, tokens = rng.choice([(2, 3, 5), (3, 2, 4), (4, 4, 6)])
    return ([_attention(rng, heads, tokens, tokens) for _ in range(layers)],)


# 3.4 ---------------------------------------------------------------------------------------------------------------
def _without_head(joined, head, heads):
    size = joined.shape[-1] // heads
    silenced = joined.clone()
    silenced[..., head * size : (head + 1) * size] = 0
    return silenced


def _joined(rng: random.Random) -> tuple:
    texts, tokens, heads, size = rng.choice([(2, 5, 3, 4), (1, 4, 4, 6), (3, 3, 5, 2)])
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return torch.randn(texts, tokens, heads * size, generator=generator), rng.choice([0, rng.randrange(heads)]), heads


def _zero(joined, places):
    silenced = joined.clone()
    silenced[..., places] = 0
    return silenced


# 3.5 ---------------------------------------------------------------------------------------------------------------
def _ranks(values):
    return [sorted(values).index(value) for value in values]


def _order(values):
    return sorted(range(len(values)), key=lambda n: values[n])


def _correlation(first, second):
    a, b = ([x - sum(row) / len(row) for x in row] for row in (first, second))
    product = sum(x * x for x in a) * sum(y * y for y in b)
    return sum(x * y for x, y in zip(a, b)) / product**0.5


def _spearman(first, second):
    return _correlation(_ranks(first), _ranks(second))


def _kendall(first, second):
    pairs = [(a, b) for b in range(len(first)) for a in range(b)]
    signs = [1 if (first[a] - first[b]) * (second[a] - second[b]) > 0 else -1 for a, b in pairs]
    return sum(signs) / len(pairs)


def _two_lists(rng: random.Random) -> tuple:
    size = rng.choice([5, 8, 12])
    first = [round(rng.lognormvariate(0, 1.5), 4) + n * 1e-5 for n in range(size)]
    second = [round(x ** rng.choice([0.5, 1, 2]) * rng.lognormvariate(0, 1), 4) + n * 1e-5 for n, x in enumerate(first)]
    return first, second


EXERCISES = (
    Exercise(
        "3.1",
        "How broad?",
        "warm-up",
        4,
        lambda: [1.0, 0.0, 0.5],
        "right: all alike is 1, a single token is 0, and log 2 is half of log 4",
        misconceptions=(
            Misconception(
                "turned round",
                [0.0, 1.0, 0.5],
                "turned round: entropy is large when the weight is spread, not when it is gathered (hint 1)",
            ),
            Misconception(
                "entropies in nats",
                [1.3862943611198906, 0.0, 0.6931471805599453],
                "those are the entropies; divide them by the largest, log 4 (hint 1)",
            ),
            Misconception(
                "entropies in bits", [2.0, 0.0, 1.0], "those are the entropies in bits; divide by the largest (hint 1)"
            ),
            Misconception(
                "largest weights",
                [0.25, 1.0, 0.5],
                "those are the largest weights; the breadth is an entropy (hint 1)",
            ),
            Misconception(
                "share of tokens used",
                [1.0, 0.25, 0.5],
                "that is the share of tokens that get any weight; for one token alone the entropy is 0 (hint 1)",
            ),
        ),
    ),
    Exercise(
        "3.2",
        "Find the bug: a diluted score",
        "core",
        10,
        _previous,
        "right: only real rows count, and each of them once",
        _padded_weights,
        (
            Misconception(
                "the bug",
                lambda weights, mask: weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, 2)),
                "that is the bug: rows of [PAD] are averaged in (hint 1)",
            ),
            Misconception(
                "mask of the wrong row",
                lambda weights, mask: _previous(weights, mask, rows=slice(None, -1)),
                "your mask is one place off: entry n of the diagonal belongs to row n + 1 (hint 1)",
            ),
            Misconception(
                "the next token",
                lambda weights, mask: _previous(weights, mask, offset=1),
                "that is the weight on the *next* token; the previous one lies below the diagonal, at offset -1",
            ),
            Misconception(
                "without [SEP]",
                lambda weights, mask: _previous(
                    weights, mask * (torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True) - 1)
                ),
                "you leave out the row of [SEP]; in this task it counts",
            ),
            Misconception(
                "divided by all",
                lambda weights, mask: (
                    (weights.diagonal(offset=-1, dim1=-2, dim2=-1) * mask[:, None, 1:]).mean(dim=(0, 2))
                ),
                "the sum is right; divide by the number of rows that counted (hint 3)",
            ),
            Misconception(
                "divided by all tokens",
                lambda weights, mask: (
                    (weights.diagonal(offset=-1, dim1=-2, dim2=-1) * mask[:, None, 1:]).sum(dim=(0, 2)) / mask.sum()
                ),
                "you divide by all tokens; the first of each text has none before it (hint 3)",
            ),
            Misconception(
                "mean of means",
                lambda weights, mask: (
                    (
                        (weights.diagonal(offset=-1, dim1=-2, dim2=-1) * mask[:, None, 1:]).sum(-1)
                        / mask[:, None, 1:].sum(-1)
                    ).mean(0)
                ),
                "a mean of the texts' means: tokens of short texts count for more; each should count once (hint 3)",
            ),
            Misconception(
                "the sum",
                lambda weights, mask: (weights.diagonal(offset=-1, dim1=-2, dim2=-1) * mask[:, None, 1:]).sum((0, 2)),
                "that is the sum; divide by the number of rows that counted (hint 3)",
            ),
        ),
        show=lambda call: f"weights of shape {tuple(call[0].shape)}, texts of {call[1].sum(1).tolist()} tokens",
    ),
    Exercise(
        "3.3",
        "Rollout",
        "core",
        10,
        _roll,
        "right: half for the residual, later layers to the left, and every row still sums to 1",
        _layers,
        (
            Misconception(
                "no residual",
                lambda attentions: _roll(attentions, residual=0),
                "the residual connection is missing: half of each layer is the identity (hint 1)",
            ),
            Misconception(
                "wrong order",
                lambda attentions: _roll(attentions, left=False),
                "the layers are multiplied in the wrong order: later ones stand to the left (hint 2)",
            ),
            Misconception(
                "residual to the first vectors",
                lambda attentions: _roll_from_the_start(attentions),
                "your residual adds the identity at every step; it adds what came out of the layer below (hint 2)",
            ),
            Misconception(
                "not halved",
                lambda attentions: _roll(attentions) * 2 ** len(attentions),
                "your rows sum to 2 to the power of the layers: take half of each part (hint 1)",
            ),
            Misconception(
                "sum of the heads",
                lambda attentions: _roll(attentions, heads=lambda weights: weights.sum(0)),
                "you add the heads up; take their mean (hint 1)",
            ),
            Misconception(
                "largest head",
                lambda attentions: _roll(attentions, heads=lambda weights: weights.amax(0)),
                "you take the largest head; take the mean over the heads (hint 1)",
            ),
            Misconception(
                "first head",
                lambda attentions: _roll(attentions, heads=lambda weights: weights[0]),
                "you take head 0 alone; take the mean over the heads (hint 1)",
            ),
            Misconception(
                "sum of the layers",
                lambda attentions: sum((weights.mean(0) for weights in attentions)) / len(attentions),
                "that is the mean over the layers; rollout multiplies them (hint 2)",
            ),
        ),
        show=lambda call: f"{len(call[0])} layers of shape {tuple(call[0][0].shape)}",
    ),
    Exercise(
        "3.4",
        "Silence one head",
        "core",
        8,
        _without_head,
        "right: one slice of numbers side by side is 0, and all others are untouched",
        _joined,
        (
            Misconception(
                "every H-th number",
                lambda joined, head, heads: _zero(joined, slice(head, None, heads)),
                "you silence every H-th number; a head owns numbers side by side (hint 1)",
            ),
            Misconception(
                "one number",
                lambda joined, head, heads: _zero(joined, slice(head, head + 1)),
                "you silence one number; a head owns d of them (hint 1)",
            ),
            Misconception(
                "the first numbers",
                lambda joined, head, heads: _zero(joined, slice(0, joined.shape[-1] // heads)),
                "you silence head 0; head number `head` begins at head * d (hint 1)",
            ),
            Misconception(
                "the head alone",
                lambda joined, head, heads: joined - _without_head(joined, head, heads),
                "turned round: you keep this head and silence all the others",
            ),
            Misconception(
                "numbers taken out",
                lambda joined, head, heads: torch.cat(
                    [
                        joined[..., : head * (joined.shape[-1] // heads)],
                        joined[..., (head + 1) * (joined.shape[-1] // heads) :],
                    ],
                    dim=-1,
                ),
                "the numbers are taken out; the shape has to stay (B, T, D), with zeros in their place",
            ),
            Misconception(
                "counted from 1",
                lambda joined, head, heads: _without_head(joined, head - 1, heads),
                "you silence the head before: they are counted from 0 (hint 1)",
            ),
        ),
        cases=10,
        keeps_inputs=True,
        show=lambda call: f"joined of shape {tuple(call[0].shape)}, head={call[1]}, heads={call[2]}",
    ),
    Exercise(
        "3.5",
        "Rank agreement",
        "stretch",
        12,
        _spearman,
        "right: ranks first, then their correlation",
        _two_lists,
        (
            Misconception(
                "no ranks",
                _correlation,
                "that is the correlation of the numbers themselves (Pearson); rank them first (hint 1)",
            ),
            Misconception(
                "argsort once",
                lambda first, second: _correlation(_order(first), _order(second)),
                "argsort once says where the smallest stands; it is not the rank of each number (hint 1)",
            ),
            Misconception(
                "turned round",
                lambda first, second: -_spearman(first, second),
                "the sign is turned: rank both lists in the same direction",
            ),
            Misconception(
                "no mean subtracted",
                lambda first, second: (
                    sum(a * b for a, b in zip(_ranks(first), _ranks(second)))
                    / sum(a * a for a in _ranks(first))
                ),
                "the means are not subtracted, so everything looks alike (hint 2)",
            ),
            Misconception(
                "Kendall's tau",
                lambda first, second: _kendall(first, second),
                "that is Kendall's tau, which counts pairs in order; Spearman's is the correlation of ranks (hint 2)",
            ),
            Misconception(
                "share of equal ranks",
                lambda first, second: sum(a == b for a, b in zip(_ranks(first), _ranks(second))) / len(first),
                "that is the share of equal ranks; the task asks for their correlation (hint 2)",
            ),
        ),
        cases=10,
        show=lambda call: f"two lists of {len(call[0])} numbers",
    ),
)
