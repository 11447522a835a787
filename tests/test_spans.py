"""Questions and answers in the package: the data set, windows, valid spans, exact match and F1, a model that learns."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections import Counter

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering

from inside_bert import (
    Recipe,
    answer_f1,
    answer_span,
    best_spans,
    data_folder,
    exact_match,
    fine_tune_spans,
    make_windows,
    normalize_answer,
    predict_spans,
    read_questions,
    read_squad,
    verify,
    window_logits,
)
from inside_bert.spans import Window

PASSAGE = "The clock of Verel stood still for nine years. In 2019 Ilse Brandt repaired it."
ASKED = "Who repaired the clock?"
SPAN = (PASSAGE.index("Ilse"), PASSAGE.index("Ilse") + len("Ilse Brandt"))
CARD = (data_folder() / "qa" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")


@pytest.fixture(scope="module")
def questions():
    return read_questions()


@pytest.fixture(scope="module")
def answerable(questions):
    return questions[questions["answers"].map(lambda answers: bool(answers["text"]))]


def small_model(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)  # fmt: skip
    return BertForQuestionAnswering(config).eval()


def lower_words(text):
    return re.findall(r"\w+", text.lower())


# The data set ---------------------------------------------------------------------------------------------------------
def test_there_are_enough_passages_and_questions(questions, answerable):
    passages = questions.drop_duplicates("context")
    assert len(passages) >= 90 and len(questions) >= 650
    words = passages["context"].str.split().str.len()
    assert words.between(60, 200).mean() > 0.95 and words.min() >= 60
    assert 6 <= (words > 450).sum() == (words > 200).sum()  # those that fit no window at all
    assert questions["id"].is_unique and not questions["question"].duplicated().any()
    assert passages["title"].is_unique and passages["form"].nunique() >= 12
    assert 0.14 < 1 - len(answerable) / len(questions) < 0.18


def test_every_answer_stands_at_its_offset(answerable):
    for split in ("train", "validation", "test"):  # as it is in the file; `read_squad` would refuse a wrong one
        for article in json.loads((verify("qa") / f"{split}.json").read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for answer in (answer for qa in paragraph["qas"] for answer in qa["answers"]):
                    start = answer["answer_start"]
                    assert paragraph["context"][start : start + len(answer["text"])] == answer["text"]
    for row in answerable.itertuples():
        for text, start in zip(row.answers["text"], row.answers["answer_start"], strict=True):
            assert text == text.strip()
            cut_into = (
                row.context[max(start - 1, 0) : start] + text[0],
                text[-1] + row.context[start + len(text) :][:1],
            )
            assert not any(re.fullmatch(r"\w\w", edge) for edge in cut_into), (row.id, text)


def test_unanswerable_questions_have_a_candidate(questions, answerable):
    rest = questions.drop(answerable.index)
    assert all(row.plausible and row.plausible[0] in row.context for row in rest.itertuples())
    assert not any(answerable["plausible"])


def test_no_passage_is_in_two_splits(questions):
    assert questions.groupby("context")["split"].nunique().max() == 1
    forms = questions.drop_duplicates("context").groupby("split")["form"].nunique()
    assert forms.min() >= 12
    shares = questions["split"].value_counts(normalize=True)
    assert shares["train"] > 0.5 and shares["test"] > 0.3 and shares["validation"] > 0.1


def test_no_passage_is_nearly_another(questions):
    grams = [set(zip(w, w[1:], w[2:])) for w in map(lower_words, questions["context"].unique())]
    for n, mine in enumerate(grams):
        assert all(len(mine & other) <= 0.2 * min(len(mine), len(other)) for other in grams[:n])


def test_questions_paraphrase(questions):
    for row in questions.itertuples():
        asked, text = lower_words(row.question), f" {' '.join(lower_words(row.context))} "
        assert row.question.endswith("?")
        for n in range(len(asked) - 4):
            assert f" {' '.join(asked[n : n + 5])} " not in text, row.question


def test_all_question_words_are_frequent(questions):
    text = questions["question"].str.lower()
    for word in ("what|which", "who|whose|whom", "when", "where", "how many|how much|how long", "why", "how"):
        assert text.str.contains(rf"\b(?:{word})\b").sum() >= 150, word


def test_several_answers_where_people_differ(answerable):
    several = answerable["answers"].map(lambda answers: len(answers["text"]))
    assert 0.1 < (several > 1).mean() < 0.3 and several.max() <= 3


def test_a_trivial_rule_does_not_find_the_answers(answerable):
    """The sentence with most words of the question; of it, all, or the longest run of words that are new."""
    whole, new = [], []
    for row in answerable.itertuples():
        asked = set(lower_words(row.question))
        pieces = re.split(r"(?<=[.!?;])\s+", row.context)
        best = max(pieces, key=lambda piece: len(asked & set(lower_words(piece))))
        runs = re.split(rf"\W*\b(?:{'|'.join(sorted(asked))})\b\W*", best, flags=re.IGNORECASE)
        whole.append(answer_f1(best, row.answers["text"]))
        new.append(answer_f1(max(runs, key=lambda run: len(run.split())), row.answers["text"]))
    assert max(sum(whole), sum(new)) / len(answerable) < 0.35
    assert sum(whole) / len(answerable) > 0.05  # the sentence is often the right one


def test_the_card_counts_right(questions, answerable):
    assert f"{len(questions):,} questions" in CARD and f"{questions['context'].nunique()} passages" in CARD
    for split, part in questions.groupby("split"):
        assert f"| {split} | {part['context'].nunique()} | {len(part):,} |" in CARD
    for form, count in questions.drop_duplicates("context")["form"].value_counts().items():
        assert f"{form} {count}" in CARD
    assert f"{1 - len(answerable) / len(questions):.1%} have no answer".replace("%", " %") in CARD


# Files in SQuAD's layout ----------------------------------------------------------------------------------------------
def layout(**changes):
    qa = {"id": "1", "question": ASKED, "answers": [{"text": "Ilse Brandt", "answer_start": SPAN[0]}]} | changes
    return {"data": [{"title": "Clocks", "paragraphs": [{"context": PASSAGE, "qas": [qa]}]}]}


def written(tmp_path, content, name="mine.json"):
    path = tmp_path / name
    opened = gzip.open if name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("name", ["mine.json", "mine.json.gz"])
def test_a_file_of_ones_own_is_read(tmp_path, name):
    table = read_squad(written(tmp_path, layout(), name))
    assert list(table.columns) == ["id", "title", "form", "context", "question", "answers", "plausible"]
    assert table["answers"][0] == {"text": ["Ilse Brandt"], "answer_start": [SPAN[0]]} and table["title"][0] == "Clocks"


def test_an_impossible_question_has_no_answers(tmp_path):
    wrong = {"text": "2019", "answer_start": PASSAGE.index("2019")}
    table = read_squad(written(tmp_path, layout(is_impossible=True, answers=[], plausible_answers=[wrong])))
    assert table["answers"][0] == {"text": [], "answer_start": []} and table["plausible"][0] == ["2019"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is not a whole JSON file"),
        ("[]", "'data' has to be of type list"),
        ({"data": None}, "'data' has to be of type list, not None"),
        ({"data": []}, "holds no questions"),
        ({"data": [{"title": "x"}]}, "article 0: 'paragraphs' has to be of type list"),
        ({"data": [{"paragraphs": [{"context": "x", "qas": ["x"]}]}]}, "question 0: 'question' has to be of type str"),
        (layout(question=None), "article 0, paragraph 0, question 0: 'question' has to be of type str"),
        (layout(question="  "), "question 0: the question is empty"),
        (layout(plausible_answers=[{}]), "question 0: 'text' has to be of type str"),
        (layout(answers=[{"text": "Ilse Brandt"}]), "'answer_start' has to be of type int"),
        (layout(answers=[{"text": "T", "answer_start": False}]), "'answer_start' has to be of type int, not False"),
        (layout(answers=[{"text": "Ilse", "answer_start": SPAN[0] - len(PASSAGE)}]), "does not stand at character -"),
        (
            layout(answers=[{"text": "Ilse Brandt", "answer_start": 3}]),
            "does not stand at character 3; there stands ' clock",
        ),
        (layout(answers=[{"text": "", "answer_start": 3}]), "does not stand at character 3"),
        (layout(id=7), "'id' has to be of type str"),
    ],
)
def test_a_malformed_file_names_the_place(tmp_path, content, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read_squad(written(tmp_path, content))


def test_a_file_that_is_no_archive_is_told(tmp_path):
    whole = gzip.compress(json.dumps(layout()).encode())
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    for damaged in (whole[:-6], bytes(broken), b"plain text"):
        (tmp_path / "cut.json.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a whole JSON file"):
            read_squad(tmp_path / "cut.json.gz")


def test_an_unknown_split_is_told():
    with pytest.raises(ValueError, match="no split 'dev'; there are train, validation, test"):
        read_questions("dev")


# Exact match and F1 ---------------------------------------------------------------------------------------------------
def cases():
    with open(verify("qa") / "cases.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_scores_equal_the_official_ones():
    assert len(cases()) == 30
    for case in cases():
        references = case["references"].split(" || ")
        assert exact_match(case["guess"], references) == float(case["exact"]), case
        assert math.isclose(answer_f1(case["guess"], references), float(case["f1"]), abs_tol=1e-12), case
    assert {float(case["exact"]) for case in cases()} == {0.0, 1.0}
    assert len({case["f1"] for case in cases()}) > 4


def test_no_reference_means_no_answer():
    assert (exact_match("", []), answer_f1("", [])) == (1.0, 1.0)
    assert (exact_match("Verel", []), answer_f1("Verel", [])) == (0.0, 0.0)


def test_normalizing_goes_in_the_order_of_the_official_script():
    assert normalize_answer("The  U.S. Navy, an A-frame, a.") == "us navy aframe"


# Windows --------------------------------------------------------------------------------------------------------------
def test_every_labelled_window_gives_its_answer_back(questions, tokenizer):
    spans = questions["answers"].map(answer_span).tolist()
    windows = make_windows(tokenizer, questions["question"].tolist(), questions["context"].tolist(), spans,
                           max_length=128, stride=64)  # fmt: skip
    held = set()
    for window in windows:
        assert len(window.input_ids) == len(window.offsets) == len(window.token_type_ids) <= 128
        if window.end:
            context = questions["context"].iloc[window.example]
            text = context[window.offsets[window.start][0] : window.offsets[window.end][1]]
            assert text == questions["answers"].iloc[window.example]["text"][0]
            held.add(window.example)
    assert held == {n for n, span in enumerate(spans) if span}
    assert len(windows) > 1.3 * len(questions)


def test_a_window_without_the_whole_answer_points_at_cls(tokenizer):
    long = "Nothing here. " * 60 + PASSAGE
    span = (len(long) - len(PASSAGE) + SPAN[0], len(long) - len(PASSAGE) + SPAN[1])
    windows = make_windows(tokenizer, [ASKED], [long], [span], max_length=64, stride=16)
    labelled = 0
    for window in windows:
        held = [offset for offset in window.offsets if offset]
        whole = held[0][0] <= span[0] and held[-1][1] >= span[1]
        assert (window.end > 0) == whole
        labelled += whole
        assert window.offsets[0] is None and window.offsets[-1] is None
    assert 1 <= labelled < len(windows)
    assert all((w.start, w.end) == (0, 0) for w in make_windows(tokenizer, [ASKED], [long], max_length=64, stride=16))


def test_the_end_is_the_last_token_of_the_answer(tokenizer):
    (window,) = make_windows(tokenizer, [ASKED], [PASSAGE], [SPAN])
    tokens = tokenizer.convert_ids_to_tokens(window.input_ids)[window.start : window.end + 1]
    assert "".join(token.removeprefix("##") for token in tokens) == "ilsebrandt"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"questions": ["  "]}, "question 0 is '  ', and has to be text"),
        ({"passages": [""]}, "passage 0 is '', and has to be text"),
        ({"passages": [None]}, "passage 0 is None"),
        ({"questions": ASKED}, "one string was given"),
        ({"questions": []}, "0 questions, 1 passages and 0 answers"),
        ({"passages": [PASSAGE, PASSAGE]}, "1 questions, 2 passages"),
        ({"answers": [(4, 4)]}, "answer 0 goes from character 4 to 4"),
        ({"answers": [(0, 10_000)]}, "answer 0 goes from character 0 to 10000"),
        ({"passages": ["\u200b"]}, "passage 0, '\\u200b', has no tokens"),
        ({"answers": [(3, 4)]}, "answer 0, characters 3 to 4 of its passage, is empty"),
        ({"max_length": 600}, "max_length is 600, and the tokenizer allows 512 at most"),
        ({"stride": -1}, "stride is -1, the number of tokens that two windows share: at least 0"),
        ({"max_length": 12, "stride": 4}, "leave 4 for the passage beside question 0 ('Who repaired"),
        ({"max_length": 6, "stride": 4}, "leave 0 for the passage beside question 0 ('Who repaired"),
    ],
)
def test_what_cannot_be_cut_is_told(tokenizer, change, said):
    given = {"questions": [ASKED], "passages": [PASSAGE]} | change
    with pytest.raises(ValueError, match=re.escape(said)):
        make_windows(tokenizer, given.pop("questions"), given.pop("passages"), **given)


@pytest.mark.parametrize(
    ("passage", "span"), [(" Verel is small.", (0, 6)), ("It is Verel ", (6, 12)), ("It is Verel\u200b", (6, 12))]
)
def test_what_has_no_token_at_the_edge_of_a_passage_is_not_missed(tokenizer, passage, span):
    (window,) = make_windows(tokenizer, [ASKED], [passage], [span])
    assert passage[window.offsets[window.start][0] : window.offsets[window.end][1]] == "Verel"


def test_columns_are_read_in_order_whatever_their_index_is(tokenizer):
    import pandas

    passages = ["Ada paid.", "Then Bo paid.", "Nobody else, Cy said, paid."]
    table = pandas.DataFrame({"question": ["Who paid?"] * 3, "passage": passages})
    table["span"] = [(0, 3), (5, 7), (13, 15)]
    shuffled = table.loc[[2, 0, 1]]
    windows = make_windows(tokenizer, shuffled["question"], shuffled["passage"], shuffled["span"])
    found = [shuffled["passage"].iloc[w.example][w.offsets[w.start][0] : w.offsets[w.end][1]] for w in windows]
    assert found == ["Cy", "Ada", "Bo"]


def test_one_long_question_does_not_forbid_a_short_passage(tokenizer):
    long = "Who, of all the many people who live there, paid for it?"
    windows = make_windows(tokenizer, [long, ASKED], ["Bo.", PASSAGE], max_length=20, stride=6)
    assert [window.example for window in windows] == [0, 1, 1, 1]


def test_answers_of_the_hub_become_spans():
    import numpy

    assert answer_span({"text": numpy.array(["Bo", "B"]), "answer_start": numpy.array([4, 4])}) == (4, 6)
    assert answer_span({"text": numpy.array([]), "answer_start": numpy.array([])}) is None


# Valid spans ----------------------------------------------------------------------------------------------------------
def window_of(passage_tokens, example=0):
    offsets = [None, None, None] + [(2 * n, 2 * n + 1) for n in range(passage_tokens)] + [None]
    return Window(example, [0] * len(offsets), [0] * len(offsets), offsets)


def test_the_best_span_is_the_best_of_all_pairs():
    passage, window = "a b c d e f g h", window_of(8)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        starts, ends = (torch.randn(12, generator=generator) for _ in range(2))
        pairs = {
            (2 * i, 2 * j + 1): (starts[i + 3] + ends[j + 3]).item() for i in range(8) for j in range(i, min(8, i + 3))
        }
        found = best_spans(passage, [window], [(starts, ends)], count=5, max_tokens=3)
        best = sorted(pairs, key=pairs.get, reverse=True)[:5]
        assert [(span.start, span.end) for span in found.spans] == best
        assert all(span.text == passage[span.start : span.end] for span in found.spans)
        assert math.isclose(found.null_score, (starts[0] + ends[0]).item(), rel_tol=1e-6)
        assert math.isclose(found.margin, pairs[best[0]] - found.null_score, rel_tol=1e-5, abs_tol=1e-6)


def test_peaks_outside_of_the_passage_do_not_count():
    window, high = window_of(4), torch.zeros(8)
    high[[0, 1, 2, 7]] = 9.0
    found = best_spans("a b c d", [window], [(high, high)])
    assert found.spans[0].score == 0.0 and found.null_score == 18.0 and found.margin == -18.0


def test_a_span_of_two_windows_counts_once_with_its_best_score():
    starts, ends = torch.zeros(5), torch.zeros(5)
    found = best_spans("a", [window_of(1), window_of(1)], [(starts, ends), (starts + 1, ends)])
    assert [(span.text, span.score) for span in found.spans] == [("a", 1.0)] and found.null_score == 0.0


def test_tokens_of_one_letter_do_not_shorten_the_list(tokenizer):
    passage = "한국 사람 é"  # BERT takes a syllable apart, and its pieces share offsets
    (window,) = make_windows(tokenizer, [ASKED], [passage])
    places = [offset for offset in window.offsets if offset]
    assert len(set(places)) < len(places)
    logits = torch.randn(2, len(window.offsets), generator=torch.Generator().manual_seed(0))
    found = best_spans(passage, [window], [tuple(logits)], count=8).spans
    assert len({(span.start, span.end) for span in found}) == len(found) == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_told(value):
    broken = torch.tensor([0.0, 0.0, 0.0, value, 0.0])
    for pair in ((broken, torch.zeros(5)), (torch.zeros(5), broken)):
        with pytest.raises(FloatingPointError, match="not finite"):
            best_spans("a", [window_of(1)], [pair])


@pytest.mark.parametrize("change", [{"count": 0}, {"count": -1}, {"max_tokens": 0}, {"windows": [], "logits": []}])
def test_nothing_to_look_for_is_told(change):
    given = {"windows": [window_of(1)], "logits": [(torch.zeros(5), torch.zeros(5))]} | change
    with pytest.raises(ValueError, match="each is at least 1"):
        best_spans("a", given.pop("windows"), given.pop("logits"), **given)


def test_logits_do_not_depend_on_the_batch(questions, tokenizer):
    some = questions.head(24)
    windows = make_windows(tokenizer, some["question"].tolist(), some["context"].tolist(), max_length=192, stride=32)
    model = small_model(dropout=0.3).train()
    model.bert.embeddings.eval()
    alone, together = (window_logits(model, tokenizer, windows, batch_size=size) for size in (1, 16))
    for window, one, other in zip(windows, alone, together, strict=True):
        assert one[0].shape == (len(window.input_ids),)
        assert torch.allclose(one[0], other[0], atol=1e-5) and torch.allclose(one[1], other[1], atol=1e-5)
    assert model.training and not model.bert.embeddings.training  # as it was
    with pytest.raises(ValueError, match="nothing to predict"):
        window_logits(model, tokenizer, [])


def test_a_window_beyond_the_positions_of_a_model_is_told(questions, tokenizer):
    torch.manual_seed(0)
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                        max_position_embeddings=100)  # fmt: skip
    windows = make_windows(
        tokenizer, questions["question"].head(2), questions["context"].head(2), max_length=100, stride=16
    )
    with pytest.raises(ValueError, match="a window has 100 tokens, and this model reads 100"):
        window_logits(BertForQuestionAnswering(config), tokenizer, windows)


# Learning -------------------------------------------------------------------------------------------------------------
def toy(tokenizer, count=48):
    names = ("Ada", "Bo", "Cy", "Di")
    passages = [
        f"{'The mill is old. ' * (n % 3)}In {1800 + n} it was {names[n % 4]} who built the mill." for n in range(count)
    ]
    spans = [(p.index(str(1800 + n)), p.index(str(1800 + n)) + 4) for n, p in enumerate(passages)]
    return make_windows(tokenizer, ["When was it built?"] * count, passages, spans), passages


def test_a_small_model_learns_to_point(tokenizer):
    windows, passages = toy(tokenizer)
    model = small_model()
    history = fine_tune_spans(
        model, tokenizer, windows, windows[:8], Recipe(rate=1e-2, batch_size=8, epochs=8, patience=8)
    )
    assert history[-1]["validation_loss"] < 0.5 * history[0]["validation_loss"]
    found = predict_spans(model, tokenizer, ["When was it built?"] * len(passages), passages)
    right = [prediction.spans[0].text == str(1800 + n) for n, prediction in enumerate(found)]
    assert sum(right) > 0.8 * len(right)


def test_a_cut_run_goes_on_to_the_same_weights(tokenizer, tmp_path):
    windows, _ = toy(tokenizer, 16)
    recipe = Recipe(rate=1e-3, batch_size=8, epochs=3)
    uncut, resumed = small_model(), small_model()
    fine_tune_spans(uncut, tokenizer, windows, recipe=recipe)
    left = iter(range(3))

    def watch(**_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune_spans(resumed, tokenizer, windows, recipe=recipe, folder=tmp_path, watch=watch)
    history = fine_tune_spans(small_model(5), tokenizer, windows, recipe=recipe, folder=tmp_path)
    again = small_model(6)
    fine_tune_spans(again, tokenizer, windows, recipe=recipe, folder=tmp_path)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(uncut.parameters(), again.parameters()))
    with pytest.raises(ValueError, match="another set of windows"):
        fine_tune_spans(again, tokenizer, windows[1:], recipe=recipe, folder=tmp_path)


def test_nothing_to_learn_from_is_told(tokenizer):
    windows, _ = toy(tokenizer, 4)
    without = make_windows(tokenizer, [ASKED], [PASSAGE])
    for given, said in (
        (([], None), "no windows, nothing"),
        ((windows, []), "to validate on"),
        ((without,), "no window holds"),
    ):
        with pytest.raises(ValueError, match=said):
            fine_tune_spans(small_model(), tokenizer, *given)


# Stored runs ----------------------------------------------------------------------------------------------------------
def test_the_stored_answers_are_whole_and_scored_right(questions):
    import pandas

    test = questions[questions["split"] == "test"].set_index("id")
    stored = pandas.read_csv(verify("runs") / "qa_answers.csv", keep_default_na=False)
    assert list(stored["id"]) == list(test.index)
    for row in stored.itertuples():
        references = test.loc[row.id, "answers"]["text"]
        context = test.loc[row.id, "context"]
        assert context[row.start : row.start + len(row.answer)] == row.answer and row.answerable == bool(references)
        assert row.em == exact_match(row.answer, references) and abs(row.f1 - answer_f1(row.answer, references)) < 1e-4
    seeds = pandas.read_csv(verify("runs") / "qa_seeds.csv")
    assert list(seeds["seed"]) == [0, 1, 2] and set(seeds["n"]) == {int(stored["answerable"].sum())}
    assert abs(seeds["em"][0] - stored[stored["answerable"]]["em"].mean()) < 1e-3
    assert abs(seeds["f1"][0] - stored[stored["answerable"]]["f1"].mean()) < 1e-3
    everything = stored["f1"].where(stored["answerable"], 0.0).mean()
    assert abs(seeds["f1 of all, answers everything"][0] - everything) < 1e-3
    assert Counter(stored["em"])[1.0] > 0.4 * len(stored)
