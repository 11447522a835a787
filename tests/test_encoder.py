"""Lesson 02's encoder, taken out of the lesson, equals the library's at every stage."""

from __future__ import annotations

import math

import pytest
import torch
from lesson_runs import lessons, read
from transformers import AutoTokenizer, BertConfig, BertModel

from inside_bert import data_folder, encode

TEXTS = ["The river rose overnight, and nobody slept.", "Rain!", "We caught the early train to the coast."]


@pytest.fixture(scope="module")
def lesson():
    """What the cells tagged `hand-written` define."""
    space = {"math": math, "torch": torch}
    cells = [cell.source for cell in read(lessons()[2]).cells if "hand-written" in cell.metadata.get("tags", [])]
    assert len(cells) >= 8
    for cell in cells:
        exec(cell, space)  # the lesson's own code
    return space


def rows_of(lesson, library, batch):
    encoder = lesson["Encoder"](library.config).eval()
    pretrained = library.state_dict()
    encoder.load_state_dict({name: pretrained[lesson["library_name"](name)] for name in encoder.state_dict()})
    return lesson["compare"](encoder, library, batch)


def stages(layers):
    per_layer = [f"layer {n} {what}" for n in range(layers) for what in ("scores", "weights", "output")]
    return ["embeddings", *per_layer, "pooler"]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")


def test_equals_the_embedded_checkpoint(lesson, tokenizer):
    library = BertModel.from_pretrained(
        data_folder() / "models" / "embedded-bert", dtype=torch.float32, attn_implementation="eager"
    )
    rows = rows_of(lesson, library, encode(tokenizer, TEXTS))
    assert [row["stage"] for row in rows] == stages(6)
    for row in rows:
        assert row["max difference"] < 1e-5 * max(1, row["largest number"]), row
        assert "scores" in row["stage"] or row["max difference"] < 1e-5, row


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_random_model_of_the_size_of_bert_base(lesson, tokenizer, seed):
    torch.manual_seed(seed)
    config = BertConfig(attn_implementation="eager")
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (12, 768, 12)
    library = BertModel(config).eval()
    batch = encode(tokenizer, TEXTS)
    batch["token_type_ids"][0, 5:9] = 1  # both segments are used
    rows = rows_of(lesson, library, batch)
    assert [row["stage"] for row in rows] == stages(12)
    assert max(row["max difference"] for row in rows) < 1e-5


@pytest.mark.parametrize("part", ["attention.key.bias", "attention_norm.weight", "widen.bias", "output_norm.bias"])
def test_the_comparison_sees_a_change(lesson, tokenizer, part):
    """Changes of weights that matter are seen; a key's bias adds one number to a whole row of scores."""
    torch.manual_seed(0)
    library = BertModel(BertConfig(hidden_size=48, num_attention_heads=4, num_hidden_layers=2, intermediate_size=96))
    library.set_attn_implementation("eager")
    library.eval()
    encoder = lesson["Encoder"](library.config).eval()
    pretrained = library.state_dict()
    encoder.load_state_dict({name: pretrained[lesson["library_name"](name)] for name in encoder.state_dict()})
    dict(encoder.named_parameters())[f"layers.1.{part}"].data.add_(0.5)
    rows = lesson["compare"](encoder, library, encode(tokenizer, TEXTS))
    changed = [row["stage"] for row in rows if row["max difference"] > 1e-3]
    assert changed[0] == ("layer 1 scores" if "key" in part else "layer 1 output")
    assert ("layer 1 weights" in changed) is False
