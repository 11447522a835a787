"""Fine-tuning in the package: batches, prediction, early stopping, a run that is cut, and several processes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

from inside_bert import Recipe, data_folder, fast_dtype, fine_tune, finetuning, length_groups, predict, read_reviews

ROOT = Path(__file__).resolve().parents[1]
SMALL = Recipe(rate=5e-3, batch_size=8, epochs=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")


@pytest.fixture(scope="module")
def texts():
    table = read_reviews().head(40)
    return table["text"].tolist(), table["label"].tolist()


def small_model(seed=0, dropout=0.1):
    torch.manual_seed(seed)
    return BertForSequenceClassification(
        BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                   hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, num_labels=2)
    )  # fmt: skip


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def cut_after(steps):
    left = iter(range(steps))

    def watch(**_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    return watch


# Batches --------------------------------------------------------------------------------------------------------------
def test_every_text_is_in_one_batch():
    chance = random.Random(0)
    sizes = [chance.randrange(4, 60) for _ in range(203)]
    batches = length_groups(sizes, 16, random.Random(1))
    assert sorted(n for batch in batches for n in batch) == list(range(203))
    assert sorted(map(len, batches)) == [203 % 16] + [16] * (203 // 16)


def test_like_lengths_share_a_batch_and_epochs_differ():
    chance = random.Random(0)
    sizes = [chance.randrange(4, 60) for _ in range(640)]
    places = lambda batches: sum(len(batch) * max(sizes[n] for n in batch) for batch in batches)  # noqa: E731
    order = chance.sample(range(640), 640)
    shuffled = [order[at : at + 16] for at in range(0, 640, 16)]
    first, second = (length_groups(sizes, 16, random.Random(epoch)) for epoch in (0, 1))
    assert places(first) < 0.75 * places(shuffled)
    assert first != second
    longest = [max(sizes[n] for n in batch) for batch in first]
    assert longest != sorted(longest)  # no curriculum from short to long


# Prediction -----------------------------------------------------------------------------------------------------------
def test_prediction_depends_on_neither_batch_nor_order_nor_mode(tokenizer, texts):
    model = small_model().train()
    model.bert.eval()  # a part that the caller had put to rest
    with torch.no_grad():
        model.classifier.weight.mul_(1_000)  # so that texts differ visibly
    whole = predict(model, tokenizer, texts[0])
    assert model.training and not model.bert.training
    assert whole.shape == (40, 2) and whole.dtype == torch.float32
    assert whole.std(dim=0).min() > 1e-3
    assert torch.allclose(whole, predict(model, tokenizer, texts[0], batch_size=3), atol=1e-5)
    assert torch.allclose(whole.flip(0), predict(model, tokenizer, texts[0][::-1]), atol=1e-5)


@pytest.mark.parametrize("given, message", [([], "nothing to predict"), ("one string", "give a list")])
def test_what_is_no_list_of_texts_is_an_error(tokenizer, given, message):
    with pytest.raises(ValueError, match=message):
        predict(small_model(), tokenizer, given)


def test_an_error_leaves_the_model_as_it_was(tokenizer):
    model = small_model().train()
    with pytest.raises((IndexError, RuntimeError)):
        predict(model, tokenizer, ["too long " * 300], max_length=600)
    assert model.training


@pytest.mark.parametrize("faster, expected", [(1.2, torch.float32), (4.0, torch.bfloat16)])
def test_the_faster_type_is_the_measured_one(monkeypatch, faster, expected):
    speed = {torch.float32: 1.0, torch.bfloat16: faster}
    monkeypatch.setattr(finetuning, "matmul_speed", lambda device, dtype, size: speed[dtype])
    assert fast_dtype(CPU) == expected


# Training -------------------------------------------------------------------------------------------------------------
def test_it_learns(tokenizer, texts):
    model = small_model(dropout=0.0)
    history = fine_tune(model, tokenizer, texts, recipe=Recipe(rate=5e-3, batch_size=8, epochs=12))
    assert history[-1]["train_loss"] < 0.3 < history[0]["train_loss"]
    assert [row["epoch"] for row in history] == list(range(1, 13))
    right = predict(model, tokenizer, texts[0]).argmax(dim=-1) == torch.tensor(texts[1])
    assert right.float().mean() > 0.9 and not model.training


def test_the_best_epoch_is_kept_and_the_run_stops(tokenizer, texts):
    turned = texts[0], [1 - label for label in texts[1]]  # the better it learns, the worse it does here
    recipe = Recipe(rate=5e-3, batch_size=8, epochs=12, patience=2)
    model = small_model(dropout=0.0)
    history = fine_tune(model, tokenizer, texts, turned, recipe)
    losses = [row["validation_loss"] for row in history]
    best = losses.index(min(losses))
    assert len(history) == best + 1 + recipe.patience < recipe.epochs
    loss = torch.nn.functional.cross_entropy(predict(model, tokenizer, turned[0]), torch.tensor(turned[1]))
    assert float(loss) == pytest.approx(min(losses), abs=1e-5)
    assert history[best]["validation_accuracy"] == pytest.approx(
        float((predict(model, tokenizer, turned[0]).argmax(-1) == torch.tensor(turned[1])).float().mean())
    )


def test_frozen_weights_stay(tokenizer, texts):
    model = small_model()
    table = model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    before, rest = table.clone(), model.classifier.weight.detach().clone()
    fine_tune(model, tokenizer, texts, recipe=SMALL)
    assert torch.equal(before, table) and not torch.equal(rest, model.classifier.weight)


def test_biases_and_layer_norms_do_not_decay():
    model = small_model()
    decaying, spared = finetuning.make_optimizer(model, SMALL).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decaying["weight_decay"] == SMALL.decay and spared["weight_decay"] == 0
    expected = {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name}
    assert {names[id(p)] for p in spared["params"]} == expected
    assert {names[id(p)] for p in decaying["params"]} == set(names.values()) - expected


@pytest.mark.parametrize(
    "train, message",
    [
        ((["good", "bad"], [1]), "2 texts and 1 labels"),
        (([], []), "0 texts"),
        ((["good", "bad"], [1, 2]), r"\[2\] were given"),
        ((["good", "bad"], ["pos", "neg"]), "labels go from 0 to 1"),
        (("good", 1), "one string was given"),
    ],
)
def test_unfit_data_is_an_error(tokenizer, texts, train, message):
    with pytest.raises(ValueError, match=message):
        fine_tune(small_model(), tokenizer, train)
    with pytest.raises(ValueError, match=message):  # before an epoch is spent, too
        fine_tune(small_model(), tokenizer, texts, train, watch=cut_after(0))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"epochs": 0}, {"patience": 0}, {"rate": 0.0}])
def test_an_impossible_recipe_is_an_error(wrong):
    with pytest.raises(ValueError, match="at least 1, and rate is above 0"):
        Recipe(**wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_before_its_step(tokenizer, texts, value):
    model = small_model()
    with torch.no_grad():
        model.classifier.bias.fill_(value)
    before = model.bert.pooler.dense.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="step 1 of epoch 1"):
        fine_tune(model, tokenizer, texts, recipe=SMALL)
    assert torch.equal(before, model.bert.pooler.dense.weight)


# A run that is cut ----------------------------------------------------------------------------------------------------
def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize("steps, kept", [(4, 0), (9, 1), (14, 2)])  # cut at the last step of an epoch of five
def test_a_cut_run_ends_like_an_uncut_one(tokenizer, texts, tmp_path, steps, kept):
    uncut, made = small_model(), []
    expected = fine_tune(uncut, tokenizer, texts, texts, SMALL)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(small_model(), tokenizer, texts, texts, SMALL, folder=tmp_path, watch=cut_after(steps))
    assert (tmp_path / "run.safetensors").exists() == bool(kept)
    resumed = small_model(seed=7 if kept else 0)  # one cut in its first epoch begins with the model it is given
    history = fine_tune(resumed, tokenizer, texts, texts, SMALL, folder=tmp_path, watch=lambda **now: made.append(now))
    assert len(made) == 5 * (3 - kept)
    assert torch.equal(weights(uncut), weights(resumed))
    assert without_seconds(history) == without_seconds(expected)


def test_the_best_epoch_survives_a_cut(tokenizer, texts, tmp_path):
    turned = texts[0], [1 - label for label in texts[1]]
    recipe = Recipe(rate=5e-3, batch_size=8, epochs=12)
    uncut, resumed = small_model(dropout=0.0), small_model(seed=7, dropout=0.0)
    epochs = len(fine_tune(uncut, tokenizer, texts, turned, recipe))
    watch = cut_after(5 * (epochs - 1))
    with pytest.raises(KeyboardInterrupt):
        fine_tune(small_model(dropout=0.0), tokenizer, texts, turned, recipe, folder=tmp_path, watch=watch)
    fine_tune(resumed, tokenizer, texts, turned, recipe, folder=tmp_path)
    assert torch.equal(weights(uncut), weights(resumed))


def test_a_finished_run_is_not_made_again(tokenizer, texts, tmp_path):
    first, second = small_model(), small_model(seed=3)
    fine_tune(first, tokenizer, texts, texts, SMALL, folder=tmp_path)
    fine_tune(second, tokenizer, texts, texts, SMALL, folder=tmp_path, watch=cut_after(0))
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    "other, message",
    [
        ({"recipe": Recipe()}, "another recipe"),
        ({"train": (["other"] * 40, [0, 1] * 20)}, "another set of texts or labels"),
        ({"validation": (["other"], [1])}, "another set of texts or labels"),
        ({"dtype": torch.bfloat16}, "another number type"),
        ({"frozen": True}, "another model or frozen part"),
    ],
)
def test_a_folder_of_another_run_is_refused(tokenizer, texts, tmp_path, other, message):
    fine_tune(small_model(), tokenizer, texts, recipe=SMALL, folder=tmp_path)
    kept, model = (tmp_path / "run.safetensors").read_bytes(), small_model(seed=7)
    before = weights(model)
    model.classifier.requires_grad_(not other.get("frozen"))
    with pytest.raises(ValueError, match=message):
        fine_tune(model, tokenizer, other.get("train", texts), other.get("validation"), other.get("recipe", SMALL),
                  dtype=other.get("dtype"), folder=tmp_path)  # fmt: skip
    assert (tmp_path / "run.safetensors").read_bytes() == kept and torch.equal(before, weights(model))


def test_a_foreign_file_is_refused(tokenizer, texts, tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="holds no run of this package"):
        fine_tune(small_model(), tokenizer, texts, recipe=SMALL, folder=tmp_path)


def test_a_damaged_state_is_named_and_not_overwritten(tokenizer, texts, tmp_path):
    fine_tune(small_model(), tokenizer, texts, recipe=SMALL, folder=tmp_path)
    path = tmp_path / "run.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="run.safetensors is damaged"):
        fine_tune(small_model(), tokenizer, texts, recipe=SMALL, folder=tmp_path)
    assert path.stat().st_size == 1000


def test_a_run_leaves_safetensors_only(tokenizer, texts, tmp_path):
    fine_tune(small_model(), tokenizer, texts, texts, SMALL, folder=tmp_path / "new" / "folder")
    assert {path.suffix for path in (tmp_path / "new" / "folder").iterdir()} == {".safetensors"}


def test_the_rate_goes_on_where_it_was(tokenizer, texts, tmp_path):
    model = small_model()
    optimizer = finetuning.make_optimizer(model, SMALL)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 15)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(small_model(), tokenizer, texts, recipe=SMALL, folder=tmp_path, watch=cut_after(7))
    run = finetuning._Run(model, optimizer, schedule, {}, tmp_path)
    run.task = {}  # whichever run it is
    run.resume()
    assert schedule.last_epoch == 5  # steps of one epoch
    assert optimizer.param_groups[0]["lr"] == pytest.approx(SMALL.rate * (15 - 5) / (15 - 2))


# Several processes ----------------------------------------------------------------------------------------------------
def run_tool(tmp_path, name, launcher, *more):
    script = [str(ROOT / "tools" / "finetune_classifier.py"), "--out", str(tmp_path / name), "--dropout", "0", *more]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    environment |= {"OMP_WAIT_POLICY": "passive", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.run([*launcher, *script], env=environment, capture_output=True, text=True, cwd=tmp_path,
                          timeout=300)  # fmt: skip


def test_two_processes_train_like_one(tmp_path):
    steps = ("--batch-size", "8", "--steps", "5", "--rate", "1e-4")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--multi_gpu", "--main_process_port", "0"]
    reports = {}
    for name, launcher in {"one": [sys.executable], "two": launch}.items():
        result = run_tool(tmp_path, name, launcher, *steps)
        assert result.returncode == 0, result.stderr[-3000:]
        reports[name] = json.loads((tmp_path / name / "losses.json").read_text())
    assert (reports["one"]["processes"], reports["two"]["processes"]) == (1, 2)
    assert len(reports["one"]["losses"]) == 5 and len(set(reports["one"]["losses"])) == 5
    assert reports["two"]["losses"] == pytest.approx(reports["one"]["losses"], abs=1e-5)
    folders = [data_folder() / "models" / "embedded-bert", tmp_path / "one", tmp_path / "two"]
    models = [BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32) for folder in folders]
    before, alone, together = (weights(model.bert) for model in models)
    assert (alone - together).norm() < 0.05 * (alone - before).norm()


@pytest.mark.parametrize(
    "content, message",
    [
        ("text,sentiment\ngood,1\n", r"column ['label'] is missing"),
        ("text,label\ngood,1\nbad,neg\n", "1 of 2 labels are no whole numbers from 0 on, such as 'neg'"),
        ("text,label\ngood,1\nbad,0.5\n", "no whole numbers from 0 on"),
        ("text,label\ngood,1\nbad,-1\n", "no whole numbers from 0 on"),
        ("text,label\ngood,0\nbad,0\n", "1 different labels"),
        ("text,label\ngood,1\nbad,0\n", "do not fill one batch"),
    ],
)
def test_the_tool_says_what_is_wrong_with_a_table(tmp_path, content, message):
    (tmp_path / "data.csv").write_text(content)
    result = run_tool(tmp_path, "out", [sys.executable], "--data", str(tmp_path / "data.csv"))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert message in result.stderr and not (tmp_path / "out").exists()
