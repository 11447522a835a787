"""What the course carries: that it is whole, what it says of itself, and that the plain library calls load it."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
import transformers

from inside_bert import (
    data_folder,
    read_pairs,
    read_reviews,
    read_stories,
    read_texts,
    read_words,
    split_by_group,
    verify,
)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
FOLDERS = sorted({path.parent for path in DATA.rglob("SHA256SUMS")})
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_checkout_serves_its_own_data():
    assert data_folder() == DATA
    assert {folder.name for folder in FOLDERS} >= {"embedded-bert", "pairs", "reviews", "texts", "words"}


@every_folder
def test_every_file_is_summed_and_whole(folder):
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines()]
    files = {path.name for path in folder.iterdir() if path.is_file()} - {"SHA256SUMS", "README.md", "LICENSE"}
    assert {name for _, name in lines} == files
    for digest, name in lines:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert verify(str(folder.relative_to(DATA))) == folder


@every_folder
def test_every_folder_has_a_card(folder):
    card = (folder / "README.md").read_text(encoding="utf-8").lower()
    for part in ("what", "how made", "licence", "checksum"):
        assert part in card, f"{folder} does not say: {part}"
    assert "from what" in card


def test_nothing_is_pickled():
    assert not [
        path for path in DATA.rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy")
    ]


def tool(name):
    """Import a script of tools/ without running it: a test that wrote data would heal the damage it looks for."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@every_folder
def test_sums_are_what_the_tool_writes(folder):
    assert tool("write_checksums").sums(folder) == (folder / "SHA256SUMS").read_text(encoding="utf-8")


# the embedded model ------------------------------------------------------------------------------------------------
MODEL = str(DATA / "models" / "embedded-bert")
CLASSES = {  # class: weights that the checkpoint does not hold
    "BertModel": set(),
    "BertForMaskedLM": set(),
    "BertForNextSentencePrediction": set(),
    "BertForPreTraining": set(),
    "BertForSequenceClassification": {"classifier.weight", "classifier.bias"},
    "BertForTokenClassification": {"classifier.weight", "classifier.bias"},
    "BertForQuestionAnswering": {"qa_outputs.weight", "qa_outputs.bias"},
    "BertForMultipleChoice": {"classifier.weight", "classifier.bias"},
    "AutoModel": set(),
}


@pytest.mark.parametrize("name, missing", CLASSES.items(), ids=list(CLASSES))
def test_plain_library_calls_load_it(name, missing):
    model, info = getattr(transformers, name).from_pretrained(MODEL, output_loading_info=True)
    assert model.dtype == torch.float32
    assert set(info["missing_keys"]) == missing
    assert not info["mismatched_keys"] and not info["error_msgs"]


def test_its_sizes():
    model = transformers.BertForPreTraining.from_pretrained(MODEL)
    config = model.config
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.max_position_embeddings)
    assert sizes == (6, 384, 12, 512)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == 22.9
    assert (DATA / "models" / "embedded-bert" / "model.safetensors").stat().st_size < 50e6, "half precision on disk"


def test_its_tokenizer():
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    assert (len(tokenizer), tokenizer.model_max_length) == (30522, 512)
    ids = tokenizer("In recent years, AI has transformed various industries.")["input_ids"]
    assert ids == [101, 1999, 3522, 2086, 1010, 9932, 2038, 8590, 2536, 6088, 1012, 102]


def test_it_was_trained():
    """A masked word of everyday sentences is among its five best far more often than by chance."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    model = transformers.BertForMaskedLM.from_pretrained(MODEL)
    probes = {
        "He drank a cup of [MASK].": {"coffee", "tea"},
        "They have been married for twenty [MASK].": {"years"},
        "The president of the United [MASK] gave a speech.": {"states"},
        "Paris is the capital of [MASK].": {"france"},
    }
    for text, wanted in probes.items():
        batch = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**batch).logits[0, batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)]
        assert wanted & set(tokenizer.convert_ids_to_tokens(logits.topk(5).indices.tolist())), text


# texts and words ---------------------------------------------------------------------------------------------------
def test_texts():
    table = read_texts()
    assert list(table.columns) == ["id", "kind", "text"]
    assert len(table) >= 200
    assert table["id"].is_unique and table["text"].is_unique
    assert table["text"].str.strip().eq(table["text"]).all() and table["text"].str.len().min() > 0
    counts = {kind: int(n) for kind, n in table["kind"].value_counts().items()}
    card = (DATA / "texts" / "README.md").read_text("utf-8")
    assert str(len(table)) in card
    for kind in ("messages", "notices", "dialogues", "reviews", "stories", "instructions", "reports"):
        singular = {"stories": "story"}.get(kind, kind.removesuffix("s"))
        assert f"{counts[singular]} {kind}" in card


def test_no_sentence_stands_twice():
    sentences = [s for text in read_texts()["text"] for s in re.split(r"(?<=[.!?])\s+", text) if len(s.split()) >= 5]
    assert len(sentences) > 1000
    assert len(set(sentences)) == len(sentences)


def test_texts_by_kind():
    assert set(read_texts(["story", "code"])["kind"]) == {"story", "code"}
    with pytest.raises(ValueError, match="no texts of kind .'poem'.; there are .'code', 'dialogue'"):
        read_texts(["poem"])


def test_words():
    words = read_words()
    assert len(words) == len(set(words)) >= 2000
    assert all(word and not word.isspace() for word in words)
    assert f"{len(words):,}" in (DATA / "words" / "README.md").read_text("utf-8")
    assert {100, 101} <= {len(word) for word in words}


def test_words_are_what_the_tool_makes():
    assert tool("make_word_list").words() == read_words()


# pairs -------------------------------------------------------------------------------------------------------------
GRADES = range(6)
PAIR_KINDS = {  # kind: the grades that it may have
    "plain": set(GRADES),
    "paraphrase": {4, 5},
    "word trap": {0, 1, 2},
    "order": {2, 3},
}


def words_of(sentence):
    return re.findall(r"[\w'-]+", sentence.lower())


def test_pairs():
    table = read_pairs()
    assert list(table.columns) == ["id", "similarity", "kind", "first", "second"]
    assert list(table["id"]) == [f"pair-{number:03d}" for number in range(1, 97)]
    assert table["similarity"].value_counts().to_dict() == {grade: 16 for grade in GRADES}
    assert set(table["kind"]) == set(PAIR_KINDS)
    for kind, grades in PAIR_KINDS.items():
        assert set(table.loc[table["kind"] == kind, "similarity"]) <= grades, kind


def test_sentences_of_pairs():
    table = read_pairs()
    sentences = [*table["first"], *table["second"]]
    assert len({sentence.lower() for sentence in sentences}) == len(sentences) == 192
    for sentence in sentences:
        assert 5 <= len(sentence.split()) <= 16, sentence
        assert sentence == sentence.strip() and sentence[-1] in ".?!", sentence


def test_pairs_of_kind_order_share_every_word():
    table = read_pairs()
    for pair in table[table["kind"] == "order"].itertuples():
        assert Counter(words_of(pair.first)) == Counter(words_of(pair.second)), pair.id


def test_card_of_pairs_counts_what_the_file_holds():
    table = read_pairs()
    card = (DATA / "pairs" / "README.md").read_text("utf-8")
    lengths = [len(sentence.split()) for sentence in [*table["first"], *table["second"]]]
    assert f"{len(table)} pairs of short English sentences, {min(lengths)} to {max(lengths)} words each" in card
    for kind in [*PAIR_KINDS, "all"]:
        rows = table if kind == "all" else table[table["kind"] == kind]
        counts = [int((rows["similarity"] == grade).sum()) for grade in GRADES]
        assert f"| {kind} | {' | '.join(str(n) for n in [*counts, len(rows)])} |" in card


# stories -----------------------------------------------------------------------------------------------------------
def test_stories_are_what_their_card_says():
    card = (DATA / "stories" / "README.md").read_text(encoding="utf-8")
    stories = read_stories()
    sentences = [sentence for story in stories for sentence in story]
    lengths = [len(story) for story in stories]
    words = sum(len(sentence.split()) for sentence in sentences)
    assert f"{len(stories)} stories of {min(lengths)} to {max(lengths)} sentences" in card
    assert f"{len(sentences):,} sentences and {words:,} words" in card
    found = {word for sentence in sentences for word in re.findall(r"[a-z']+", sentence.lower())}
    assert f"{len(found):,} of them different" in card


def test_no_sentence_of_a_story_occurs_twice():
    counts = Counter(sentence for story in read_stories() for sentence in story)
    assert max(counts.values()) == 1


def test_stories_are_plain_text_in_short_sentences():
    for story in read_stories():
        for sentence in story:
            assert re.fullmatch(r"[A-Za-z ,.?!\"']+", sentence), sentence
            assert 4 <= len(sentence.split()) <= 16 and sentence[-1] in '.?!"'


# Reviews --------------------------------------------------------------------------------------------------------------
PHENOMENA = {"plain", "negation", "contrast", "comparison", "understatement", "sarcasm", "mixed", "no sentiment word"}


@pytest.fixture(scope="module")
def reviews():
    return read_reviews()


@pytest.fixture(scope="module")
def splits(reviews):
    return split_by_group(reviews)


def lower_words(text):
    return re.findall(r"[a-z']+", text.lower())


def test_reviews_are_many_and_balanced_within_each_phenomenon(reviews):
    assert list(reviews.columns) == ["id", "text", "label", "phenomenon", "group"]
    assert len(reviews) >= 1_200 and reviews["id"].is_unique and set(reviews["label"]) == {0, 1}
    assert set(reviews["phenomenon"]) == PHENOMENA
    counts = reviews.groupby(["phenomenon", "label"]).size().unstack()
    assert (counts[0] == counts[1]).all() and counts.min().min() >= 100
    tidy = reviews["text"].map(lambda text: text == text.strip() and text.isascii() and len(lower_words(text)) >= 4)
    assert tidy.all()


def test_the_card_of_the_reviews_counts_them_right(reviews):
    card = (DATA / "reviews" / "README.md").read_text(encoding="utf-8")
    assert f"{len(reviews):,} short reviews" in card and f"{reviews['group'].nunique():,} groups" in card
    for phenomenon, count in reviews["phenomenon"].value_counts().items():
        assert f"| {phenomenon} | {count:,} |" in card
    lengths = reviews["text"].str.split().str.len()
    assert f"of {lengths.min()} to {lengths.max()} words, {lengths.mean():.0f} on average" in card


def test_relatives_share_a_split(reviews, splits):
    shares = [len(splits[name]) / len(reviews) for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.5, 0.1, 0.4], abs=0.02)
    groups = [set(table["group"]) for table in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert sorted(id for table in splits.values() for id in table["id"]) == sorted(reviews["id"])
    for table in splits.values():
        assert abs(table["label"].mean() - 0.5) < 0.01
        share = table["phenomenon"].value_counts(normalize=True) - reviews["phenomenon"].value_counts(normalize=True)
        assert share.abs().max() < 0.03


def test_no_review_is_nearly_another(reviews):
    """Two texts share at most 40 % of the shorter one's three-word sequences, within a split and across."""
    index, grams = {}, [set(zip(w, w[1:], w[2:])) for w in map(lower_words, reviews["text"])]
    assert not reviews["text"].str.lower().duplicated().any()
    for number, mine in enumerate(grams):
        shared = Counter(other for gram in mine for other in index.get(gram, ()))
        for other, count in shared.items():
            assert count <= 0.4 * min(len(mine), len(grams[other])), (reviews["text"][number], reviews["text"][other])
        for gram in mine:
            index.setdefault(gram, []).append(number)


def test_words_alone_tell_something_and_not_all(reviews):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    bag = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    found = cross_val_score(bag, reviews["text"], reviews["label"], groups=reviews["group"], cv=folds)
    assert 0.60 < found.mean() < 0.80


def test_no_single_word_gives_the_label_away(reviews):
    counts = {0: Counter(), 1: Counter()}
    for text, label in zip(reviews["text"], reviews["label"]):
        counts[label].update(set(lower_words(text)))
    gain = {word: abs(counts[1][word] - counts[0][word]) / len(reviews) for word in counts[0] | counts[1]}
    assert max(gain.values()) < 0.05, max(gain, key=gain.get)  # accuracy beyond one half of "has the word or not"


def test_the_split_is_the_same_everywhere(splits):
    """Lessons on Colab compare their outputs with those stored here, so versions of scikit-learn must not matter."""
    assert hashlib.sha256(" ".join(splits["test"]["id"]).encode()).hexdigest()[:16] == "0f378156ac0a9439"


def test_few_groups_are_not_split(reviews):
    with pytest.raises(ValueError, match="fewer than ten groups"):
        split_by_group(reviews.head(60))


def test_splitting_needs_groups(reviews):
    with pytest.raises(ValueError, match=r"no column \['group'\]"):
        split_by_group(reviews.drop(columns="group"))


# Runs -----------------------------------------------------------------------------------------------------------------
def test_the_stored_runs_are_whole():
    import pandas

    grid = pandas.read_csv(verify("runs") / "grid.csv")
    runs = grid.groupby(["rate", "batch_size", "epochs"])
    assert len(runs) == 16 and all(list(run["epoch"]) == list(range(1, epochs + 1)) for (_, _, epochs), run in runs)
    seeds = pandas.read_csv(verify("runs") / "seeds.csv")
    assert list(seeds["seed"]) == [0, 1, 2] and set(seeds["n"]) == {len(split_by_group(read_reviews())["test"])}


def test_the_lesson_shows_the_speed_that_was_measured():
    import json

    import pandas

    found = json.loads((ROOT / "benchmarks" / "finetune.json").read_text())["speed"]["short"]
    table = pandas.read_csv(verify("runs") / "speed.csv")
    assert list(table["recipe"]) == list(found)
    assert list(table["times the first"]) == [round(row["ratio"]["median"], 1) for row in found.values()]
