"""Exercises of lesson 01: segments, word pieces, masks, padding, windows."""

from __future__ import annotations

import random
from functools import lru_cache

import torch

from inside_bert.exercises.grading import Exercise, Misconception

CLS, SEP = 101, 102
SEGMENTS = [0] * 7 + [1] * 3  # [CLS] how old are you ? [SEP] ten . [SEP]


# 1.2 ---------------------------------------------------------------------------------------------------------------
WORDS = (  # as written, as pieces (with the length of each in the text)
    ("Unhappiness", [("un", 2), ("##ha", 2), ("##pp", 2), ("##iness", 5)]),
    ("Tokenization", [("token", 5), ("##ization", 7)]),
    ("CAFÉ", [("cafe", 4)]),
    ("Zoë", [("zoe", 3)]),
    ("😀", [("[UNK]", 1)]),
    ("?", [("?", 1)]),
    ("[", [("[", 1)]),
    ("#", [("#", 1)]),
    ("PASAR", [("pas", 3), ("##ar", 2)]),
    ("a", [("a", 1)]),
)


def _original_words(text, tokens, offsets):
    words: list[list[int]] = []
    for token, (start, end) in zip(tokens, offsets):
        if start == end:
            continue
        if token.startswith("##") and words:
            words[-1][1] = end
        else:
            words.append([start, end])
    return [text[start:end] for start, end in words]


def _text_and_tokens(rng: random.Random) -> tuple:
    text, tokens, offsets, last = "", ["[CLS]"], [(0, 0)], ""
    for word, pieces in rng.sample(WORDS, rng.choice([4, 5, 6])):
        spaces = rng.choice([0, 1, 3]) if {word, last} & {"?", "[", "#"} else rng.choice([1, 3])
        text += " " * (spaces if text else 0)
        last = word
        end = len(text)
        text += word
        for piece, length in pieces:
            tokens.append(piece)
            offsets.append((end, end + length))
            end += length
    padding = rng.choice([0, 2])
    return text, [*tokens, "[SEP]"] + ["[PAD]"] * padding, [*offsets, (0, 0)] + [(0, 0)] * padding


def _joined_tokens(text, tokens, offsets):
    joined = " ".join(token for token, (start, end) in zip(tokens, offsets) if start < end)
    return joined.replace(" ##", "").split(" ")


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
    from transformers import BatchEncoding

    return _small_model(), BatchEncoding({"input_ids": ids, "attention_mask": mask, "token_type_ids": segments})


def _first_vectors(model, **inputs):
    with torch.no_grad():
        return model(**inputs).last_hidden_state[:, 0]  # (B, D)


# 1.4 ---------------------------------------------------------------------------------------------------------------
def _padding(lengths, batch_size, *, sort=True, longest_first=False, keep_last=True, global_longest=False):
    ordered = sorted(lengths, reverse=longest_first) if sort else list(lengths)
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
    move = step(size, overlap) if step else size - overlap
    windows, start = [], 0
    while True:
        chunk = ids[start : start + size]
        if keep_last or len(chunk) == size:
            windows.append([CLS, *chunk, SEP])
        if start + size >= len(ids) and stop_early:
            return windows
        start += move
        if start >= len(ids) and not stop_early:
            return windows


def _long_ids(rng: random.Random) -> tuple:
    max_length, overlap = rng.choice([8, 10, 12]), rng.choice([1, 2, 3])
    size = max_length - 2
    two_full = 2 * size - overlap  # the second window ends exactly where the text does
    length = rng.choice([overlap, size, two_full, rng.randrange(14, 40), rng.randrange(14, 40), rng.randrange(14, 40)])
    return [rng.randrange(1000, 2000) for _ in range(length)], max_length, overlap


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
            Misconception("all zero", [0] * 10, "all 0 would be one text; here there are two (hint 2)"),
            Misconception("all one", [1] * 10, "all 1 is the attention mask; segments tell two texts apart (hint 2)"),
            Misconception("last separator", [0] * 7 + [1, 1, 0], "the last [SEP] closes the second text: it is 1, too"),
            Misconception("first separator", [0] * 6 + [1] * 4, "the first [SEP] closes the first text: it is still 0"),
        ),
    ),
    Exercise(
        "1.2",
        "Words as they were written",
        "core",
        10,
        _original_words,
        "right: pieces move the end of a word, and the text itself gives the spelling",
        _text_and_tokens,
        (
            Misconception(
                "joined tokens",
                _joined_tokens,
                "the words are right, but in the tokens' spelling; cut them from the text (hint 1)",
            ),
            Misconception(
                "pieces apart",
                lambda text, tokens, offsets: [text[start:end] for start, end in offsets if start < end],
                "each piece stands alone; one that begins with ## moves the end of the word before it (hint 2)",
            ),
            Misconception(
                "added tokens kept",
                lambda text, tokens, offsets: (
                    ["", *_original_words(text, tokens, offsets)]
                    + [""] * sum(token in ("[SEP]", "[PAD]") for token in tokens)
                ),
                "the words are right; leave out what the tokenizer added (hint 3)",
            ),
            Misconception(
                "padding kept",
                lambda text, tokens, offsets: (
                    _original_words(text, tokens, offsets) + [""] * sum(token == "[PAD]" for token in tokens)
                ),
                "the empty words at the end are [PAD]; all added tokens have the offsets (0, 0) (hint 3)",
            ),
            Misconception(
                "unknown words dropped",
                lambda text, tokens, offsets: _original_words(
                    text, tokens, [(0, 0) if token == "[UNK]" else span for token, span in zip(tokens, offsets)]
                ),
                "[UNK] is a word of the text that has no entry: keep it, the text knows its spelling (hint 3)",
            ),
            Misconception(
                "all in brackets dropped",
                lambda text, tokens, offsets: _original_words(
                    text, tokens, [(0, 0) if token.startswith("[") else span for token, span in zip(tokens, offsets)]
                ),
                "you drop all tokens that begin with [, and words of the text with them; look at the offsets (hint 3)",
            ),
        ),
        cases=10,
        show=lambda call: f"text={call[0]!r}, tokens={call[1]}",
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
                "the padding is read as language: attention_mask is missing or misspelt, and nobody says so (hint 1)",
            ),
            Misconception(
                "only the ids",
                lambda model, batch: _first_vectors(model, input_ids=batch["input_ids"]),
                "only the ids arrive: the padding is read as language, and both texts count as the first (hint 3)",
            ),
            Misconception(
                "the pooler",
                lambda model, batch: model(**batch).pooler_output.detach(),
                "all three arrive, but that is the pooler's output; the task asks for the vector at [CLS] itself",
            ),
            Misconception(
                "last position",
                lambda model, batch: model(**batch).last_hidden_state[:, -1].detach(),
                "all three arrive, but that is the last position, often [PAD]; [CLS] stands at position 0",
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
                "longest first",
                lambda lengths, batch_size: _padding(lengths, batch_size, longest_first=True),
                "you sort longest first, so the small last batch holds the shortest texts; the task says shortest "
                "first (hint 1)",
            ),
            Misconception(
                "last batch counted as full",
                lambda lengths, batch_size: _padding(lengths, batch_size) + max(lengths) * (-len(lengths) % batch_size),
                "you count the last batch as if it were full; take its own number of texts (hint 2)",
            ),
            Misconception(
                "all tokens",
                lambda lengths, batch_size: _padding(lengths, batch_size) + sum(lengths),
                "that is all tokens of the batches; the task asks for the [PAD] among them (hint 2)",
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
                "overlap as step, to the end of the text",
                lambda ids, max_length, overlap: _windows(ids, max_length, overlap, step=lambda size, overlap: overlap),
                "each window starts `overlap` ids after the one before; it should *share* that many with it, so the "
                "step is size - overlap (hint 2)",
            ),
            Misconception(
                "special tokens counted in the step",
                lambda ids, max_length, overlap: _windows(
                    ids, max_length, overlap, step=lambda size, overlap: size + 2 - overlap
                ),
                "your step counts [CLS] and [SEP] as text; it is size - overlap, with the size of hint 1 (hint 2)",
            ),
            Misconception(
                "short text forgotten",
                lambda ids, max_length, overlap: _windows(ids, max_length, overlap) if len(ids) > overlap else [],
                "a text that is no longer than the overlap gives no window at all; it needs one (hint 3)",
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
        cases=12,
        show=lambda call: f"{len(call[0])} ids, max_length={call[1]}, overlap={call[2]}",
    ),
)
