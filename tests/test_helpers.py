"""The small helpers: checks that can fail, input that is refused with a remedy, tables and pictures that are safe."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy
import pandas
import pytest
import torch
from transformers import AutoTokenizer

from inside_bert import (
    check,
    check_shape,
    data_folder,
    encode,
    expect_error,
    largest_difference,
    show,
    show_figure,
    show_table,
    show_tokens,
)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")


# checks ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("true", [True, numpy.True_, torch.tensor(True), torch.tensor([True])])
def test_check_says_what_holds(true, capsys):
    check("rows sum to 1", true)
    assert capsys.readouterr().out == "✓ rows sum to 1\n"


@pytest.mark.parametrize("false", [False, numpy.False_, torch.tensor(False), torch.tensor([[False]])])
def test_check_stops_at_what_does_not(false, capsys):
    with pytest.raises(AssertionError, match="✗ rows sum to 1"):
        check("rows sum to 1", false)
    assert capsys.readouterr().out == ""


def test_check_wants_one_truth_value():
    with pytest.raises(ValueError, match=r"3 truth values; say .all\(\) or .any\(\)"):
        check("all positive", torch.tensor([True, False, True]))
    with pytest.raises(ValueError, match="0 truth values"):
        check("nothing", numpy.array([], dtype=bool))
    for nothing in (None, "", "yes", 1, 0, [False], [], float("nan"), {"a": False}, torch.tensor(1.0), len, iter(())):
        with pytest.raises(TypeError, match="needs a truth value"):
            check("a forgotten comparison", nothing)


def test_check_that_cannot_be_judged_says_so(capsys):
    check("the model knows drinks", False, skip="stand-in weights")
    assert capsys.readouterr().out == "– skipped (stand-in weights): the model knows drinks\n"
    with pytest.raises(AssertionError):
        check("the model knows drinks", False, skip=None)


def test_check_shape(capsys):
    check_shape(torch.zeros(2, 7), (2, 7))
    check_shape(numpy.zeros(3), [3])
    assert capsys.readouterr().out == "✓ shape (2, 7)\n✓ shape (3,)\n"
    with pytest.raises(AssertionError, match=r"the shape is \(7, 2\), not \(2, 7\)"):
        check_shape(torch.zeros(7, 2), (2, 7))
    with pytest.raises(TypeError, match="something with a shape, not list"):
        check_shape([1, 2], (2,))


def test_expect_error(capsys):
    with expect_error(ValueError, KeyError):
        raise ValueError("what is wrong\nand more")
    assert capsys.readouterr().out == "ValueError: what is wrong\n"
    with pytest.raises(AssertionError, match="expected ValueError, but nothing failed"):
        with expect_error(ValueError):
            pass
    with pytest.raises(KeyError):
        with expect_error(ValueError):
            raise KeyError("another")


def test_largest_difference():
    assert largest_difference(torch.tensor([1.0, 5.0]), torch.tensor([1.5, 3.0])) == 2.0
    with pytest.raises(ValueError, match=r"shapes differ: \(2,\) and \(1, 2\)"):
        largest_difference(torch.zeros(2), torch.zeros(1, 2))


# text --------------------------------------------------------------------------------------------------------------
def test_encode_is_the_library_call(tokenizer):
    texts = ["Hello", "How are you today?"]
    mine, theirs = encode(tokenizer, texts), tokenizer(texts, padding=True, return_tensors="pt")
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert encode(tokenizer, "Hello")["input_ids"].shape == (1, 3)
    assert encode(tokenizer, tuple(texts))["input_ids"].shape == (2, 7)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text(tokenizer, text):
    with pytest.raises(ValueError, match="text 1 is empty"):
        encode(tokenizer, ["fine", text])


def test_no_text_at_all(tokenizer):
    with pytest.raises(ValueError, match="no texts were given"):
        encode(tokenizer, [])


@pytest.mark.parametrize("other", [None, 5, 3.5, b"bytes", float("nan"), ["a", "list"]])
def test_not_text(tokenizer, other):
    with pytest.raises(TypeError, match="text 0 is .* not a str"):
        encode(tokenizer, [other])


@pytest.mark.parametrize("column", [pandas.Series(["a", "b"]), numpy.array(["a", "b"]), 7, None, b"bytes"])
def test_a_column_is_not_a_list(tokenizer, column):
    with pytest.raises(TypeError, match="expected a text or a list of texts, not .*tolist"):
        encode(tokenizer, column)


@pytest.mark.parametrize("text, position", [("\ud83d", 0), ("broken \udc00 emoji", 7)])
def test_lone_surrogate(tokenizer, text, position):
    with pytest.raises(ValueError, match=rf"half of a surrogate pair \(U\+D[8C].*at position {position}; .*utf-8"):
        encode(tokenizer, text)


def test_ten_thousand_words(tokenizer, capfd):
    with pytest.raises(
        ValueError, match="text 1 has 10,002 tokens, and the model reads at most 512; .*truncation=True"
    ):
        encode(tokenizer, ["short", "word " * 10_000])
    assert encode(tokenizer, "word " * 10_000, truncation=True)["input_ids"].shape == (1, 512)
    assert encode(tokenizer, "word " * 510)["input_ids"].shape == (1, 512)
    assert capfd.readouterr().err == "", "said once, by the error"


# pictures and tables -----------------------------------------------------------------------------------------------
@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(show, "display", lambda data, **options: shown.append((data, options)))
    return shown


def test_figure_carries_its_description(displayed):
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    show_figure(figure, "Line chart that rises from one to two.")
    ((data, options),) = displayed
    assert options["metadata"]["image/png"]["alt"] == "Line chart that rises from one to two."
    assert data["text/plain"] == "[picture] Line chart that rises from one to two."
    assert not plt.fignum_exists(figure.number), "a figure that stays open is drawn twice"


def test_same_figure_same_bytes(displayed):
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.bar(["a", "b"], [1, 2])
        show_figure(figure, "Bar chart of one and of two.")
    assert displayed[0] == displayed[1]


def test_figure_without_description_is_refused():
    figure, _ = plt.subplots()
    with pytest.raises(ValueError, match="alt text has to say what the picture shows"):
        show_figure(figure, "a plot")
    plt.close(figure)


def test_table_escapes_what_is_in_it(displayed):
    show_table({"token": ["<script>alert(1)</script>", "&"], "p": [0.12345, 1.0]})
    html = displayed[0][0]["text/html"]
    assert "<script>" not in html and "&lt;script&gt;" in html and "&amp;" in html
    assert "0.123" in html and "0.12345" not in html


def test_table_of_array_numbers_and_without_rows(displayed):
    show_table(pandas.DataFrame({"p": [numpy.float32(0.12345), 2], "n": [1, 2]}, dtype=object), digits=2)
    assert "0.12<" in displayed[0][0]["text/html"] and ">1<" in displayed[0][0]["text/html"]
    show_table(pandas.DataFrame({"only a head": []}))
    assert "only a head" in displayed[1][0]["text/html"]


def test_index_and_head_are_escaped_too(displayed):
    show_table(pandas.DataFrame({"<i>": [1]}, index=["<b>"]), index=True)
    assert "&lt;i&gt;" in displayed[0][0]["text/html"] and "&lt;b&gt;" in displayed[0][0]["text/html"]


def test_long_cells_are_not_cut(displayed):
    show_table({"text": ["x" * 300]})
    assert "x" * 300 in displayed[0][0]["text/html"] and "x" * 300 in displayed[0][0]["text/plain"]


def test_tokens_of_a_padded_pair(displayed, tokenizer):
    batch = tokenizer(["Why?", "How are you?"], ["<b>So</b>", "Fine."], padding=True, return_tensors="pt")
    show_tokens(tokenizer, batch)
    html = displayed[0][0]["text/html"]
    for part in ("0: token", "1: attention_mask", "0: token_type_ids", "[PAD]", "&lt;"):
        assert part in html
    assert "<b>" not in html


def test_tokens_of_unequal_lists_and_of_one_row(displayed, tokenizer):
    batch = tokenizer(["Hello", "How are you?"])
    show_tokens(tokenizer, batch)
    show_tokens(tokenizer, batch, text=1)
    both, one = (data["text/plain"] for data, _ in displayed)
    assert "0: token" in both and "0: token" not in one and "1: token" in one
    assert "nan" not in both.lower() and "token_type_ids" not in both
