"""The script that measures the embedded model: its counts against brute force, its pairs, and what it says of stand-ins.

Nothing here judges the shipped weights: the models are a tiny one with random weights, and ones whose answers are known.
"""

from __future__ import annotations

import random
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForPreTraining, BertModel

from inside_bert import data_folder, read_stories

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import evaluate_embedded_model as evaluate
from pretraining_text import Document
from train_embedded_model import encode

ENDS = set(".!?\"'")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")


@pytest.fixture(scope="module")
def texts(tokenizer):
    """Twenty-four documents of about sixty sentences, five stories each, by turns from two sources."""
    stories = read_stories()[:120]
    documents = [
        Document(("animals", "town")[n % 2], str(n), [s for story in stories[5 * n : 5 * n + 5] for s in story])
        for n in range(24)
    ]
    return encode(documents, tokenizer)


@pytest.fixture(scope="module")
def config(tokenizer):
    return BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )


@pytest.fixture(scope="module")
def folder(config, tokenizer, tmp_path_factory):
    """A checkpoint of random weights; wide ones, so that its answers differ from place to place."""
    torch.manual_seed(0)
    model = BertForPreTraining(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(20)
    path = tmp_path_factory.mktemp("tiny")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(folder):
    return evaluate.Checkpoint(folder)


class StandIn(evaluate.Checkpoint):
    """A checkpoint whose answers are given by functions instead of a model."""

    def __init__(self, real: evaluate.Checkpoint, word=None, pair=None) -> None:
        self.__dict__.update(real.__dict__)
        self.word, self.pair = word, pair

    def at_masks(self, rows, name, places=None):
        """Certainty about the word that `word` gives for the row."""
        for index in reversed(range(len(rows))):  # any order is allowed
            scores = torch.full((rows[index].count(self.mask), len(self.tokens)), -30.0)
            scores[:, self.word(index, rows[index])] = 0.0
            yield index, scores

    def follows(self, pairs, name):
        """What `pair` says of each."""
        return np.array([self.pair(a, b) for a, b in pairs])


class Oracle(StandIn):
    """One that hides a single token a row, and knows which."""

    def __init__(self, real: evaluate.Checkpoint) -> None:
        super().__init__(real, word=lambda index, row: self.rows[index])
        self.rows: list[int] = []

    def hide(self, tokens, share, chance):
        """As ever; the truth is noted."""
        row, places = super().hide(tokens, 0.0, chance)
        self.rows.append(tokens[places[0]])
        return row, places


# sequences ---------------------------------------------------------------------------------------------------------
def test_sentences_are_packed_whole_and_long_ones_cut():
    lengths = [60, 60, 10, 200, 5, 121, 1]
    sentences = [[n] * length for n, length in enumerate(lengths)]
    rows = evaluate.packed(sentences)
    assert [Counter(row) for row in rows] == [{0: 60, 1: 60}, {2: 10}, {3: 126}, {4: 5, 5: 121}, {6: 1}]
    assert all(row == sorted(row) and len(row) <= evaluate.ROOM for row in rows)
    assert sentences == [[n] * length for n, length in enumerate(lengths)]  # the caller's lists are as they were


def test_sequences_hold_the_texts_and_a_part_of_them_by_source(texts, checkpoint):
    everything = evaluate.sequences(texts, 1e9, checkpoint.special)
    for number, (_, sentences) in enumerate(texts):
        own = [token for n, row in everything if n == number for token in row]
        assert own == [token for sentence in sentences for token in sentence]
    total = sum(len(row) + 2 for _, row in everything)
    part = evaluate.sequences(texts, total / 4, checkpoint.special)
    assert sum(len(row) + 2 for _, row in part) == pytest.approx(total / 4, rel=0.1)
    for source in ("animals", "town"):
        of_all, of_part = (sum(texts[n][0] == source for n, _ in rows) for rows in (everything, part))
        assert of_part == pytest.approx(of_all / 4, abs=1)
    assert part == evaluate.sequences(texts, total / 4, checkpoint.special)
    assert all(row in everything for row in part)


def test_a_sequence_of_unknown_tokens_alone_is_left_out(checkpoint, tokenizer):
    unknown = tokenizer.unk_token_id
    rows = evaluate.sequences([("a", [[unknown] * 3]), ("a", [[unknown, 2000]])], 1e9, checkpoint.special)
    assert rows == [(1, [unknown, 2000])]


# hiding ------------------------------------------------------------------------------------------------------------
def test_hidden_places_are_masks_and_never_specials(texts, checkpoint, tokenizer):
    chance = random.Random(0)
    for _, tokens in evaluate.sequences(texts, 3000, checkpoint.special):
        tokens = [tokenizer.unk_token_id, *tokens]
        row, places = checkpoint.hide(tokens, 0.15, chance)
        assert len(row) == len(tokens) + 2 and (row[0], row[-1]) == (checkpoint.cls, checkpoint.sep)
        assert len(set(places)) == len(places) == max(1, round(0.15 * (len(tokens) - 1)))
        assert places == sorted(places) and 0 not in places
        expected = [checkpoint.mask if n in places else token for n, token in enumerate(tokens)]
        assert row[1:-1] == expected
    assert len(checkpoint.hide([2000, 2001, 2002], 0, chance)[1]) == 1


def test_as_in_training_shows_80_10_10(checkpoint):
    tokens = [2000 + n for n in range(20_000)]
    row, places = checkpoint.hide(tokens, 0.5, random.Random(0))
    before = list(row)
    shown = checkpoint.as_in_training(row, tokens, places, random.Random(1))
    assert row == before
    masked = sum(shown[n + 1] == checkpoint.mask for n in places) / len(places)
    kept = sum(shown[n + 1] == tokens[n] for n in places) / len(places)
    assert len(places) == 10_000  # four standard deviations: 0.016 and 0.012
    assert masked == pytest.approx(0.8, abs=0.016) and kept == pytest.approx(0.1, abs=0.012)
    replaced = {shown[n + 1] for n in places} - {checkpoint.mask, *tokens}
    assert replaced and min(replaced) >= 999 and max(replaced) < len(checkpoint.tokens)
    others = set(range(len(tokens))) - set(places)
    assert all(shown[n + 1] == tokens[n] for n in others)


def test_the_mixed_way_hides_the_same_tokens(texts, checkpoint):
    counted = evaluate.Baselines(texts, len(checkpoint.tokens), checkpoint.cls)
    plain = evaluate.hidden_words(checkpoint, texts, 2000, counted)
    mixed = evaluate.hidden_words(checkpoint, texts, 2000, counted, mixed=True)
    same = {"document", "source", "kind", "unigram accuracy", "unigram loss", "bigram accuracy", "bigram loss"}
    assert set(plain) == same | {"accuracy", "loss"}
    assert all(np.array_equal(plain[name], mixed[name]) for name in same)
    assert not np.array_equal(plain["loss"], mixed["loss"])


def test_accuracy_and_loss_of_hidden_words_equal_a_loop(texts, checkpoint):
    counted = evaluate.Baselines(texts, len(checkpoint.tokens), checkpoint.cls)
    columns = evaluate.hidden_words(checkpoint, texts, 1000, counted)
    chance, losses, documents = random.Random(0), [], []
    for number, tokens in evaluate.sequences(texts, 1000, checkpoint.special):
        row, places = checkpoint.hide(tokens, 0.15, chance)
        with torch.no_grad():
            logits = checkpoint.model(torch.tensor([row])).prediction_logits[0]
        for place in places:
            losses.append(float(torch.nn.functional.cross_entropy(logits[place + 1], torch.tensor(tokens[place]))))
            documents.append(number)
    assert len(losses) > 100 and np.ptp(losses) > 1
    assert columns["document"].tolist() == documents
    assert np.abs(columns["loss"] - losses).max() < 1e-3


def test_a_model_that_knows_the_truth_is_always_right(texts, checkpoint):
    counted = evaluate.Baselines(texts, len(checkpoint.tokens), checkpoint.cls)
    columns = evaluate.hidden_words(Oracle(checkpoint), texts, 3000, counted)
    assert columns["accuracy"].all() and columns["loss"].max() == 0.0
    figures = evaluate.means(columns, columns["kind"] == "content")
    assert figures["accuracy"] == 1.0 and 0 < figures["n"] < len(columns["loss"])
    assert evaluate.means(columns, columns["kind"] == "no such kind")["accuracy"] == 0.0


# the model ---------------------------------------------------------------------------------------------------------
def test_answers_belong_to_their_rows_and_places(texts, checkpoint):
    chance, rows, hidden = random.Random(2), [], []
    for _, tokens in evaluate.sequences(texts, 5000, checkpoint.special):
        row, places = checkpoint.hide(tokens[: chance.randrange(5, 100)], 0.2, chance)
        rows.append(row)
        hidden.append(places)
    assert len(rows) > 32  # more than one batch
    by_masks, by_places = (dict(checkpoint.at_masks(rows, "test", places)) for places in (None, hidden))
    assert sorted(by_masks) == list(range(len(rows)))
    for index, row in enumerate(rows):
        with torch.no_grad():
            alone = checkpoint.model(torch.tensor([row])).prediction_logits[0].log_softmax(-1)
        expected = alone[[place + 1 for place in hidden[index]]]
        assert torch.allclose(by_masks[index], expected, atol=1e-3)
        assert torch.equal(by_masks[index], by_places[index])


def test_pairs_are_judged_one_by_one(texts, checkpoint):
    pairs = evaluate.make_pairs(texts, "within", 40) + evaluate.make_pairs(texts, "short", 40)
    said, expected = checkpoint.follows(pairs, "test"), []
    for a, b in pairs:
        ids = torch.tensor([[checkpoint.cls, *a, checkpoint.sep, *b, checkpoint.sep]])
        types = torch.tensor([[0] * (len(a) + 2) + [1] * (len(b) + 1)])
        with torch.no_grad():
            expected.append(checkpoint.model(ids, token_type_ids=types).seq_relationship_logits[0])
    margins = torch.stack(expected)[:, 0] - torch.stack(expected)[:, 1]
    clear = (margins.abs() > 1e-3).numpy()
    assert clear.sum() > 60 and np.array_equal(said[clear], (margins > 0).numpy()[clear])


def test_a_folder_without_heads_ends_the_run(config, tokenizer, tmp_path):
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(SystemExit, match="has no heads"):
        evaluate.Checkpoint(tmp_path)


# baselines ---------------------------------------------------------------------------------------------------------
def test_baselines_equal_brute_force():
    size, cls, chance = 23, 1, random.Random(0)
    weights = [1 / (n + 1) for n in range(2, 20)]  # 20 to 22 never occur
    training = [
        ("a", [chance.choices(range(2, 20), weights, k=chance.randrange(1, 9)) for _ in range(chance.randrange(1, 6))])
        for _ in range(60)
    ]
    single, double = Counter(), Counter()
    for _, sentences in training:
        before = cls
        for number, sentence in enumerate(sentences):
            for place, token in enumerate(sentence):
                single[token] += 1
                double[before, token] += 1
                if number and not place:
                    double[cls, token] += 1
                before = token
    total = sum(single.values())
    left, truth = (part.ravel() for part in np.meshgrid(range(1, size), range(2, size), indexing="ij"))
    found = evaluate.Baselines(training, size, cls).measure(left, truth)
    most = max(single, key=lambda token: (single[token], -token))
    for n, (before, token) in enumerate(zip(left.tolist(), truth.tolist(), strict=True)):
        unigram = (single[token] + 1) / (total + size)
        after = {b: count for (a, b), count in double.items() if a == before}
        follower = max(after, key=lambda b: (after[b], -b)) if after else most
        share = 0.8 * after.get(token, 0) / sum(after.values()) + 0.2 * unigram if after else unigram
        assert found["unigram accuracy"][n] == (token == most)
        assert found["bigram accuracy"][n] == (token == follower)
        assert found["unigram loss"][n] == pytest.approx(-np.log(unigram))
        assert found["bigram loss"][n] == pytest.approx(-np.log(share))


@pytest.mark.parametrize("left", [1, 5, 9])  # [CLS], a token that occurs, one that does not
def test_baselines_spread_one_whole(left):
    counted = evaluate.Baselines([("a", [[5, 6, 5, 7], [5, 6]])], 10, 1)
    found = counted.measure(np.full(10, left), np.arange(10))
    for name in ("unigram loss", "bigram loss"):
        assert np.exp(-found[name]).sum() == pytest.approx(1)


# intervals and tables ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "right, n, low, high",  # Newcombe 1998 (Statistics in Medicine 17), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_wilsons(right, n, low, high):
    own = evaluate.share_of(np.array([True] * right + [False] * (n - right)))
    assert (own["right"], own["n"], own["share"]) == (right, n, right / n)
    assert own["interval"] == pytest.approx([low, high], abs=5e-5)


def test_a_share_of_nothing_says_that_nothing_is_known():
    assert evaluate.share_of(np.array([], dtype=bool)) == {"right": 0, "n": 0, "share": 0.0, "interval": [0.0, 1.0]}


def test_whole_documents_are_drawn():
    values = np.repeat(np.arange(10) % 2, 100).astype(float)  # a document is right everywhere or nowhere
    low, high = evaluate.bootstrap(values, np.repeat(np.arange(10), 100))
    assert low <= 0.3 and high >= 0.7
    narrow = evaluate.bootstrap(values, np.arange(1000))
    assert 0.46 < narrow[0] < 0.5 < narrow[1] < 0.54
    assert evaluate.bootstrap(values, np.zeros(1000)) == [0.5, 0.5]
    assert evaluate.bootstrap(values, np.arange(1000)) == narrow


def test_a_table_is_markdown_with_figures_to_the_right():
    assert evaluate.table("what|n|word", [["a", "1,000", "x"], ["b", "2", "y"]]).splitlines() == [
        "| what | n | word |", "| --- | --: | --- |", "| a | 1,000 | x |", "| b | 2 | y |",
    ]  # fmt: skip
    assert evaluate.span([0.12345, 0.5]) == "0.123 to 0.500" and evaluate.span([1, 2], 1) == "1.0 to 2.0"


# pairs -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def places(texts):
    """Where each sentence begins, by its first five tokens: (document, number of the sentence)."""
    found: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number, (_, sentences) in enumerate(texts):
        for at, sentence in enumerate(sentences):
            found.setdefault(tuple(sentence[:5]), []).append((number, at))
    return found


def within(part: list[int], whole: list[int]) -> bool:
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


@pytest.mark.parametrize("setting", evaluate.SETTINGS)
def test_pairs_are_what_their_name_says(texts, places, tokenizer, setting):
    pairs = evaluate.make_pairs(texts, setting, 100)
    assert len(pairs) == 100 and pairs == evaluate.make_pairs(texts, setting, 100)
    flat = [[token for sentence in sentences for token in sentence] for _, sentences in texts]
    for number, (a, b) in enumerate(pairs):
        assert a and b and len(a) + len(b) <= evaluate.ROOM - 1
        assert tokenizer.convert_ids_to_tokens(a[-1]) in ENDS  # neither is cut where they meet
        assert tuple(b[:5]) in places or len(b) < 5
        together = any(within(a + b, own) for own in flat)
        assert together == (number < 50)
        if number >= 50 and len(b) >= 5:
            home_a = {n for n, own in enumerate(flat) if within(a, own)}
            home_b = {n for n, at in places[tuple(b[:5])] if at > 0 and within(b, flat[n])}
            assert home_b  # never a document's first sentence
            if setting == "same":
                assert home_a & home_b
            else:
                assert home_b - home_a
                same = {texts[n][0] for n in home_a} & {texts[n][0] for n in home_b}
                assert bool(same) == (setting != "across")


def test_a_wrong_part_of_the_same_document_is_far_away(texts):
    chance, places = random.Random(0), {}
    for start in range(0, 50, 7):
        run = range(start, start + 6)
        for _ in range(50):
            number, at = evaluate.other(texts, places, 3, run, "same", chance)
            assert number == 3 and at > 0
            assert at >= run.stop + evaluate.FAR or at <= run.start - evaluate.FAR
    assert evaluate.other([("a", [[1]] * 12)], places, 0, range(2, 5), "same", chance) is None


@pytest.mark.parametrize("setting", ["within", "across", "same"])
def test_the_length_of_a_pair_does_not_tell(texts, setting):
    pairs = evaluate.make_pairs(texts, setting, 1000)
    for length in (np.array([len(a) + len(b) for a, b in pairs]), np.array([len(b) for _, b in pairs])):
        true, wrong = length[:500], length[500:]
        best = max(((true >= at).mean() + (wrong < at).mean()) / 2 for at in range(evaluate.ROOM + 1))
        assert best < 0.57  # 500 and 500 of a kind: 0.54 by chance


@pytest.mark.parametrize(
    "setting", list(evaluate.SETTINGS)
)
def test_where_a_pair_ends_does_not_tell(texts, tokenizer, setting):
    pairs = evaluate.make_pairs(texts, setting, 1000)
    ends = np.array([tokenizer.convert_ids_to_tokens(b[-1]) in ENDS for _, b in pairs])
    assert abs(ends[:500].mean() - ends[500:].mean()) < 0.12


@pytest.mark.parametrize("answer, follows, other", [(True, 1.0, 0.0), (False, 0.0, 1.0)])
def test_the_same_answer_to_every_pair_scores_half(texts, checkpoint, answer, follows, other):
    figures, text = evaluate.nsp(StandIn(checkpoint, pair=lambda a, b: answer), texts, 0.05)
    assert set(figures) == set(evaluate.SETTINGS)
    for own in figures.values():
        assert (own["share"], own["follows"], own["other"]) == (0.5, follows, other)
    assert text.count("| 0.500 |") == len(figures)


# copying, probes, SST-2 --------------------------------------------------------------------------------------------
def test_a_copier_is_found_out_and_one_that_says_nothing_is_not(texts, checkpoint, tokenizer):
    def copy(index, row):
        return next((token for token in row if checkpoint.content[token]), checkpoint.tokens.index("the"))

    figures, text = evaluate.copying(StandIn(checkpoint, word=copy), texts, 0.1)
    all_hidden, content = figures["copied, all hidden tokens"], figures["copied, hidden content words"]
    assert all_hidden["share"] > 0.95 and content["share"] > 0.9 and 20 < content["n"] < all_hidden["n"] <= 200
    assert f"| {all_hidden['share']:.3f} |" in text
    for word in ("the", "."):  # not content words, though they stand in the sentences
        silent = StandIn(checkpoint, word=lambda index, row, word=word: checkpoint.tokens.index(word))
        figures, _ = evaluate.copying(silent, texts, 0.1)
        assert figures["copied, all hidden tokens"]["right"] == 0
        assert figures["copied, hidden content words"]["right"] == 0


def test_a_right_guess_is_no_copy_even_where_the_word_stands_twice(checkpoint, tokenizer):
    sentences = ["The dog and the cat saw the dog .", "A red house stood by the red barn ."] * 20
    texts = [("twice", tokenizer(sentences, add_special_tokens=False)["input_ids"])]
    figures, _ = evaluate.copying(Oracle(checkpoint), texts, 1.0)
    twice = figures["for comparison: the truth stands elsewhere, content words"]
    assert 0 < twice["right"] < twice["n"]
    assert figures["copied, all hidden tokens"] | {"interval": 0} == {
        "right": 0, "n": 40 - twice["right"], "share": 0.0, "interval": 0,
    }  # fmt: skip
    content = figures["copied, hidden content words"]
    assert (content["right"], content["n"]) == (0, twice["n"] - twice["right"])


def test_what_counts_as_copied_is_no_special_piece_or_short_word(checkpoint):
    counts = dict(zip(checkpoint.tokens, checkpoint.content, strict=True))
    assert counts["dog"] and counts["house"]
    assert not any(counts[token] for token in ("the", "##ing", "1984", ".", "ox", "[MASK]", "[UNK]", "[CLS]"))


def test_probes_are_judged_by_their_three_first_guesses(checkpoint, tmp_path):
    path = tmp_path / "probes.csv"
    path.write_text("id,text,sensible\na,The dog chased the [MASK].,cat|ball\nb,Snow is [MASK].,white|cold\n")
    words = {0: "dog", 1: "white"}
    model = StandIn(checkpoint, word=lambda index, row: checkpoint.tokens.index(words[index]))
    figures, text = evaluate.probes(model, path)
    assert [probe["sensible"] for probe in figures["probes"]] == [False, True]
    assert [probe["top"][0] for probe in figures["probes"]] == [("dog", 1.0), ("white", 1.0)]
    assert figures["sensible"] == 1 and figures["probes"][0]["copied"] == 1 and "in 1 of 2" in text
    with pytest.raises(SystemExit, match="is missing"):
        evaluate.probes(model, tmp_path / "none.csv")


def test_fine_tuning_learns_and_is_the_same_for_the_same_seed(folder, tokenizer, tmp_path):
    lines = [f"{n % 2} {('a sad film', 'a good film')[n % 2]} number {n}" for n in range(60)]
    for part in ("train", "dev"):
        (tmp_path / f"sst2.{part}.txt").write_text("\n".join(lines[:40]) + "\n", encoding="utf-8")
    read = evaluate.read_sst2(tmp_path / "sst2.dev.txt", tokenizer)
    assert [label for label, _ in read] == [0, 1] * 20
    assert tokenizer.decode(read[1][1]) == "[CLS] a good film number 1 [SEP]"
    figures, text = evaluate.sst2(folder, tmp_path, 1e-2, 1.0)
    again, _ = evaluate.sst2(folder, tmp_path, 1e-2, 1.0)
    assert figures == again and figures["n"] == 40 and figures["majority"] == 0.5
    assert len(figures["seeds"]) == 3 and max(figures["seeds"]) > 0.6
    assert "On 40 sentences, 3 epochs, rate 0.01" in text
    with pytest.raises(SystemExit, match="is missing"):
        evaluate.read_sst2(tmp_path / "sst2.test.txt", tokenizer)


# the command line --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options, message",
    [
        (["--only", "masked,nonsense"], "--only knows masked, nsp, copying, probes, sst2, not nonsense"),
        (["--only", "nsp"], "--text FOLDER is needed"),
        (["--only", "sst2"], "--sst2 FOLDER is needed"),
    ],
)
def test_what_is_missing_on_the_command_line_is_told(monkeypatch, capsys, options, message):
    monkeypatch.setattr(sys, "argv", ["evaluate", "folder", *options])
    with pytest.raises(SystemExit):
        evaluate.arguments()
    assert message in capsys.readouterr().err


def test_held_out_and_training_documents_do_not_meet(tokenizer, monkeypatch):
    stories = [Document("stories", str(n), story) for n, story in enumerate(read_stories())]
    monkeypatch.setattr(evaluate, "read_documents", lambda folder: stories)
    args = Namespace(text="somewhere", only={"masked"}, share=1.0)
    held, training = evaluate.documents(args, tokenizer)
    assert len(held) == sum(story.held_out for story in stories) > 5 and len(held) + len(training) == len(stories)
    sentences = {tuple(s) for _, own in training for s in own}
    assert not any(tuple(s) in sentences for _, own in held for s in own)
    assert evaluate.documents(Namespace(text="somewhere", only={"nsp"}, share=1.0), tokenizer) == (held, [])
