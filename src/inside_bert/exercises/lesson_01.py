"""Exercises of lesson 01: segments, word pieces, masks, padding, windows."""

from __future__ import annotations

import random
from functools import lru_cache

import torch

from inside_bert.exercises.grading import Exercise, Misconception

CLS, SEP = 101, 102
SPECIAL = ("[CLS]", "[SEP]", "[PAD]")
SEGMENTS = [0] * 7 + [1] * 3  # [CLS] how old are you ? [SEP] ten . [SEP]


# 1.2 ---------------------------------------------------------------------------------------------------------------
def _join_pieces(tokens):
    words: list[str] = []
    for token in tokens:
        if token in SPECIAL:
            continue
        if token.startswith("##") and words:
            words[-1] += token[2:]
        else:
            words.append(token)
    return words


def _pieces(rng: random.Random) -> tuple:
    words = (["un", "##ha", "##pp", "##iness"], ["a"], ["token", "##ization"], ["cat"], ["pas", "##ar"], ["sat", "."])
    chosen = [piece for word in rng.sample(words, rng.choice([3, 4, 5])) for piece in word]
    return (["[CLS]", *chosen, "[SEP]"] + ["[PAD]"] * rng.choice([0, 2]),)


# 1.3 ---------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def _small_model():
    from transformers import BertConfig, BertModel

    torch_state = torch.get_rng_state()
    torch.manual_seed(13)
    config = BertConfig(
        vocab_size=40,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=24,
        max_position_embeddings=32,
        initializer_range=0.5,  # large, so that what is ignored shows
    )
    model = BertModel(config).eval()
    torch.set_rng_state(torch_state)
    return model


def _padded_pairs(rng: random.Random) -> tuple:
    rows, tokens = rng.choice([(2, 8), (3, 7), (4, 9)])
    ids, mask, segments = (torch.zeros(rows, tokens, dtype=torch.long) for _ in range(3))
    for row in range(rows):
        length = tokens if row == 0 else rng.randrange(3, tokens - 1)
        ids[row, :length] = torch.tensor([rng.randrange(5, 40) for _ in range(length)])
        mask[row, :length] = 1
        segments[row, rng.randrange(1, length - 1) : length] = 1
    return _small_model(), {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}


def _first_vectors(model, **inputs):
    with torch.no_grad():
        return model(**inputs).last_hidden_state[:, 0]


# 1.4 ---------------------------------------------------------------------------------------------------------------
def _padding(lengths, batch_size, *, sort=True, keep_last=True, global_longest=False):
    ordered = sorted(lengths) if sort else list(lengths)
    batches = [ordered[n : n + batch_size] for n in range(0, len(ordered), batch_size)]
    if not keep_last:
        batches = [batch for batch in batches if len(batch) == batch_size]
    return sum((max(lengths) if global_longest else max(batch)) * len(batch) - sum(batch) for batch in batches)


def _lengths(rng: random.Random) -> tuple:
    size = rng.choice([3, 4, 5])
    return [rng.randrange(3, 60) for _ in range(size * rng.choice([2, 3]) + rng.randrange(2, size))], size


# 1.5 ---------------------------------------------------------------------------------------------------------------
def _windows(ids, max_length, overlap, *, room=2, step=None, stop_early=True, keep_last=True):
    size = max_length - room
    windows, start = [], 0
    while True:
        chunk = ids[start : start + size]
        if keep_last or len(chunk) == size:
            windows.append([CLS, *chunk, SEP])
        start += step(size, overlap) if step else size - overlap
        if (stop_early and start + overlap >= len(ids)) or start >= len(ids):
            return windows


def _long_ids(rng: random.Random) -> tuple:
    max_length = rng.choice([8, 10, 12])
    return [rng.randrange(1000, 2000) for _ in range(rng.randrange(14, 40))], max_length, rng.choice([1, 2, 3])


EXERCISES = (
    Exercise(
        "1.1",
        "Predict the segments",
        "warm-up",
        3,
        lambda: SEGMENTS,
        "right: [CLS], the first text and its [SEP] are segment 0; the second text and its [SEP] are segment 1",
        misconceptions=(
            Misconception(
                "zero then ones",
                [0] + [1] * 9,
                "[0, 1, 1, …] circulates in tutorials; segments say which of two *texts* a token belongs to",
            ),
            Misconception("last separator", [0] * 7 + [1, 1, 0], "the last [SEP] closes the second text: it is 1, too"),
            Misconception("first separator", [0] * 6 + [1] * 4, "the first [SEP] closes the first text: it is still 0"),
        ),
    ),
    Exercise(
        "1.2",
        "Pieces back to words",
        "core",
        8,
        _join_pieces,
        "right: a piece that begins with ## continues the word before it",
        _pieces,
        (
            Misconception(
                "stripped, not joined",
                lambda tokens: [token.removeprefix("##") for token in tokens if token not in SPECIAL],
                "the ## are gone, but the pieces still stand alone; add a piece to the word before it (hint 1)",
            ),
            Misconception(
                "special tokens kept",
                lambda tokens: " ".join(tokens).replace(" ##", "").split(),
                "the words are right; [CLS], [SEP] and [PAD] are not words of the text (hint 2)",
            ),
            Misconception(
                "only dropped the special tokens",
                lambda tokens: [token for token in tokens if token not in SPECIAL],
                "the special tokens are gone; now join the pieces that begin with ## (hint 1)",
            ),
        ),
    ),
    Exercise(
        "1.3",
        "Find the bug: a silent mask",
        "core",
        10,
        lambda model, batch: _first_vectors(model, **batch),
        "right: each tensor goes in under its own name, and the padding changes nothing",
        _padded_pairs,
        (
            Misconception(
                "no mask",
                lambda model, batch: _first_vectors(
                    model, input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"]
                ),
                "the padding is read as language: attention_mask is missing, or misspelt, which nobody reports (hint 1)",
            ),
            Misconception(
                "segments as mask",
                lambda model, batch: _first_vectors(
                    model, input_ids=batch["input_ids"], attention_mask=batch["token_type_ids"]
                ),
                "the second positional argument is attention_mask, so your segments became the mask (hint 2)",
            ),
            Misconception(
                "segments and mask swapped",
                lambda model, batch: _first_vectors(
                    model,
                    input_ids=batch["input_ids"],
                    attention_mask=batch["token_type_ids"],
                    token_type_ids=batch["attention_mask"],
                ),
                "segments and mask have changed places: positional order is ids, mask, segments (hint 2)",
            ),
            Misconception(
                "no segments",
                lambda model, batch: _first_vectors(
                    model, input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
                ),
                "the mask is right; token_type_ids are missing, so both texts count as the first (hint 3)",
            ),
        ),
        show=lambda call: f"a small BERT and a batch of shape {tuple(call[1]['input_ids'].shape)}",
    ),
    Exercise(
        "1.4",
        "Count the padding",
        "core",
        8,
        _padding,
        "right: sort, cut into batches, and pad each batch to its own longest text",
        _lengths,
        (
            Misconception(
                "not sorted",
                lambda lengths, batch_size: _padding(lengths, batch_size, sort=False),
                "that is the padding in the order given; sort the lengths first, shortest first (hint 1)",
            ),
            Misconception(
                "one length for all",
                lambda lengths, batch_size: _padding(lengths, batch_size, global_longest=True),
                "you pad every batch to the longest text of the whole set; each batch has its own longest (hint 2)",
            ),
            Misconception(
                "last batch dropped",
                lambda lengths, batch_size: _padding(lengths, batch_size, keep_last=False),
                "the last batch is smaller, and it counts too (hint 3)",
            ),
        ),
    ),
    Exercise(
        "1.5",
        "Windows over a long text",
        "stretch",
        15,
        _windows,
        "right: every window fits, neighbours share the overlap, and the last one ends where the text ends",
        _long_ids,
        (
            Misconception(
                "no room for special tokens",
                lambda ids, max_length, overlap: _windows(ids, max_length, overlap, room=0),
                "each window is 2 too long: [CLS] and [SEP] count towards max_length (hint 1)",
            ),
            Misconception(
                "overlap as step",
                lambda ids, max_length, overlap: _windows(
                    ids, max_length, overlap, step=lambda size, overlap: overlap, stop_early=False
                ),
                "each window starts `overlap` ids after the one before; it should *share* that many with it (hint 2)",
            ),
            Misconception(
                "no overlap",
                lambda ids, max_length, overlap: _windows(ids, max_length, 0),
                "neighbouring windows share nothing; an answer that lies across the cut would be lost (hint 2)",
            ),
            Misconception(
                "last window dropped",
                lambda ids, max_length, overlap: _windows(ids, max_length, overlap, keep_last=False),
                "the end of the text is missing: keep the last window although it is shorter (hint 3)",
            ),
            Misconception(
                "one window too many",
                lambda ids, max_length, overlap: _windows(ids, max_length, overlap, stop_early=False),
                "the last window repeats the end of the one before and adds nothing; stop at the end (hint 3)",
            ),
        ),
    ),
)
