"""Exercises of lesson 02: softmax, attention, heads, pooling, masks."""

from __future__ import annotations

import random

import torch

from inside_bert.exercises.grading import Exercise, Misconception


def _normal(rng: random.Random, *shape: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return scale * torch.randn(*shape, generator=generator)


# 2.2 ---------------------------------------------------------------------------------------------------------------
def _attend(queries, keys, values, *, scale=lambda q, k: q.shape[-1] ** -0.5, dim=-1):
    scores = queries @ keys.transpose(-2, -1) * scale(queries, keys)
    return scores.softmax(dim=dim) @ values


def _heads(rng: random.Random) -> tuple:
    batch, heads, rows, columns, size = rng.choice([(2, 3, 5, 5, 4), (1, 2, 3, 6, 8), (2, 4, 6, 3, 5), (3, 1, 4, 7, 2)])
    return (
        _normal(rng, batch, heads, rows, size),
        _normal(rng, batch, heads, columns, size),
        _normal(rng, batch, heads, columns, size),
    )


# 2.3 ---------------------------------------------------------------------------------------------------------------
def _split(hidden, heads):
    return hidden.view(*hidden.shape[:2], heads, -1).transpose(1, 2)


def _vectors_and_heads(rng: random.Random) -> tuple:
    batch, tokens, heads, size = rng.choice([(2, 5, 3, 4), (1, 7, 2, 6), (3, 4, 5, 2), (2, 6, 4, 3)])
    return _normal(rng, batch, tokens, heads * size), heads


# 2.4 ---------------------------------------------------------------------------------------------------------------
def _mean(hidden, attention_mask):
    weight = attention_mask[..., None]
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


def _padded_vectors(rng: random.Random) -> tuple:
    texts, tokens, size = rng.choice([(2, 6, 4), (3, 7, 5), (4, 5, 3)])
    lengths = [tokens] + [rng.randrange(3, tokens) for _ in range(texts - 1)]
    rng.shuffle(lengths)
    mask = torch.tensor([[1] * length + [0] * (tokens - length) for length in lengths])
    return 1 + _normal(rng, texts, tokens, size), mask


# 2.5 ---------------------------------------------------------------------------------------------------------------
def _masked_softmax(scores, mask):
    visible = mask[:, None, :].bool()
    return scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(dim=-1) * visible


def _scores_and_mask(rng: random.Random) -> tuple:
    texts, tokens = rng.choice([(3, 5), (4, 6), (3, 4)])
    lengths = [tokens, rng.randrange(1, tokens), 0] + [rng.randrange(1, tokens) for _ in range(texts - 3)]
    mask = torch.tensor([[1] * length + [0] * (tokens - length) for length in lengths])
    return _normal(rng, texts, tokens, tokens, scale=rng.choice([1.0, 2.0, 300.0])), mask


def _visible(mask):
    return mask[:, None, :].bool()


EXERCISES = (
    Exercise(
        "2.1",
        "Shares",
        "warm-up",
        4,
        lambda: [1 / 7, 2 / 7, 4 / 7],
        "right: the exponentials are 1, 2 and 4, and their sum is 7",
        misconceptions=(
            Misconception(
                "shares of the scores",
                [0.0, 1 / 3, 2 / 3],
                "those are shares of the scores (or exp(0) taken as 0, but it is 1); softmax takes shares of exponentials (hint 1)",
            ),
            Misconception(
                "the exponentials",
                [1.0, 2.0, 4.0],
                "those are the exponentials; they do not sum to 1 yet (hint 2)",
            ),
            Misconception(
                "the largest alone",
                [0.0, 0.0, 1.0],
                "that is argmax: softmax gives every key a share (hint 1)",
            ),
            Misconception(
                "rounded", [0.143, 0.286, 0.571], "nearly: these are rounded; write fractions, such as 1 / 3"
            ),
            Misconception(
                "rounded to four", [0.1429, 0.2857, 0.5714], "nearly: these are rounded; write fractions, such as 1 / 3"
            ),
            Misconception(
                "turned round", [4 / 7, 2 / 7, 1 / 7], "turned round: the largest score gets the largest share (hint 1)"
            ),
            Misconception(
                "divided by the largest", [1 / 4, 1 / 2, 1.0], "you divide by the largest; divide by the sum (hint 2)"
            ),
            Misconception("equal shares", [1 / 3] * 3, "equal shares belong to equal scores (hint 1)"),
        ),
    ),
    Exercise(
        "2.2",
        "Attention in three lines",
        "core",
        8,
        _attend,
        "right: scaled, softmax over the keys, and the mixture of the values",
        _heads,
        (
            Misconception(
                "no root of d",
                lambda q, k, v: _attend(q, k, v, scale=lambda q, k: 1),
                "the scores are not divided by √d; the softmax saturates (hint 1)",
            ),
            Misconception(
                "divided by d",
                lambda q, k, v: _attend(q, k, v, scale=lambda q, k: 1 / q.shape[-1]),
                "you divide by d; it is the root of d (hint 1)",
            ),
            Misconception(
                "root of the number of keys",
                lambda q, k, v: _attend(q, k, v, scale=lambda q, k: k.shape[-2] ** -0.5),
                "you divide by the root of the number of keys; d is the length of one query (hint 1)",
            ),
            Misconception(
                "root of the number of queries",
                lambda q, k, v: _attend(q, k, v, scale=lambda q, k: q.shape[-2] ** -0.5),
                "you divide by the root of the number of queries; d is the length of one query (hint 1)",
            ),
            Misconception(
                "multiplied by the root",
                lambda q, k, v: _attend(q, k, v, scale=lambda q, k: q.shape[-1] ** 0.5),
                "you multiply by √d; divide (hint 1)",
            ),
            Misconception(
                "softmax over the queries",
                lambda q, k, v: _attend(q, k, v, dim=-2),
                "your weights sum to 1 over the queries; each query shares out 1 among the keys (hint 2)",
            ),
            Misconception(
                "softmax over the heads",
                lambda q, k, v: _attend(q, k, v, dim=1),
                "your weights sum to 1 over the heads; each query shares out 1 among the keys (hint 2)",
            ),
            Misconception(
                "softmax over the batch",
                lambda q, k, v: _attend(q, k, v, dim=0),
                "your weights sum to 1 over the batch; each query shares out 1 among the keys (hint 2)",
            ),
            Misconception(
                "no softmax",
                lambda q, k, v: q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 @ v,
                "the scores are scaled, but no softmax makes shares of them (hint 2)",
            ),
            Misconception(
                "weights and context",
                lambda q, k, v: ((q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1), _attend(q, k, v)),
                "you return a pair; the task asks for the context alone",
            ),
            Misconception(
                "context and weights",
                lambda q, k, v: (_attend(q, k, v), (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)),
                "you return a pair; the task asks for the context alone",
            ),
            Misconception(
                "scaled after the softmax",
                lambda q, k, v: (q @ k.transpose(-2, -1)).softmax(dim=-1) * q.shape[-1] ** -0.5 @ v,
                "you divide the weights; divide the scores, before the softmax (hint 1)",
            ),
            Misconception(
                "the weights",
                lambda q, k, v: (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1),
                "those are the weights; the task asks for the context, weights @ values",
            ),
        ),
        show=lambda call: "queries, keys and values of shape " + ", ".join(str(tuple(part.shape)) for part in call),
    ),
    Exercise(
        "2.3",
        "Find the bug: mixed tokens",
        "core",
        8,
        _split,
        "right: the last axis is cut, and no number leaves its token",
        _vectors_and_heads,
        (
            Misconception(
                "one view",
                lambda hidden, heads: hidden.view(hidden.shape[0], heads, hidden.shape[1], -1),
                "that is the bug: numbers of several tokens share a row (hint 1)",
            ),
            Misconception(
                "exchanged before cutting",
                lambda hidden, heads: hidden.transpose(1, 2).reshape(hidden.shape[0], heads, hidden.shape[1], -1),
                "you exchange axes before cutting, so numbers leave their token: cut first (hint 2)",
            ),
            Misconception(
                "axes not exchanged",
                lambda hidden, heads: hidden.view(*hidden.shape[:2], heads, -1),
                "each token is cut rightly, but the shape is (B, T, H, d); exchange two axes (hint 2)",
            ),
            Misconception(
                "interleaved",
                lambda hidden, heads: hidden.view(*hidden.shape[:2], -1, heads).permute(0, 3, 1, 2),
                "your head 0 takes every H-th number of a token; it should take the first d (hint 2)",
            ),
            Misconception(
                "tokens and numbers exchanged",
                lambda hidden, heads: hidden.view(*hidden.shape[:2], heads, -1).permute(0, 2, 3, 1),
                "the shape is (B, H, d, T); tokens come before the numbers of a head (hint 2)",
            ),
        ),
        show=lambda call: f"hidden of shape {tuple(call[0].shape)}, heads={call[1]}",
    ),
    Exercise(
        "2.4",
        "The mean without padding",
        "core",
        8,
        _mean,
        "right: padding neither adds to the sum nor counts as a token",
        _padded_vectors,
        (
            Misconception(
                "padding averaged in",
                lambda hidden, mask: hidden.mean(dim=1),
                "the vectors at [PAD] are averaged in, and they mean nothing (hint 1)",
            ),
            Misconception(
                "divided by T",
                lambda hidden, mask: (hidden * mask[..., None]).mean(dim=1),
                "the sum is right; divide it by the number of real tokens, not by T (hint 2)",
            ),
            Misconception(
                "the sum",
                lambda hidden, mask: (hidden * mask[..., None]).sum(dim=1),
                "that is the sum over the real tokens; divide it by their number (hint 2)",
            ),
            Misconception(
                "padding in the sum",
                lambda hidden, mask: hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True),
                "you divide by the right number, but the sum still holds the vectors at [PAD] (hint 1)",
            ),
            Misconception(
                "divided by all tokens of the batch",
                lambda hidden, mask: (hidden * mask[..., None]).sum(dim=1) / mask.sum(),
                "you divide by the tokens of the whole batch; each text has its own number (hint 2)",
            ),
            Misconception(
                "the padding",
                lambda hidden, mask: _mean(hidden, 1 - mask),
                "you average the padding: in the mask 1 means token",
            ),
            Misconception(
                "without [SEP]",
                lambda hidden, mask: _mean(hidden, mask * (torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True) - 1)),
                "the mean is right but for [SEP], which counts as a token here",
            ),
            Misconception(
                "the largest",
                lambda hidden, mask: hidden.masked_fill(mask[..., None] == 0, -torch.inf).amax(dim=1),
                "that is the largest of each number over the tokens; the task asks for their mean (hint 2)",
            ),
            Misconception("the vector at [CLS]", lambda hidden, mask: hidden[:, 0], "that is the vector at [CLS]"),
            Misconception(
                "without [CLS]",
                lambda hidden, mask: _mean(hidden[:, 1:], mask[:, 1:]),
                "the mean is right but for [CLS], which counts as a token here",
            ),
            Misconception(
                "mean over the batch",
                lambda hidden, mask: hidden.mean(dim=0),
                "that is a mean over the texts; the task asks for one over the tokens of each text (hint 1)",
            ),
        ),
        show=lambda call: f"hidden of shape {tuple(call[0].shape)}, texts of {call[1].sum(1).tolist()} tokens",
    ),
    Exercise(
        "2.5",
        "A softmax that survives an empty text",
        "stretch",
        12,
        _masked_softmax,
        "right: padding gets 0, the rest shares 1, and an empty text stays finite",
        _scores_and_mask,
        (
            Misconception(
                "equal shares for an empty text",
                lambda scores, mask: scores.masked_fill(~_visible(mask), torch.finfo(scores.dtype).min).softmax(-1),
                "all is right but the empty text: its weights are equal shares, and should be 0 (hint 2)",
            ),
            Misconception(
                "a row of -inf",
                lambda scores, mask: scores.masked_fill(~_visible(mask), -torch.inf).softmax(-1),
                "an empty text is a row of −∞ alone: its softmax is NaN, and NaN times 0 is still NaN (hint 2)",
            ),
            Misconception(
                "renormalized afterwards",
                lambda scores, mask: (
                    (scores.softmax(-1) * _visible(mask))
                    / (scores.softmax(-1) * _visible(mask)).sum(-1, keepdim=True).clamp_min(1e-9)
                ),
                "right for small scores; with large ones the tokens' shares vanish beside the padding's (hint 3)",
            ),
            Misconception(
                "weights zeroed afterwards",
                lambda scores, mask: scores.softmax(dim=-1) * _visible(mask),
                "padding gets 0, but the others no longer share 1: hide the scores before the softmax (hint 1)",
            ),
            Misconception(
                "scores zeroed",
                lambda scores, mask: (scores * _visible(mask)).softmax(dim=-1),
                "a score of 0 is not hidden: exp(0) is 1 (hint 2)",
            ),
            Misconception(
                "scores zeroed, then the weights",
                lambda scores, mask: (scores * _visible(mask)).softmax(dim=-1) * _visible(mask),
                "the scores of padding are 0 in your softmax, so it takes part; exp(0) is 1 (hint 2)",
            ),
            Misconception(
                "rows hidden",
                lambda scores, mask: (
                    scores.masked_fill(~mask[:, :, None].bool(), torch.finfo(scores.dtype).min).softmax(-1)
                    * mask[:, :, None]
                ),
                "you hide rows, that is queries; hide the columns, the keys (hint 1)",
            ),
            Misconception(
                "no mask",
                lambda scores, mask: scores.softmax(dim=-1),
                "the mask is not used: padding gets a share (hint 1)",
            ),
        ),
        show=lambda call: f"scores of shape {tuple(call[0].shape)}, texts of {call[1].sum(1).tolist()} tokens",
    ),
)
