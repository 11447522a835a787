"""The scripts that made the embedded model: texts, batches, losses, and that a run which is cut goes on as it was."""

from __future__ import annotations

import csv
import json
import random
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForPreTraining

from inside_bert import data_folder, read_stories

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import pretraining_text as text
import train_embedded_model as train


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")


def settings(**changes) -> Namespace:
    chosen = {"seed": 0, "mask": 0.2, "glosses": 0.5, "whole_words": False, "layer_decay": 0.9,
              "encoder_rate": 1e-3, "head_rate": 3e-3}  # fmt: skip
    return Namespace(**{**chosen, **changes})


@pytest.fixture(scope="module")
def encoded(tokenizer):
    documents = [text.Document("stories", str(n), story) for n, story in enumerate(read_stories()[:180])]
    documents += [text.Document("wordnet", str(n), [story[0]]) for n, story in enumerate(read_stories()[180:])]
    return train.encode(documents, tokenizer)


# texts -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "written, wanted",
    [
        ("It was late . He did n't go .", "It was late. He didn't go."),
        ("`` No , '' she said .", '" No, " she said.'),
        ("about 3 @,@ 000 well @-@ known cats", "about 3,000 well-known cats"),
        ("Tom 's hat ( red )", "Tom's hat (red)"),
    ],
)
def test_tokenized_lines_are_written_as_people_write(written, wanted):
    assert text.undo_tokenization(written) == wanted


def test_sentences_are_cut_behind_full_stops_and_not_behind_titles():
    paragraph = 'Mr. Brown came at 3.5 p.m. on foot. "Good day!" he said. Dr. J. Smith left.'
    assert text.split_sentences(paragraph) == [
        "Mr. Brown came at 3.5 p.m. on foot.",
        '"Good day!" he said.',
        "Dr. J. Smith left.",
    ]


@pytest.mark.parametrize(
    "token, kind",
    [("the", "function"), ("house", "content"), ("##ing", "subword"), ("1984", "number"), ("3rd", "number"), (",", "punctuation")],
)  # fmt: skip
def test_kinds_of_words(token, kind):
    assert text.kind_of_word(token) == kind


def test_one_document_in_twenty_is_held_out_by_its_name_alone():
    documents = [text.Document("brown", f"c{n}", ["One.", "Two."]) for n in range(4000)]
    assert 150 < sum(d.held_out for d in documents) < 250  # 200 on average, standard deviation 14
    assert all(d.held_out == text.Document("brown", d.name, ["Other words."]).held_out for d in documents[:100])
    assert [d.name for d in documents if d.held_out][:4] == ["c35", "c36", "c66", "c90"]


def test_a_missing_and_a_changed_text_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="brown.zip is missing: fetch it"):
        text.read_documents(tmp_path)
    (tmp_path / "brown.zip").write_bytes(b"not the corpus")
    with pytest.raises(ValueError, match="not the file that this was written for"):
        text.read_documents(tmp_path)


def test_fetching_keeps_nothing_whose_checksum_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_download", lambda url: b"a login page")
    with pytest.raises(ValueError, match="is not what this script was written for"):
        text.fetch(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


# batches -----------------------------------------------------------------------------------------------------------
def test_batches_depend_on_seed_and_step_alone(encoded, tokenizer):
    straight = train.Batches(encoded, tokenizer, settings())
    wanted = [straight(step) for step in range(8)]
    later = train.Batches(encoded, tokenizer, settings())(7)  # as after a restart
    assert all(torch.equal(later[name], wanted[7][name]) for name in later)
    other = train.Batches(encoded, tokenizer, settings(seed=1))(7)
    assert other["seen"].shape != later["seen"].shape or not torch.equal(other["seen"], later["seen"])


def test_a_new_round_makes_other_examples(encoded, tokenizer):
    batches = train.Batches(encoded, tokenizer, settings())
    batches(0)
    first, count = batches.made, len(batches.plan)
    batches(count)
    assert batches.round == 1 and batches.made != first


def test_hidden_tokens_are_no_specials_and_have_the_right_shares(encoded, tokenizer):
    batches = train.Batches(encoded, tokenizer, settings())
    special = torch.tensor(tokenizer.all_special_ids)
    hidden = real = masked = kept = 0
    for step in range(8):
        batch = batches(step)
        whole = len(batch["clean"]) // train.WHOLE
        assert whole and torch.equal(batch["seen"][:whole], batch["clean"][:whole])
        clean, known = batch["clean"].flatten(), batch["truth"] != train.IGNORE
        where = batch["where"][known]
        assert torch.equal(clean[where], batch["truth"][known])
        assert not torch.isin(clean[where], special).any()
        untouched = torch.ones_like(clean, dtype=torch.bool)
        untouched[where] = False
        assert torch.equal(batch["seen"].flatten()[untouched], clean[untouched])
        shown = batch["seen"].flatten()[where]
        hidden, real = hidden + len(where), real + int((~torch.isin(batch["clean"][whole:], special)).sum())
        masked, kept = masked + int((shown == tokenizer.mask_token_id).sum()), kept + int((shown == clean[where]).sum())
    assert hidden / real == pytest.approx(0.2, abs=0.001)
    assert masked / hidden == pytest.approx(0.8, abs=0.03) and kept / hidden == pytest.approx(0.1, abs=0.02)


def test_pieces_of_a_word_can_be_hidden_together(tokenizer):
    words = torch.tensor([tokenizer(" ".join(["unhappiness"] * 20))["input_ids"]])
    mixed = {}
    for together in (True, False):
        batches = train.Batches([], tokenizer, settings(whole_words=together, mask=0.4))
        batch = batches.hide(words, torch.Generator().manual_seed(0))
        chosen = torch.zeros(words.shape[1], dtype=torch.bool)
        chosen[batch["where"][batch["truth"] != train.IGNORE]] = True
        groups = chosen[1:-1].view(20, -1)
        assert chosen.any() and groups.shape[1] > 1
        mixed[together] = int((groups.any(1) != groups.all(1)).sum())
    assert mixed[True] <= 1 and mixed[False] > 5  # the last word may be cut by the number to hide


def test_copied_words_are_content_words_nearby_and_not_the_truth(tokenizer):
    ids = torch.tensor([tokenizer("The dog saw the dog and the tall tree.")["input_ids"]])
    batches, cases = train.Batches([], tokenizer, settings(mask=0.3)), []
    for seed in range(30):
        batch = batches.hide(ids, torch.Generator().manual_seed(seed))
        seen = tokenizer.convert_ids_to_tokens(batch["seen"][0])
        for n, place in enumerate(batch["where"].tolist()):
            if batch["truth"][n] == train.IGNORE:
                continue
            true_word = tokenizer.convert_ids_to_tokens(int(batch["truth"][n]))
            words = tokenizer.convert_ids_to_tokens(batch["near"][n][batch["counts"][n]])
            others = seen[:place] + seen[place + 1 :]
            assert sorted(words) == sorted(
                word for word in others if text.kind_of_word(word) == "content" and len(word) > 2
                and word not in ("[MASK]", "[CLS]", "[SEP]", true_word)
            )  # fmt: skip
            assert place not in (0, ids.shape[1] - 1)
            cases.append((true_word, "dog" in others, "dog" in words))
    assert ("dog", True, False) in cases and ("tree", True, True) in cases


def test_words_farther_away_do_not_count_as_copied(tokenizer):
    ids = torch.tensor([tokenizer("dog " + "and " * 60 + "tree")["input_ids"]])
    batches = train.Batches([], tokenizer, settings(mask=0.05))
    content = {int(ids[0, 1]): 1, int(ids[0, -2]): ids.shape[1] - 2}
    found = 0
    for seed in range(20):
        batch = batches.hide(ids, torch.Generator().manual_seed(seed))
        for n, place in enumerate(batch["where"].tolist()):
            for token in batch["near"][n][batch["counts"][n]].tolist():
                if batch["truth"][n] != train.IGNORE and token in content:
                    found += 1
                    assert 0 < abs(content[token] - place) <= train.NEAR
    assert found


def test_pairs_follow_each_other_half_of_the_time(encoded, tokenizer):
    made = train.examples(encoded, tokenizer, 1.0, random.Random(0))
    labels = [label for _, _, label in made]
    assert set(labels) == {0, 1, train.IGNORE}
    pairs = [label for label in labels if label != train.IGNORE]
    assert sum(pairs) / len(pairs) == pytest.approx(0.5, abs=0.05)
    for tokens, types, label in made:
        assert len(tokens) == len(types) <= 128
        assert tokens.count(tokenizer.sep_token_id) == (1 if label == train.IGNORE else 2)
        assert (1 in types) == (label != train.IGNORE)


def flat_stories(encoded) -> list[list[int]]:
    return [
        [token for sentence in sentences for token in sentence] for source, sentences in encoded if source != "wordnet"
    ]


def test_labels_say_what_the_parts_are(encoded, tokenizer):
    flat, sep = flat_stories(encoded), tokenizer.sep_token_id
    homes = {}
    for number, own in enumerate(flat):
        for at in range(len(own) - 5):
            homes.setdefault(tuple(own[at : at + 6]), set()).add(number)
    seen = {0: 0, 1: 0}
    for tokens, _, label in train.examples(encoded, tokenizer, 0.0, random.Random(0)):
        if label == train.IGNORE:
            continue
        cut = tokens.index(sep)
        a, b = tokens[1:cut], tokens[cut + 1 : -1]
        if min(len(a), len(b)) < 6:
            continue
        shared = homes[tuple(a[:6])] & homes[tuple(b[:6])]
        assert bool(shared) == (label == 0) or len(homes[tuple(a[:6])] | homes[tuple(b[:6])]) > 2
        seen[label] += 1
    assert min(seen.values()) > 50


def test_where_a_pair_is_cut_does_not_tell_its_label(encoded, tokenizer):
    ends = set(tokenizer.convert_tokens_to_ids(list(".!?\"'")))
    starts = {tuple(s[:4]) for _, sentences in encoded for s in sentences}
    found, sep = {0: [], 1: []}, tokenizer.sep_token_id
    for tokens, _, label in train.examples(encoded, tokenizer, 0.0, random.Random(0)):
        if label != train.IGNORE:
            cut = tokens.index(sep)
            a, b = tokens[1:cut], tokens[cut + 1 : -1]
            found[label].append([tuple(a[:4]) in starts, a[-1] in ends, tuple(b[:4]) in starts, b[-1] in ends])
    true, wrong = (torch.tensor(found[label], dtype=torch.float).mean(0) for label in (0, 1))
    assert (true - wrong).abs().max() < 0.1


# losses and optimizer ----------------------------------------------------------------------------------------------
def little_model(tokenizer) -> BertForPreTraining:
    torch.manual_seed(0)
    return BertForPreTraining(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
        )
    )  # fmt: skip


def test_losses_equal_the_library_and_a_loop(encoded, tokenizer):
    model, batch = little_model(tokenizer).eval(), train.Batches(encoded, tokenizer, settings())(0)
    real, rows = batch["clean"] != 0, len(batch["clean"]) // train.WHOLE
    with torch.no_grad():
        hidden = train.encode_batch(model.bert, batch["clean"][:rows], batch["types"][:rows], real[:rows])
        target = train.mean_vector(hidden, real[:rows])
        parts = train.losses(model, batch, target)
        labels = torch.full_like(batch["clean"], -100).flatten()
        labels[batch["where"]] = batch["truth"]
        library = model(batch["seen"], attention_mask=real.long(), token_type_ids=batch["types"])
        log_p = library.prediction_logits.log_softmax(-1)
        mlm = torch.nn.functional.nll_loss(log_p.flatten(0, 1), labels)
        nsp = torch.nn.functional.cross_entropy(library.seq_relationship_logits, batch["follows"])
    assert float(parts["mlm"]) == pytest.approx(float(mlm), abs=1e-4)
    assert int(parts["nsp_pairs"]) == int((batch["follows"] != train.IGNORE).sum()) > 0
    assert float(parts["nsp"]) == pytest.approx(float(nsp), abs=1e-4)
    assert float(parts["away"]) == pytest.approx(0.0, abs=1e-4)  # the rows that are compared are shown whole
    with torch.no_grad():
        assert float(train.losses(model, batch, -target)["away"]) == pytest.approx(2.0, abs=1e-4)
    flat, total, known = log_p.flatten(0, 1), 0.0, batch["truth"] != train.IGNORE
    for n in range(25):
        p = flat[batch["where"][n]].exp()[batch["near"][n][batch["counts"][n]]]
        total += float(-(1 - p).log().sum()) if known[n] else 0.0
    one = {**batch, **{name: batch[name][:25] for name in ("where", "truth", "near", "counts")}}
    with torch.no_grad():
        uncopy = float(train.losses(model, one, target)["uncopy"])
    assert total > 0 and uncopy == pytest.approx(total / int(known[:25].sum()), rel=1e-3)


def test_a_batch_without_pairs_has_a_finite_loss(tokenizer):
    batches = train.Batches([], tokenizer, settings())
    ids = torch.tensor([tokenizer("The dog saw the tall tree by the house.")["input_ids"]] * 4)
    batch = {"clean": ids, "types": ids * 0, "follows": torch.full((4,), train.IGNORE)}
    batch |= batches.hide(ids, torch.Generator().manual_seed(0))
    parts = train.losses(little_model(tokenizer), batch, torch.randn(1, 16))
    assert float(parts["nsp"].detach()) == 0.0 and all(torch.isfinite(value.detach()) for value in parts.values())


def steps(model, optimizer, batches, numbers):
    for number in numbers:
        batch = batches(number)
        parts = train.losses(model, batch, torch.ones(2, 16))
        (parts["mlm"] + parts["nsp"] + parts["uncopy"] + parts["away"]).backward()
        optimizer.step(1.0)


def test_a_run_that_is_cut_goes_on_as_if_it_had_not_been(encoded, tokenizer, tmp_path):
    args = settings()
    whole = little_model(tokenizer).to(torch.bfloat16)
    optimizer = train.Optimizer(whole, args)
    steps(whole, optimizer, train.Batches(encoded, tokenizer, args), range(2))
    train.write_state(tmp_path, optimizer, {"step": 2, "tokens": 8000, "seconds": 1.0})
    steps(whole, optimizer, train.Batches(encoded, tokenizer, args), range(2, 4))

    again = little_model(tokenizer).to(torch.bfloat16)
    resumed = train.Optimizer(again, args)
    progress = train.read_state(tmp_path, resumed)
    assert progress["step"] == 2 and progress["tokens"] == 8000
    steps(again, resumed, train.Batches(encoded, tokenizer, args), range(progress["step"], 4))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not list(tmp_path.glob("*.part"))


def test_a_cut_while_the_state_is_written_leaves_the_old_one(tokenizer, tmp_path, monkeypatch):
    optimizer = train.Optimizer(little_model(tokenizer), settings())
    train.write_state(tmp_path, optimizer, {"step": 2, "tokens": 8000, "seconds": 1.0})

    def cut(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_file", cut)
    with pytest.raises(KeyboardInterrupt):
        train.write_state(tmp_path, optimizer, {"step": 4, "tokens": 16000, "seconds": 2.0})
    assert train.read_state(tmp_path, optimizer)["step"] == 2


def test_small_updates_are_not_lost_in_bfloat16(tokenizer):
    model = little_model(tokenizer).to(torch.bfloat16)
    optimizer = train.Optimizer(model, settings(encoder_rate=1e-6, head_rate=1e-6, layer_decay=1.0))
    before = [master.detach().clone() for master in optimizer.masters]
    for weight in optimizer.weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step(1.0)
    moved = [float((a - b).abs().max()) for a, b in zip(before, (m.detach() for m in optimizer.masters), strict=True)]
    assert min(moved) > 1e-7


def test_rates_rise_stay_and_fall():
    shares = [train.rate_share(done, 0.25) for done in (0.0, 0.01, 0.02, 0.5, 0.75, 0.875, 1.0)]
    assert 0 < shares[0] < 0.02 and shares[1] == pytest.approx(0.5, abs=0.01)
    assert shares[2:5] == [1.0, 1.0, 1.0] and shares[5] == pytest.approx(0.5) and shares[6] == 0.0


# start and finish --------------------------------------------------------------------------------------------------
def test_another_start_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="No model.safetensors"):
        train.start_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="is not the all-MiniLM-L6-v2"):
        train.start_folder(tmp_path)


def test_a_finished_checkpoint_loads_as_float32_with_dropout(tokenizer, tmp_path):
    model = little_model(tokenizer)
    train.save_checkpoint(tmp_path, model, tokenizer)
    loaded, info = BertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.dtype == torch.float32 and loaded.config.hidden_dropout_prob == 0.1
    gaps = [float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)]
    assert max(gaps) < 1e-3  # float16 on disk
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"


# the run -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def run(tokenizer, tmp_path, monkeypatch):
    """Call the script on stories, from a tiny start; returns its folder."""
    start = tmp_path / "start"
    little_model(tokenizer).bert.save_pretrained(start)
    tokenizer.save_pretrained(start)
    stories = [text.Document("stories", str(n), story) for n, story in enumerate(read_stories()[:150])]
    monkeypatch.setattr(train, "start_folder", lambda given: start)
    monkeypatch.setattr(train, "read_documents", lambda folder: stories)

    def script(*options: str) -> Path:
        command = ["train", str(tmp_path / "out"), "--text", "unused", "--no-compile", "--threads", "1"]
        monkeypatch.setattr(sys, "argv", [*command, *options])
        threads = torch.get_num_threads()
        try:
            train.main()
        finally:
            torch.set_num_threads(threads)
        return tmp_path / "out"

    return script


def log_of(out: Path) -> list[int]:
    with open(out / "log.csv", newline="") as file:
        return [int(row["tokens"]) for row in csv.DictReader(file)]


def test_a_run_ends_with_log_state_settings_and_checkpoint_and_can_go_on(run):
    out = run("--tokens", "5000")
    settings = json.loads((out / "settings.json").read_text())
    tokens, steps = settings["tokens"], settings["step"]
    assert tokens >= 5000 and steps >= 2 and log_of(out) == [tokens]
    first = (out / "checkpoint" / "model.safetensors").read_bytes()
    run("--tokens", "5000")  # nothing is left to do
    assert log_of(out) == [tokens] and (out / "checkpoint" / "model.safetensors").read_bytes() == first
    run("--tokens", "10000")
    settings = json.loads((out / "settings.json").read_text())
    assert settings["tokens"] >= 10000 and settings["step"] > steps
    assert log_of(out) == [tokens, settings["tokens"]]
    assert (out / "checkpoint" / "model.safetensors").read_bytes() != first
    assert {"text", "start", "out"}.isdisjoint(settings)  # no paths of one machine


def test_the_log_of_a_run_that_was_cut_has_no_step_twice(run):
    out = run("--tokens", "5000")
    with open(out / "log.csv", "a") as file:  # logged after the last state was written, then cut
        file.write("999999,9,1.000,5,0.1,0,0.7,0.5,0.1,1\n")
    run("--tokens", "10000")
    assert log_of(out) == sorted(log_of(out))


def test_the_saved_tokenizer_cuts_nothing(run):
    saved = json.loads((run("--tokens", "1000") / "checkpoint" / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None
