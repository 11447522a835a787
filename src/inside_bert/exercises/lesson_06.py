"""Exercises of lesson 06: F1 of answers, tokens of an answer, the best valid span, windows, when to decline."""

from __future__ import annotations

import math
import random
from functools import partial

import torch

from inside_bert.exercises.grading import Exercise, Misconception

OUTSIDE = -math.inf  # the score of a span that is not valid


# 6.2 ---------------------------------------------------------------------------------------------------------------
def _positions(offsets, start_char, end_char, *, left=True, right=True, edge=0, touch=0):
    """Return first and last token; `edge` and `touch` move the comparisons by one character, as >= for > does."""
    inside = _passage(offsets)
    if left and offsets[inside[0]][0] > start_char - edge or right and offsets[inside[-1]][1] < end_char + edge:
        return 0, 0
    found = [n for n in inside if offsets[n][1] > start_char - touch and offsets[n][0] < end_char + touch]
    return (found[0], found[-1]) if found else (0, 0)


def _passage(offsets):
    return [n for n, pair in enumerate(offsets) if pair is not None]


def _otherwise(missing, found=lambda offsets, first, last: (first, last)):
    """Return a version that says `missing(offsets)` for a missing answer, and makes `found` of a present one."""

    def positions(offsets, start_char, end_char):
        first, last = _positions(offsets, start_char, end_char)
        return found(offsets, first, last) if last else missing(offsets)

    return positions


def _exclusive(offsets, first, last):
    return first, last + 1


def _from_the_passage(offsets, first, last):
    return first - _passage(offsets)[0], last - _passage(offsets)[0]


def _last_token(offsets):
    return len(offsets) - 1, len(offsets) - 1


def _last_of_the_passage(offsets):
    return _passage(offsets)[-1], _passage(offsets)[-1]


def _cls(offsets):
    return 0, 0


def _equal_characters(offsets, start_char, end_char, *, start=True, end=True):
    first, last = _positions(offsets, start_char, end_char)
    if last and (start and offsets[first][0] != start_char or end and offsets[last][1] != end_char):
        return 0, 0
    return first, last


def _window_and_answer(rng: random.Random) -> tuple:
    at, tokens = rng.choice([0, 3]), []
    for _ in range(rng.choice([8, 10, 12])):
        tokens.append((at, at + rng.randrange(1, 6)))
        at = tokens[-1][1] + rng.choice([0, 1, 1])  # a piece of a word follows without a space
    first, length = rng.randrange(2, len(tokens) - 5), rng.choice([1, 2, 3])
    last = first + length - 1
    low, high = {  # of the window, inclusive
        "whole": (rng.randrange(first), rng.randrange(last + 1, len(tokens))),
        "at an edge": rng.choice([(first, len(tokens) - 1), (0, last), (first, last)]),
        "cut on the left": (first + 1, len(tokens) - 1),
        "cut on the right": (0, last - 1),
        "before the window": (last + 2, len(tokens) - 1),
        "behind the window": (0, first - 2),
    }[_kind(rng)]
    start, end = tokens[first][0], tokens[last][1]
    if rng.random() < 0.4:  # an answer may begin or end within a token
        start = rng.randrange(start, tokens[first][1])
    if rng.random() < 0.4:
        end = rng.randrange(max(start, tokens[last][0]) + 1, end + 1)
    before, after = [None] * rng.choice([4, 5, 7]), [None] * rng.choice([1, 1, 4])
    return [*before, *tokens[low : high + 1], *after], start, end


def _kind(rng: random.Random) -> str:
    kinds = ["whole", "at an edge", "cut on the left", "cut on the right", "before the window", "behind the window"]
    return rng.choices(kinds, [4, 3, 2, 2, 1, 1])[0]


# 6.3 ---------------------------------------------------------------------------------------------------------------
def _best_span(start_logits, end_logits, inside, max_tokens, *, more=0, combine=torch.add, ordered=True, ends="both"):
    scores = combine(start_logits[:, None], end_logits[None, :])  # (T, T)
    valid = torch.ones_like(scores, dtype=torch.bool).tril(max_tokens - 1 + more)
    if ordered:
        valid = valid.triu()
    if ends in ("both", "start"):
        valid = valid & inside[:, None]
    if ends in ("both", "end"):
        valid = valid & inside[None, :]
    return divmod(int(scores.masked_fill(~valid, OUTSIDE).argmax()), len(inside))


def _two_choices(start_logits, end_logits, inside, max_tokens):
    return int(start_logits.argmax()), int(end_logits.argmax())


def _two_choices_inside(start_logits, end_logits, inside, max_tokens):
    return _two_choices(start_logits.masked_fill(~inside, OUTSIDE), end_logits.masked_fill(~inside, OUTSIDE), None, 0)


def _start_first(start_logits, end_logits, inside, max_tokens):
    first = int(start_logits.masked_fill(~inside, OUTSIDE).argmax())
    fixed = torch.full_like(start_logits, OUTSIDE)
    fixed[first] = 0.0
    return _best_span(fixed, end_logits, inside, max_tokens)


def _masked_with_zeros(start_logits, end_logits, inside, max_tokens):
    scores = (start_logits[:, None] + end_logits[None, :]).triu().tril(max_tokens - 1)
    scores = scores.masked_fill(~(inside[:, None] & inside[None, :]), float("-inf"))
    return divmod(scores.argmax().item(), len(inside))


def _logits_and_passage(rng: random.Random) -> tuple:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    question, passage, padding = rng.choice([4, 5, 6]), rng.choice([5, 7, 9]), rng.choice([1, 3])
    tokens = question + passage + padding
    inside = torch.zeros(tokens, dtype=torch.bool)
    inside[question : question + passage] = True
    shift = rng.choice([0.0, -8.0])  # a sum may be below zero, and a mask of zeros then wins
    start_logits, end_logits = (2 * torch.randn(tokens, generator=generator) + shift for _ in range(2))
    return start_logits, end_logits, inside, rng.choice([2, 3, 4])


# 6.4 ---------------------------------------------------------------------------------------------------------------
def _spans(tokens, room, stride, *, step=None, enough=0):
    step = step or room - stride
    spans, first = [(0, min(room, tokens))], 0
    while first + room < tokens + enough:
        first += step
        spans.append((first, min(first + room, tokens)))
    return spans


def _until_nothing_is_left(tokens, room, stride):
    return [(first, min(first + room, tokens)) for first in range(0, tokens, room - stride)]


def _passage_and_room(rng: random.Random) -> tuple:
    room = rng.choice([5, 6, 8, 10])
    stride = rng.randrange(1, room)
    fits = room + rng.choice([1, 2, 4]) * (room - stride)  # the last window ends exactly where the passage ends
    return rng.choice([room - 2, room, fits, fits + 1, rng.randrange(12, 40), rng.randrange(12, 40)]), room, stride


# 6.5 ---------------------------------------------------------------------------------------------------------------
def _best(margins, f1, answerable, *, reaches=lambda margin, threshold: margin >= threshold,
          given=lambda f, a: f if a else 0.0, none=lambda a: float(not a), infinity=True, highest=False,
          score_itself=False):  # fmt: skip
    """Return the threshold; `given` and `none` say what an answer and "none" score, from F1 and answerability."""
    best, found = -1.0, math.nan
    for threshold in sorted([*margins, *[math.inf] * infinity], reverse=highest):
        score = sum(given(f, a) if reaches(m, threshold) else none(a) for m, f, a in zip(margins, f1, answerable))
        if score > best:
            best, found = score, threshold
    return best / len(margins) if score_itself else found


def _judged_answers(rng: random.Random) -> tuple:
    questions, share = rng.choice([5, 7, 9]), rng.choice([0.25, 0.5, 0.5, 0.75, 0.9])
    answerable = [rng.random() < share for _ in range(questions)]
    margins = [round(rng.gauss(1.5 * known, 1.5), 1) for known in answerable]
    if rng.random() < 0.5:  # two alike of which one has an answer: no threshold tells them apart
        margins[0], answerable[0], answerable[-1] = margins[-1], False, True
    f1 = [rng.choice([0.0, 0.25, 0.5, 0.75, 1.0, 1.0]) for _ in answerable]  # sums are exact, in whatever order
    return margins, f1, answerable


EXERCISES = (
    Exercise(
        "6.1",
        "Half right",
        "warm-up",
        4,
        lambda: [1.0, 6 / 7, 1 / 2, 0.0],
        "right: articles and punctuation go, words are counted, and the best reference decides",
        misconceptions=(
            Misconception(
                "exact match",
                [1.0, 0.0, 0.0, 0.0],
                "that is the exact match, all or nothing; F1 counts the words that (b) and (c) hit (hint 2)",
            ),
            Misconception(
                "only the first reference",
                [4 / 5, 6 / 7, 1 / 2, 0.0],
                "three are right; 4/5 is (a) against the first reference alone, or with “the” counted (hint 1)",
            ),
            Misconception(
                "only the second reference",
                [1.0, 2 / 3, 0.0, 0.0],
                "those are scores against “Ana Paz” alone; for each guess the better reference counts (hint 2)",
            ),
            Misconception(
                "mean over the references",
                [9 / 10, 16 / 21, 1 / 4, 0.0],
                "you take the mean over both references; the better one counts, for each guess (hint 2)",
            ),
            Misconception(
                "articles counted",
                [4 / 5, 3 / 4, 1 / 2, 0.0],
                "you count “the” and “a” as words; articles go before the words are counted (hint 1)",
            ),
            Misconception(
                "punctuation counted",
                [1.0, 4 / 7, 1 / 2, 0.0],
                "three are right; in (b) you let “Paz,” differ from “Paz”: punctuation goes first (hint 1)",
            ),
            Misconception(
                "articles and punctuation counted",
                [4 / 5, 1 / 2, 1 / 2, 0.0],
                "the words are counted as they stand; articles and punctuation go first (hint 1)",
            ),
            Misconception(
                "precision",
                [1.0, 3 / 4, 1.0, 0.0],
                "that is the precision, hits per word of the guess; F1 brings in the recall as well (hint 2)",
            ),
            Misconception(
                "recall",
                [1.0, 1.0, 1 / 3, 0.0],
                "that is the recall, hits per word of the reference; F1 brings in the precision as well (hint 2)",
            ),
            Misconception(
                "mean of precision and recall",
                [1.0, 7 / 8, 2 / 3, 0.0],
                "you take the plain mean of precision and recall; F1 is 2 · hits / (words of both) (hint 2)",
            ),
            Misconception(
                "(b) with its article, or its precision",
                [1.0, 3 / 4, 1 / 2, 0.0],
                "three are right; 3/4 is the precision of (b), or its F1 with “a” counted (hints 1 and 2)",
            ),
            Misconception(
                "(b) against the second reference",
                [1.0, 2 / 3, 1 / 2, 0.0],
                "three are right; 2/3 is (b) against “Ana Paz”; the other reference fits better (hint 2)",
            ),
            Misconception(
                "(b) is its recall",
                [1.0, 1.0, 1 / 2, 0.0],
                "three are right; (b) holds a whole reference and one word more, which lowers its precision (hint 2)",
            ),
            Misconception(
                "(c) is its precision",
                [1.0, 6 / 7, 1.0, 0.0],
                "three are right; 1 is the precision of (c): of three words of the reference it has one (hint 2)",
            ),
            Misconception(
                "(c) is its recall",
                [1.0, 6 / 7, 1 / 3, 0.0],
                "three are right; 1/3 is the recall of (c); its precision is 1, and F1 lies between them (hint 2)",
            ),
            Misconception(
                "(c) scores nothing",
                [1.0, 6 / 7, 0.0, 0.0],
                "three are right; “Lucía” stands in the first reference, so (c) shares a word with it (hint 2)",
            ),
            Misconception(
                "(d) is right",
                [1.0, 6 / 7, 1 / 2, 1.0],
                "the first three are right; an empty guess is right only where there is no answer, and here is one",
            ),
            *(
                Misconception(
                    f"rounded to {rounded}",
                    [1.0, rounded, 0.5, 0.0],
                    "nearly: (b) is rounded; write a fraction, such as 2 / 3",
                )
                for rounded in (0.86, 0.857)
            ),
        ),
    ),
    Exercise(
        "6.2",
        "Find the bug: labels beside the answer",
        "core",
        10,
        _positions,
        "right: the place that was given, the last token inclusive, and [CLS] where the answer is not whole",
        _window_and_answer,
        (
            Misconception(
                "exclusive end and the last token for a missing answer",
                _otherwise(_last_token, _exclusive),
                "two faults are left: the last token is one too far (hint 2), and a missing answer is (0, 0) (hint 3)",
            ),
            Misconception(
                "end exclusive",
                _otherwise(_cls, _exclusive),
                "`last` is one too far: it is the answer's last token itself, not the one behind it (hint 2)",
            ),
            Misconception(
                "the last token for a missing answer",
                _otherwise(_last_token),
                "a window without the answer is labelled with its last token; the label is (0, 0), [CLS] (hint 3)",
            ),
            Misconception(
                "the last passage token for a missing answer",
                _otherwise(_last_of_the_passage),
                "a window without the answer is labelled with the passage's last token; return (0, 0) (hint 3)",
            ),
            Misconception(
                "a part is enough",
                partial(_positions, left=False, right=False),
                "where the window cuts the answer, you label what is left of it; a part is no answer: (0, 0) (hint 3)",
            ),
            Misconception(
                "cut on the right",
                partial(_positions, right=False),
                "where the window ends within the answer, you label a part of it; return (0, 0) there, too (hint 3)",
            ),
            Misconception(
                "cut on the left",
                partial(_positions, left=False),
                "where the window begins within the answer, you label a part of it; return (0, 0) there, too (hint 3)",
            ),
            *(
                Misconception(
                    f"{missing} for a missing answer",
                    _otherwise(lambda offsets, missing=missing: missing),
                    f"you return {missing}: a missing answer has the place of [CLS], (0, 0) (hint 3)",
                )
                for missing in ((-1, -1), (-100, -100), None, (None, None))
            ),
            Misconception(
                "counted from the passage",
                _otherwise(_cls, _from_the_passage),
                "you count from the first token of the passage; the model counts all tokens, [CLS] is 0 (hint 2)",
            ),
            Misconception(
                "characters for tokens",
                _otherwise(_cls, lambda offsets, first, last: (offsets[first][0], offsets[last][1])),
                "those are characters; return positions of tokens, places in the list `offsets` (hint 2)",
            ),
            Misconception(
                "equal characters wanted",
                _equal_characters,
                "an answer that begins or ends within a token gets lost; compare with > and <, not with == (hint 1)",
            ),
            Misconception(
                "equal first characters wanted",
                partial(_equal_characters, end=False),
                "an answer that begins within a token gets lost; compare with >, not with == (hint 1)",
            ),
            Misconception(
                "equal last characters wanted",
                partial(_equal_characters, start=False),
                "an answer that ends within a token gets lost; compare with <, not with == (hint 1)",
            ),
            Misconception(
                "neighbours taken in",
                partial(_positions, touch=1),
                "a token that only touches the answer is taken in; ends are exclusive, so > and < (no =) (hint 1)",
            ),
            Misconception(
                "lost at the edge",
                partial(_positions, edge=1),
                "an answer that begins or ends exactly where the window does is whole; you call it missing (hint 3)",
            ),
        ),
        cases=40,
        show=lambda call: "start_char={1}, end_char={2}, offsets={0}".format(*call),
    ),
    Exercise(
        "6.3",
        "The best valid span",
        "core",
        10,
        _best_span,
        "right: the best sum of a pair, in the passage, in order, and not too long",
        _logits_and_passage,
        (
            Misconception(
                "two separate choices",
                _two_choices,
                "those are two separate argmaxes, over question and padding, too; compare valid pairs (hint 1)",
            ),
            Misconception(
                "two separate choices in the passage",
                _two_choices_inside,
                "those are two separate argmaxes: the end may come before the start, or far behind it (hint 1)",
            ),
            Misconception(
                "start first",
                _start_first,
                "you fix the best start, then look for an end; a lesser start may have a better sum (hint 1)",
            ),
            Misconception(
                "one token too many",
                partial(_best_span, more=1),
                "your spans may have max_tokens + 1 tokens: from first to last there are last - first + 1 (hint 2)",
            ),
            Misconception(
                "one token too few",
                partial(_best_span, more=-1),
                "your spans have max_tokens - 1 tokens at most; last - first may be max_tokens - 1 (hint 2)",
            ),
            Misconception(
                "no limit",
                lambda start, end, inside, max_tokens: _best_span(start, end, inside, len(inside)),
                "your spans may be of any length; they have max_tokens tokens at most (hint 2)",
            ),
            Misconception(
                "not in order",
                partial(_best_span, ordered=False),
                "your spans may end before they begin: first <= last (hint 2)",
            ),
            Misconception(
                "inside not applied",
                partial(_best_span, ends="none"),
                "your spans may lie in the question or the padding: `inside` has to hold at both ends (hint 3)",
            ),
            Misconception(
                "inside at the start only",
                partial(_best_span, ends="start"),
                "`inside` holds at the start of your spans; it has to hold at the end, too (hint 3)",
            ),
            Misconception(
                "inside at the end only",
                partial(_best_span, ends="end"),
                "`inside` holds at the end of your spans; it has to hold at the start, too (hint 3)",
            ),
            Misconception(
                "product",
                partial(_best_span, combine=torch.mul),
                "you multiply the logits; two bad ones would make a good pair: add them (hint 1)",
            ),
            Misconception(
                "masked with zeros",
                _masked_with_zeros,
                "pairs that are not valid score 0 in your table, and 0 beats every sum below zero; use -inf (hint 3)",
            ),
            Misconception(
                "place in the table",
                lambda *given: _best_span(*given)[0] * len(given[2]) + _best_span(*given)[1],
                "that is one place in the whole table; divmod(place, T) makes first and last of it (hint 3)",
            ),
            Misconception(
                "exclusive end",
                lambda *given: (_best_span(*given)[0], _best_span(*given)[1] + 1),
                "`last` is one too far: it is the last token of the span itself",
            ),
            Misconception(
                "start and end exchanged",
                lambda start, end, inside, max_tokens: _best_span(end, start, inside, max_tokens),
                "start_logits belong to `first` and end_logits to `last`; yours are exchanged",
            ),
        ),
        cases=24,
        show=lambda call: (
            f"T={len(call[2])}, inside from {call[2].int().argmax()}, {call[2].sum()} tokens, max_tokens={call[3]}"
        ),
    ),
    Exercise(
        "6.4",
        "Windows with a stride",
        "core",
        8,
        _spans,
        "right: each window begins `room - stride` behind the one before, and the first to reach the end is the last",
        _passage_and_room,
        (
            Misconception(
                "stride is the step",
                lambda tokens, room, stride: _spans(tokens, room, stride, step=stride),
                "you move on by `stride` tokens, as BERT's first code did; here neighbours share as many (hint 1)",
            ),
            Misconception(
                "no overlap",
                lambda tokens, room, stride: _spans(tokens, room, 0),
                "your windows share no token; each begins `room - stride` behind the one before (hint 1)",
            ),
            Misconception(
                "superfluous windows",
                _until_nothing_is_left,
                "windows too many: once one reaches the end, another would hold nothing new (hint 2)",
            ),
            Misconception(
                "superfluous where it fits",
                partial(_spans, enough=1),
                "one window too many where the last one ends exactly where the passage does (hint 2)",
            ),
            Misconception(
                "last window missing",
                lambda *given: [(a, b) for a, b in _spans(*given) if b - a == given[1]],
                "the last window is missing where it would not be full; then the end of the passage is lost (hint 3)",
            ),
            Misconception(
                "last window too long",
                lambda *given: [(a, a + given[1]) for a, _ in _spans(*given)],
                "your last window goes on behind the end of the passage; it ends at `tokens` (hint 3)",
            ),
            Misconception(
                "last window moved back",
                lambda *given: [(min(a, max(0, b - given[1])), b) for a, b in _spans(*given)],
                "you move the last window back until it is full; it begins where its turn is, and is shorter (hint 3)",
            ),
            Misconception(
                "end inclusive",
                lambda *given: [(a, b - 1) for a, b in _spans(*given)],
                "the second number is one beyond the last token, as in a slice",
            ),
        ),
        cases=24,
        show=lambda call: "tokens={}, room={}, stride={}".format(*call),
    ),
    Exercise(
        "6.5",
        "When to decline",
        "stretch",
        12,
        _best,
        "right: at least the threshold is an answer, declining can be right, and infinity declines everything",
        _judged_answers,
        (
            Misconception(
                "strictly above",
                partial(_best, reaches=lambda margin, threshold: margin > threshold),
                "a margin equal to the threshold gives the span, too: >=, not > (hint 1)",
            ),
            Misconception(
                "unanswerable counted by f1",
                partial(_best, given=lambda f, a: f),
                "a span for an unanswerable question scores 0, whatever stands in `f1` (hint 1)",
            ),
            Misconception(
                "never declines everything",
                partial(_best, infinity=False),
                "declining everything may be best: infinity is a candidate, too (hint 2)",
            ),
            Misconception(
                "the highest of equals",
                partial(_best, highest=True),
                "several thresholds are equally good, and yours is the highest; the lowest is asked for (hint 3)",
            ),
            Misconception(
                "declining is never right",
                partial(_best, none=lambda a: 0.0),
                "“none” scores nothing here, so everything is answered; it scores 1 where there is no answer (hint 1)",
            ),
            Misconception(
                "declining is always right",
                partial(_best, none=lambda a: 1.0),
                "“none” scores 1 even where there is an answer; it is right for unanswerable questions only (hint 1)",
            ),
            Misconception(
                "the wrong way round",
                partial(_best, reaches=lambda margin, threshold: margin < threshold),
                "your spans are given below the threshold; a large margin speaks for the span (hint 1)",
            ),
            Misconception(
                "the score itself",
                partial(_best, score_itself=True),
                "that is the highest mean score; return the threshold that reaches it (hint 3)",
            ),
        ),
        cases=30,
        show=lambda call: "margins={}, f1={}, answerable={}".format(*call),
    ),
)
