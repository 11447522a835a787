"""Exercises of lesson 04: counts of hidden tokens, masking, pseudo-perplexity, NSP, a contrastive loss."""

from __future__ import annotations

import math
import random

import torch

from inside_bert.exercises.grading import Exercise, Misconception

MASK_ID = 3


# 4.2 ---------------------------------------------------------------------------------------------------------------
def _apply(ids, special, lot, fate, random_ids, mask_id, *, spare=True, labels=True, first=0.8, second=0.9):
    chosen = (lot < 0.15) & ~special if spare else lot < 0.15
    inputs = ids.masked_fill(chosen & (fate < first), mask_id)
    inputs = torch.where(chosen & (fate >= first) & (fate < second), random_ids, inputs)
    return inputs, ids.masked_fill(~chosen, -100) if labels else ids.clone()


def _with_all_bugs(ids, special, lot, fate, random_ids, mask_id):
    inputs, chosen = ids.clone(), lot < 0.15
    inputs[chosen & (fate < 0.8)] = mask_id
    inputs[chosen & (fate >= 0.1)] = random_ids[chosen & (fate >= 0.1)]
    return inputs, ids.clone()


def _inputs_as_labels(ids, special, lot, fate, random_ids, mask_id):
    inputs, _ = _apply(ids, special, lot, fate, random_ids, mask_id)
    chosen = (lot < 0.15) & ~special
    return inputs, inputs.masked_fill(~chosen, -100)


def _only_masked_labels(ids, special, lot, fate, random_ids, mask_id):
    inputs, _ = _apply(ids, special, lot, fate, random_ids, mask_id)
    return inputs, ids.masked_fill(~((lot < 0.15) & ~special & (fate < 0.8)), -100)


def _over_masks(ids, special, lot, fate, random_ids, mask_id):
    chosen = (lot < 0.15) & ~special
    inputs = ids.masked_fill(chosen & (fate < 0.8), mask_id)
    return torch.where(chosen & (fate >= 0.1), random_ids, inputs), ids.masked_fill(~chosen, -100)


def _last_replaced(ids, special, lot, fate, random_ids, mask_id):
    chosen = (lot < 0.15) & ~special
    inputs = ids.masked_fill(chosen & (fate < 0.8), mask_id)
    return torch.where(chosen & (fate >= 0.9), random_ids, inputs), ids.masked_fill(~chosen, -100)


def _batch_to_mask(rng: random.Random) -> tuple:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    texts, tokens = rng.choice([(5, 40), (8, 30), (6, 50)])
    ids = torch.randint(5, 90, (texts, tokens), generator=generator)
    special = torch.zeros(texts, tokens, dtype=torch.bool)
    special[:, 0] = special[:, -6:] = True
    ids[:, 0], ids[:, -6], ids[:, -5:] = 1, 2, 0
    lot = torch.rand(texts, tokens, generator=generator) * 0.6  # many chosen, so each fate occurs
    fate = torch.rand(texts, tokens, generator=generator)
    return ids, special, lot, fate, torch.randint(5, 90, (texts, tokens), generator=generator), MASK_ID


# 4.3 ---------------------------------------------------------------------------------------------------------------
class _Scorer:
    """A model in miniature: log-probabilities that depend on the ids of the whole row and on the place."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(12, 12, generator=generator)
        self.places = torch.randn(16, 12, generator=generator)

    def __call__(self, batch):
        if batch.dim() != 2:
            raise ValueError(f"log_probabilities takes ids of shape (n, T), not {tuple(batch.shape)}")
        mixed = self.table[batch]  # (n, T, V)
        return (mixed.mean(dim=1, keepdim=True) + mixed + self.places[: batch.shape[1]]).log_softmax(dim=-1)

    def __eq__(self, other: object) -> bool:  # a copy is the same scorer: nothing that is handed in was changed
        return isinstance(other, _Scorer) and torch.equal(self.table, other.table)

    __hash__ = None

    def __repr__(self) -> str:
        return "log_probabilities"


def _perplexity(ids, mask_id, log_probabilities, *, hide=True, ends=1, sign=-1, mean=True, at_place=True):
    places = torch.arange(ends, len(ids) - ends)
    rows = ids.repeat(len(places), 1)
    if hide:
        rows[range(len(places)), places] = mask_id
    log_p = log_probabilities(rows)
    picked = log_p[range(len(places)), places if at_place else 0, ids[places]]
    return float((sign * (picked.mean() if mean else picked.sum())).exp())


def _all_hidden(ids, mask_id, log_probabilities):
    rows = ids.clone()
    rows[1:-1] = mask_id
    places = torch.arange(1, len(ids) - 1)
    return float((-log_probabilities(rows[None])[0, places, ids[places]].mean()).exp())


def _piled_up(ids, mask_id, log_probabilities):
    row, scores = ids.clone(), []
    for place in range(1, len(ids) - 1):
        row[place] = mask_id
        scores.append(log_probabilities(row[None])[0, place, ids[place]])
    return float((-torch.stack(scores).mean()).exp())


def _text_to_score(rng: random.Random) -> tuple:
    ids = torch.tensor([0, *(rng.randrange(3, 12) for _ in range(rng.choice([4, 6, 9]))), 1])
    return ids, 2, _Scorer(rng.randrange(10**6))


# 4.4 ---------------------------------------------------------------------------------------------------------------
def _nsp_logits(rng: random.Random) -> tuple:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return (2 * torch.randn(rng.choice([3, 4, 7]), 2, generator=generator),)


# 4.5 ---------------------------------------------------------------------------------------------------------------
def _unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def _nce(a, b, temperature, *, unit=True, scale=True, axis=1):
    similarity = (_unit(a) @ _unit(b).T if unit else a @ b.T) / (temperature if scale else 1)
    return float((similarity.logsumexp(dim=axis) - similarity.diagonal()).mean())


def _nce_without_partner(a, b, temperature):
    similarity = _unit(a) @ _unit(b).T / temperature
    others = similarity.masked_fill(torch.eye(len(a), dtype=torch.bool), -torch.inf)
    return float((others.logsumexp(dim=1) - similarity.diagonal()).mean())


def _two_views(rng: random.Random) -> tuple:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    texts, width = rng.choice([(4, 7), (5, 3), (6, 8)])
    a = torch.randn(texts, width, generator=generator)
    return a, a + 0.7 * torch.randn(texts, width, generator=generator), rng.choice([0.2, 0.5, 0.9])


EXERCISES = (
    Exercise(
        "4.1",
        "What the model is shown",
        "warm-up",
        4,
        lambda: [1500, 1200, 150, 150, 10000],
        "right: 15 % are chosen, and 80, 10 and 10 % of these are masked, replaced and kept",
        misconceptions=(
            Misconception(
                "shares of all tokens",
                [1500, 8000, 1000, 1000, 10000],
                "80, 10 and 10 % are shares of the chosen tokens, not of all (hint 1)",
            ),
            Misconception(
                "all chosen are masked",
                [1500, 1500, 0, 0, 10000],
                "not every chosen token is shown as [MASK]: 80 % are, 10 % are replaced, 10 % stay (hint 1)",
            ),
            Misconception(
                "shares instead of counts",
                [0.15, 0.12, 0.015, 0.015, 1],
                "those are the right shares; give numbers of tokens, out of 10,000",
            ),
            Misconception(
                "ELECTRA asks about the others",
                [1500, 1200, 150, 150, 8500],
                "the first four are right; ELECTRA asks about the chosen tokens, too (hint 2)",
            ),
            Misconception(
                "ELECTRA asks where BERT asks",
                [1500, 1200, 150, 150, 1500],
                "the first four are right; ELECTRA asks about every token, also those that nobody touched (hint 2)",
            ),
            Misconception(
                "kept means not chosen",
                [1500, 1200, 150, 8500, 10000],
                "(d) asks for chosen tokens that stay as they are; the others need not be predicted (hint 1)",
            ),
        ),
    ),
    Exercise(
        "4.2",
        "Find the bug: a masking that leaks",
        "core",
        10,
        _apply,
        "right: special tokens are spared, labels stand at the chosen places only, and the shares are 80, 10, 10",
        _batch_to_mask,
        keeps_inputs=True,
        misconceptions=(
            Misconception(
                "the version with all bugs", _with_all_bugs, "that is the version from above; three things are wrong"
            ),
            Misconception(
                "special tokens chosen",
                lambda *given: _apply(*given, spare=False),
                "special tokens must not be chosen: add `& ~special` (hint 1)",
            ),
            Misconception(
                "labels everywhere",
                lambda *given: _apply(*given, labels=False),
                "labels are -100 where nothing was chosen; else the loss rewards copying (hint 2)",
            ),
            Misconception(
                "labels from the changed inputs",
                _inputs_as_labels,
                "the labels hold what the model is shown; they have to hold the true ids, from input_ids",
            ),
            Misconception(
                "labels at masks only",
                _only_masked_labels,
                "replaced and kept tokens have to be predicted, too: a label for every chosen token",
            ),
            Misconception(
                "nothing kept",
                lambda *given: _apply(*given, second=1.1),
                "where fate is 0.9 or more, the chosen token stays as it is",
            ),
            Misconception(
                "shares turned round",
                lambda *given: _apply(*given, first=0.1, second=0.9),
                "80 % are masked and 10 % replaced; yours has it the other way round",
            ),
            Misconception(
                "no upper limit",
                _over_masks,
                "most masks are overwritten by random ids: fate >= 0.1 is nine in ten; replace where 0.8 <= fate < 0.9",
            ),
            Misconception(
                "replaced at the end",
                _last_replaced,
                "the share is right and the place is not: 0.8 <= fate < 0.9 is replaced, 0.9 and more stays",
            ),
            Misconception(
                "special tokens and labels",
                lambda *given: _apply(*given, spare=False, labels=False),
                "two faults are left: who may be chosen, and who gets a label (hints 1 and 2)",
            ),
        ),
    ),
    Exercise(
        "4.3",
        "Pseudo-perplexity",
        "core",
        8,
        _perplexity,
        "right: each token hidden in turn, read at its own place, the mean, the sign and the exponential",
        _text_to_score,
        keeps_inputs=True,
        misconceptions=(
            Misconception(
                "nothing hidden",
                lambda *given: _perplexity(*given, hide=False),
                "the tokens stand in plain view; hide each in turn, or the model only has to copy (hint 1)",
            ),
            Misconception(
                "all hidden at once",
                _all_hidden,
                "you hide all tokens at once; each gets a row of its own, with one mask (hint 1)",
            ),
            Misconception(
                "special tokens scored",
                lambda *given: _perplexity(*given, ends=0),
                "[CLS] and [SEP] are no words of the text; leave them out (hint 1)",
            ),
            Misconception(
                "sign lost",
                lambda *given: _perplexity(*given, sign=1),
                "that is the (geometric) mean probability; perplexity is its inverse: exp of the *negative* mean",
            ),
            Misconception(
                "sum for mean",
                lambda *given: _perplexity(*given, mean=False),
                "the sum grows with the length of the text; take the mean over its tokens",
            ),
            Misconception(
                "exp forgotten",
                lambda *given: math.log(_perplexity(*given)),
                "that is the mean of -log p; the perplexity is its exponential",
            ),
            Misconception(
                "masks pile up",
                _piled_up,
                "the earlier masks stay: start from a fresh copy of the text for each place (hint 1)",
            ),
            Misconception(
                "divided by T",
                lambda ids, *others: _perplexity(ids, *others) ** ((len(ids) - 2) / len(ids)),
                "[CLS] and [SEP] are not scored: the mean is over T - 2 tokens",
            ),
            Misconception(
                "read at [CLS]",
                lambda *given: _perplexity(*given, at_place=False),
                "read the log-probability at the hidden place, not at place 0 (hint 2)",
            ),
        ),
    ),
    Exercise(
        "4.4",
        "Does B follow A?",
        "core",
        5,
        lambda logits: logits.softmax(dim=-1)[:, 0],
        "right: index 0 is “B follows A”",
        _nsp_logits,
        misconceptions=(
            Misconception(
                "label order",
                lambda logits: logits.softmax(dim=-1)[:, 1],
                "that is the probability of “random”; in this library index 0 means “follows” (hint 1)",
            ),
            Misconception(
                "wrong axis",
                lambda logits: logits.softmax(dim=0)[:, 0],
                "softmax over the batch lets one pair's answer depend on the others; use the last axis (hint 2)",
            ),
            Misconception(
                "a logit", lambda logits: logits[:, 0], "those are logits; softmax makes probabilities of them (hint 2)"
            ),
            Misconception(
                "sigmoid",
                lambda logits: logits[:, 0].sigmoid(),
                "sigmoid would fit a single logit; with two, take the softmax over both (hint 2)",
            ),
        ),
    ),
    Exercise(
        "4.5",
        "A contrastive loss from two views",
        "stretch",
        12,
        _nce,
        "right: cosine, temperature, and the partner against all rows of the other view",
        _two_views,
        keeps_inputs=True,
        misconceptions=(
            Misconception(
                "no normalisation",
                lambda *given: _nce(*given, unit=False),
                "without length 1 that is a dot product, no cosine: long vectors win (hint 1)",
            ),
            Misconception(
                "no temperature",
                lambda *given: _nce(*given, scale=False),
                "divide the similarities by the temperature",
            ),
            Misconception(
                "wrong axis",
                lambda *given: _nce(*given, axis=0),
                "row i of a chooses among the rows of b: softmax along each row of a @ b.T, dim=1 (hint 2)",
            ),
            Misconception(
                "partner left out below",
                _nce_without_partner,
                "the partner belongs into the sum in the denominator, too: it is one of the choices",
            ),
            Misconception(
                "both directions",
                lambda *given: (_nce(*given) + _nce(*given, axis=0)) / 2,
                "that averages both directions, as CLIP does; here a chooses among the rows of b, one direction only",
            ),
            Misconception(
                "multiplied",
                lambda a, b, temperature: _nce(a, b, 1 / temperature),
                "divide by the temperature; a small one makes the choice sharper",
            ),
            Misconception(
                "only pulled together",
                lambda a, b, temperature: float((-(_unit(a) * _unit(b)).sum(-1) / temperature).mean()),
                "that only pulls partners together; without negatives all vectors collapse (4.7)",
            ),
        ),
    ),
)
