"""From text that somebody typed to a batch that a model can take, with errors that say what to do.

Lesson 01 shows, limit by limit, what it guards against; later lessons use it. Touches nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def encode(tokenizer: Any, texts: str | Sequence[str], *, truncation: bool = False) -> Any:
    """Return what ``tokenizer(texts, padding=True, return_tensors="pt")`` returns, for texts that a model can take.

    The batch holds `input_ids`, `attention_mask` and `token_type_ids`, each of shape ``(B, T)``, padded to the
    longest text. Raises `TypeError` for anything that is not text, and `ValueError` for empty text, for half of a
    surrogate pair, and for a text beyond the model's length (512 tokens for BERT: Devlin et al. 2019, section 3)
    unless `truncation` is true.
    """
    batch = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, (list, tuple)) else texts
    if not isinstance(batch, list):
        raise TypeError(f"expected a text or a list of texts, not {type(texts).__name__}; a column needs .tolist().")
    if not batch:
        raise ValueError("no texts were given.")
    for number, text in enumerate(batch):
        _check_text(text, number)
    encoded = tokenizer(batch, padding=True, truncation=truncation, return_tensors="pt", verbose=False)
    lengths = encoded["attention_mask"].sum(dim=1)
    if lengths.max() > tokenizer.model_max_length:
        raise ValueError(
            f"text {int(lengths.argmax())} has {int(lengths.max()):,} tokens, and the model reads at most "
            f"{tokenizer.model_max_length}; cut it into windows, or pass truncation=True to keep its beginning only."
        )
    return encoded


def _check_text(text: Any, number: int) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text {number} is {text!r:.40} ({type(text).__name__}), not a str.")
    if not text.strip():
        raise ValueError(f"text {number} is empty; there is nothing to encode.")
    for position, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise ValueError(
                f"text {number} has half of a surrogate pair (U+{ord(character):04X}) at position {position}; "
                "it was probably decoded wrongly: read the file again with encoding='utf-8'."
            )
