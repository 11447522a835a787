"""Answers as spans of a passage: windows of tokens, positions from offsets, valid spans, exact match and F1.

Lesson 06 builds each of these by hand. Changes the weights of the model it trains; writes only to the folder it is
given; touches no network.
"""

from __future__ import annotations

import os
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inside_bert.finetuning import Recipe, digest, evaluating, train_epochs

if TYPE_CHECKING:
    import torch

    from inside_bert.training import Watch

ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Window:
    """A question and a piece of its passage, as one input of BERT: ``[CLS] question [SEP] piece [SEP]``, T tokens."""

    example: int  # number of the question that it belongs to
    input_ids: list[int]  # (T,)
    token_type_ids: list[int]  # (T,), 0 up to the first [SEP], then 1
    offsets: list[tuple[int, int] | None]  # (T,), characters of the whole passage; None for tokens outside of it
    start: int = 0  # token with which the answer begins; 0, the place of [CLS], where this window does not hold it
    end: int = 0  # token with which it ends, inclusive


@dataclass(frozen=True)
class Span:
    """A piece of a passage, and what a model says of it."""

    text: str
    start: int  # first character in the passage
    end: int  # one beyond its last character
    score: float  # start logit + end logit


@dataclass(frozen=True)
class Prediction:
    """The best spans of one passage, best first, and the score of "there is no answer here"."""

    spans: list[Span]
    null_score: float  # sum of both logits of [CLS] (Devlin et al. 2019, section 4.3), the smallest of all windows

    @property
    def margin(self) -> float:
        """How far the best span is above "no answer"; minus infinity where there is no span."""
        return self.spans[0].score - self.null_score if self.spans else float("-inf")


def normalize_answer(text: str) -> str:
    """Return `text` in lower case, without ASCII punctuation, articles and extra spaces (SQuAD's definition).

    Rajpurkar et al. 2016, section 6.1. Punctuation goes before articles, so that "a." goes, and "U.S." becomes "us".
    """
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact_match(guess: str, references: str | Sequence[str]) -> float:
    """Return 1.0 if `guess` equals one of `references` once both are normalized, else 0.0; no references: no answer."""
    return max(float(normalize_answer(guess) == normalize_answer(reference)) for reference in _several(references))


def answer_f1(guess: str, references: str | Sequence[str]) -> float:
    """Return the F1 of the words that `guess` shares with a reference, the best over `references`, from 0.0 to 1.0.

    Words are counted as often as they occur. Where guess or reference has no word left, they have to be equal (the
    definition of SQuAD 2.0: Rajpurkar et al. 2018); no references stand for a question without an answer.
    """
    return max(_word_f1(normalize_answer(guess).split(), normalize_answer(reference).split())
               for reference in _several(references))  # fmt: skip


def make_windows(tokenizer: Any, questions: Sequence[str], passages: Sequence[str],
                 answers: Sequence[tuple[int, int] | None] | None = None, *, max_length: int = 384,
                 stride: int = 128) -> list[Window]:  # fmt: skip
    """Return the windows of each question and its passage, in order; a passage that does not fit gets several.

    `answers` gives for each question the characters ``(start, end)`` of its answer, end exclusive, or None for no
    answer (`answer_span` takes them from SQuAD's `answers`); spaces at its edges do not count. `stride` is the number
    of passage tokens that two neighbours share. All three are read in order, whatever the index of a column is.

    Raises `ValueError` for an empty question or passage, for lists of different lengths, for an answer outside its
    passage or without a token, for windows longer than the tokenizer's `model_max_length`, and for a passage that
    needs several windows where its question leaves no room for more than the stride.
    """
    if isinstance(questions, str) or isinstance(passages, str):
        raise ValueError("one string was given; give a list of questions, and a list of as many passages.")
    questions, passages = list(questions), list(passages)
    answers = [None] * len(questions) if answers is None else list(answers)
    _check_examples(questions, passages, answers)
    if max_length > tokenizer.model_max_length:
        raise ValueError(f"max_length is {max_length}, and the tokenizer allows {tokenizer.model_max_length} at most.")
    _check_room(tokenizer, questions, passages, max_length, stride)
    answers = [None if span is None else _trimmed(text, *span) for text, span in zip(passages, answers)]
    encoded = tokenizer(
        questions, passages, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    owners, windows, labelled = encoded["overflow_to_sample_mapping"], [], set()
    for n, example in enumerate(owners):
        belongs = encoded.sequence_ids(n)  # None for special tokens, 0 for the question, 1 for the passage
        offsets = [tuple(o) if b == 1 else None for o, b in zip(encoded["offset_mapping"][n], belongs)]
        is_first, is_last = n == 0 or owners[n - 1] != example, n + 1 == len(owners) or owners[n + 1] != example
        start, end, touched = _positions(offsets, answers[example], is_first, is_last)
        if touched:
            labelled.add(example)
        windows.append(Window(example, encoded["input_ids"][n], encoded["token_type_ids"][n], offsets, start, end))
    for n, span in enumerate(answers):
        if span is not None and n not in labelled:
            raise ValueError(f"answer {n}, {passages[n][slice(*span)]!r:.40}, has no token of its own.")
    return windows


def answer_span(answers: dict) -> tuple[int, int] | None:
    """Return ``(start, end)`` of the first answer of SQuAD's dict of `text` and `answer_start`; None if it has none."""
    if not len(answers["text"]):
        return None
    start = int(answers["answer_start"][0])
    return start, start + len(answers["text"][0])


def fine_tune_spans(model: Any, tokenizer: Any, train: Sequence[Window], validation: Sequence[Window] | None = None,
                    recipe: Recipe = Recipe(), *, dtype: torch.dtype | None = None,
                    folder: str | os.PathLike | None = None, watch: Watch | None = None) -> list[dict]:  # fmt: skip
    """Fine-tune a model with a question-answering head on windows; return one row an epoch.

    A row holds `epoch`, `train_loss`, `seconds` and, with `validation`, `validation_loss`. Optimizer, early stopping,
    `folder`, `watch` and `FloatingPointError` are those of `inside_bert.fine_tune`; ``recipe.max_length`` does nothing
    here, because windows are cut already. Raises `ValueError` for no windows, for windows none of which holds an answer
    (were `answers` given to `make_windows`?), and for windows beyond the model's positions.
    """
    import torch

    if not train or (validation is not None and not validation):
        raise ValueError("no windows, nothing to learn from." if not train else "no windows to validate on.")
    if not any(window.end for window in train):
        raise ValueError("no window holds an answer; give `answers` to make_windows.")
    _check_positions(model, [*train, *(validation or [])])

    def batch_of(some: list[int]) -> dict:
        chosen = [train[n] for n in some]
        return _padded(tokenizer, chosen) | {
            "start_positions": torch.tensor([window.start for window in chosen]),
            "end_positions": torch.tensor([window.end for window in chosen]),
        }

    def judge() -> dict:
        losses = []
        for window, (starts, ends) in zip(validation, window_logits(model, tokenizer, validation, dtype=dtype)):
            for logits, place in ((starts, window.start), (ends, window.end)):
                losses.append(float(logits.logsumexp(dim=0) - logits[place]))
        return {"validation_loss": sum(losses) / len(losses)}

    plain = [[(w.input_ids, w.start, w.end) for w in windows] for windows in (train, validation or [])]
    return train_epochs(
        model, [len(window.input_ids) for window in train], batch_of, recipe, task={"set of windows": digest(plain)},
        judge=judge if validation else None, dtype=dtype, folder=folder, watch=watch,
    )  # fmt: skip


def window_logits(model: Any, tokenizer: Any, windows: Sequence[Window], *, dtype: torch.dtype | None = None,
                  batch_size: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:  # fmt: skip
    """Return start and end logits of each window, two tensors ``(T,)`` in float32 on the CPU, without padding.

    The model is in evaluation mode while it predicts, and afterwards as it was. Raises `ValueError` for no windows, and
    for windows beyond the model's positions.
    """
    if not windows or batch_size < 1:
        raise ValueError("no windows, nothing to predict." if not windows else "batch_size is at least 1.")
    _check_positions(model, windows)
    order = sorted(range(len(windows)), key=lambda n: len(windows[n].input_ids))
    found: list = [None] * len(windows)
    with evaluating(model, dtype):
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            batch = _padded(tokenizer, [windows[n] for n in some])
            out = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
            starts, ends = out.start_logits.float().cpu(), out.end_logits.float().cpu()
            for row, n in enumerate(some):
                length = len(windows[n].input_ids)
                found[n] = starts[row, :length].clone(), ends[row, :length].clone()
    return found


def best_spans(passage: str, windows: Sequence[Window], logits: Sequence[tuple[torch.Tensor, torch.Tensor]], *,
               count: int = 20, max_tokens: int = 30) -> Prediction:  # fmt: skip
    """Return the `count` best valid spans of one passage over all its windows (Devlin et al. 2019, section 4.2).

    `logits` are two tensors ``(T,)`` for each window, as from `window_logits`. Valid spans lie in the passage, do not
    end before they begin, and have at most `max_tokens` tokens (30, and the 20 best, as in BERT's `run_squad.py`). A
    span that several windows hold counts once, with its best score. Raises `ValueError` for no windows, and
    `FloatingPointError` for logits that are not finite.
    """
    import torch

    if not windows or count < 1 or max_tokens < 1:
        raise ValueError(f"{len(windows)} windows, count {count} and max_tokens {max_tokens}: each is at least 1.")
    best: dict[tuple[int, int], float] = {}
    null_score = float("inf")
    for window, pair in zip(windows, logits, strict=True):
        starts, ends = (tensor.float().cpu() for tensor in pair)
        if not (starts.isfinite().all() and ends.isfinite().all()):
            raise FloatingPointError("some logits are not finite; the training of this model has failed.")
        null_score = min(null_score, float(starts[0] + ends[0]))
        inside = torch.tensor([offset is not None for offset in window.offsets])
        scores = starts[:, None] + ends[None, :]  # (T, T)
        valid = inside[:, None] & inside[None, :]
        valid &= torch.ones_like(valid).triu() & torch.ones_like(valid).tril(max_tokens - 1)
        scores = scores.masked_fill(~valid, float("-inf")).flatten()
        top = scores.topk(min(10 * count, int(valid.sum())))  # tokens of one letter share offsets, and count once
        for score, at in zip(top.values.tolist(), top.indices.tolist()):
            first, last = divmod(at, len(window.offsets))
            place = window.offsets[first][0], window.offsets[last][1]
            best[place] = max(score, best.get(place, float("-inf")))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:count]
    return Prediction([Span(passage[a:b], a, b, score) for (a, b), score in ranked], null_score)


def predict_spans(model: Any, tokenizer: Any, questions: Sequence[str], passages: Sequence[str], *,
                  max_length: int = 384, stride: int = 128, max_tokens: int = 30, dtype: torch.dtype | None = None,
                  batch_size: int = 16) -> list[Prediction]:  # fmt: skip
    """Return one `Prediction` for each question and its passage, in order; errors are those of `make_windows`."""
    windows = make_windows(tokenizer, questions, passages, max_length=max_length, stride=stride)
    logits = window_logits(model, tokenizer, windows, dtype=dtype, batch_size=batch_size)
    by_example: list[list[int]] = [[] for _ in questions]
    for n, window in enumerate(windows):
        by_example[window.example].append(n)
    return [
        best_spans(passage, [windows[n] for n in some], [logits[n] for n in some], max_tokens=max_tokens)
        for passage, some in zip(passages, by_example)
    ]


def _several(references: str | Sequence[str]) -> list[str]:
    references = [references] if isinstance(references, str) else list(references)
    # as in the official script, references of which nothing is left do not count beside others
    return [reference for reference in references if normalize_answer(reference)] or [""]


def _word_f1(guess: list[str], reference: list[str]) -> float:
    if not guess or not reference:
        return float(guess == reference)
    shared = sum((Counter(guess) & Counter(reference)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(guess), shared / len(reference)
    return 2 * precision * recall / (precision + recall)


def _positions(offsets: list[tuple[int, int] | None], answer: tuple[int, int] | None, is_first: bool,
               is_last: bool) -> tuple[int, int, bool]:  # fmt: skip
    """Return first and last token of `answer`, or (0, 0), [CLS], where the window does not hold all of it.

    The third value says whether it holds any of it. `is_first` and `is_last` say whether the passage begins and ends in
    this window: then nothing is cut there.
    """
    inside = [n for n, offset in enumerate(offsets) if offset is not None]
    if answer is None or not inside:
        return 0, 0, False
    tokens = [n for n in inside if offsets[n][1] > answer[0] and offsets[n][0] < answer[1]]
    begins = is_first or offsets[inside[0]][0] <= answer[0]
    ends = is_last or offsets[inside[-1]][1] >= answer[1]
    return (tokens[0], tokens[-1], True) if tokens and begins and ends else (0, 0, bool(tokens))


def _trimmed(passage: str, start: int, end: int) -> tuple[int, int]:
    text = passage[start:end]
    return start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


def _padded(tokenizer: Any, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
    rows = {
        "input_ids": [window.input_ids for window in windows],
        "token_type_ids": [window.token_type_ids for window in windows],
    }
    return dict(tokenizer.pad(rows, pad_to_multiple_of=8, return_tensors="pt"))


def _check_examples(questions: list, passages: list, answers: list) -> None:
    if not questions or not len(questions) == len(passages) == len(answers):
        raise ValueError(
            f"{len(questions)} questions, {len(passages)} passages and {len(answers)} answers were given; there has to "
            "be one of each for every question (answers may be left out)."
        )
    for n, (question, passage, answer) in enumerate(zip(questions, passages, answers)):
        for name, text in (("question", question), ("passage", passage)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name} {n} is {text!r:.40}, and has to be text.")
        if answer is not None and not 0 <= answer[0] < answer[1] <= len(passage):
            raise ValueError(f"answer {n} goes from character {answer[0]} to {answer[1]}, and its passage has "
                             f"{len(passage)}; the end is exclusive.")  # fmt: skip
        if answer is not None and not passage[slice(*answer)].strip():
            raise ValueError(f"answer {n}, characters {answer[0]} to {answer[1]} of its passage, is empty.")


def _check_room(tokenizer: Any, questions: list[str], passages: list[str], max_length: int, stride: int) -> None:
    """Raise for a negative stride, a passage without tokens, and one that cannot move on from window to window."""
    if stride < 0:
        raise ValueError(f"stride is {stride}, the number of tokens that two windows share: at least 0.")
    asked, told = (
        tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] for texts in (questions, passages)
    )
    for n, (question, passage) in enumerate(zip(asked, told)):
        room = max_length - 3 - len(question)  # [CLS] and two [SEP]
        if not passage:
            raise ValueError(f"passage {n}, {passages[n]!r:.40}, has no tokens.")
        if len(passage) > room and room <= stride:
            raise ValueError(
                f"windows of {max_length} tokens leave {max(room, 0)} for the passage beside question {n} "
                f"({questions[n]!r:.60}), and neighbours share {stride}; take longer windows, or a shorter stride."
            )


def _check_positions(model: Any, windows: Sequence[Window]) -> None:
    longest, most = max(len(window.input_ids) for window in windows), model.config.max_position_embeddings
    if -(-longest // 8) * 8 > most:  # padded to a multiple of 8
        raise ValueError(f"a window has {longest} tokens, and this model reads {most}; take a shorter max_length.")
