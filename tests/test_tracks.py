"""Tracks in the package: linking, even steps, features in metres and seconds, and a BERT that reads the steps."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from inside_bert import (
    Detection,
    Recipe,
    by_track,
    embed,
    fine_tune_tracks,
    iou,
    link,
    motion,
    new_track_model,
    predict_tracks,
    to_steps,
)
from inside_bert.tracks import CLS, FEATURES, STATURE, STEP

POSITIONS = 40  # of the small model
NO_POSITIONS = torch.zeros(1, 1, dtype=torch.long)
SMALL = Recipe(rate=5e-3, batch_size=8, epochs=3)
TALL = 100  # px: height of the people here


def seen(frame, left, top=200.0, track=None, wide=40.0, tall=TALL):
    return Detection(frame, track, 0, float(left), float(top), float(left + wide), float(top + tall), 0.9)


# Tracks ---------------------------------------------------------------------------------------------------------------
def test_detections_come_by_track_and_frame():
    mixed = [seen(3, 0, track=7), seen(1, 1, track=7), seen(2, 2), seen(2, 3, track=4), seen(2, 4, track=7)]
    found = by_track(iter(mixed))
    assert list(found) == [4, 7]
    assert found[7] == [mixed[1], mixed[4], mixed[0]] and found[4] == [mixed[3]]
    assert by_track([seen(1, 0)]) == {}


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
        ((0, 0, 10, 10), (2, 3, 7, 7), 0.2),  # one within the other
        ((0, 0, 10, 4), (8, -6, 18, 2), 4 / 116),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # they touch
        ((0, 0, 10, 10), (10, 10, 20, 20), 0.0),
        ((0, 0, 10, 10), (30, 0, 40, 10), 0.0),
        ((0, 0, 10, 10), (30, 30, 40, 40), 0.0),  # apart both ways: two negative lengths make no area
    ],
)
def test_overlap_of_two_boxes(a, b, share):
    assert iou(a, b) == iou(b, a) == pytest.approx(share)


@pytest.mark.parametrize(("missed", "people"), [(0, 1), (2, 1), (3, 2)])
def test_a_track_waits_as_long_as_its_patience(missed, people):
    frames = [1, 2, 3, *range(4 + missed, 8 + missed)]
    linked = link([seen(frame, 100) for frame in frames], patience=2)
    assert [one.frame for one in linked] == frames
    assert [one.track for one in linked] == [1] * 3 + [people] * 4


def test_two_who_cross_keep_their_numbers():
    right = [seen(frame, 10 * frame, top=200) for frame in range(21)]
    left = [seen(frame, 205 - 10 * frame, top=230) for frame in range(21)]
    both = [pair[:: (-1) ** frame] for frame, pair in enumerate(zip(right, left))]  # now this one first, now that
    linked = link(one for pair in both for one in pair)
    assert {one.track for one in linked if one.y1 == 200} == {1}
    assert {one.track for one in linked if one.y1 == 230} == {2}


def test_the_largest_overlap_goes_first():
    far, near = seen(2, 40, wide=100), seen(2, 5, wide=100)
    assert [one.track for one in link([seen(1, 0, wide=100), far, near])] == [1, 2, 1]
    late, more = seen(2, 25, wide=100), seen(2, 50, wide=100)  # 0.6 and 0.3 of the first, 0.9 and 0.7 of the second
    linked = link([seen(1, 0, wide=100), seen(1, 30, wide=100), late, more])
    assert [one.track for one in linked] == [1, 2, 2, 1]


def test_a_pair_needs_the_overlap_asked_for():
    pair = [seen(1, 0, wide=30), seen(2, 10, wide=30)]  # half
    assert [one.track for one in link(pair, overlap=0.5)] == [1, 1]
    assert [one.track for one in link(pair, overlap=0.51)] == [1, 2]
    apart = [seen(1, 0, wide=30), seen(2, 50, wide=30)]
    assert [one.track for one in link(apart, overlap=1e-9)] == [1, 2]


def crowd():
    chance = random.Random(0)
    places = [chance.uniform(0, 150) for _ in range(8)]
    return [
        seen(frame, place + chance.gauss(0, 6), top=200 + chance.gauss(0, 6))
        for frame in range(1, 31)
        for place in places
        if chance.random() > 0.2
    ]


def test_a_track_has_one_box_a_frame_at_most():
    boxes = crowd()
    linked = link(boxes, overlap=0.1)
    assert len({(one.frame, one.track) for one in linked}) == len(linked) == len(boxes)
    assert [one._replace(track=None) for one in linked] == boxes
    assert {one.track for one in linked} == set(range(1, max(one.track for one in linked) + 1))
    assert len({one.track for one in linked}) < len(boxes) / 4  # most are linked


def test_frames_may_come_in_any_order():
    boxes = crowd()
    mixed = [one for frame in random.Random(1).sample(range(1, 31), 30) for one in boxes if one.frame == frame]
    assert mixed != boxes and link(mixed) == link(boxes)


def test_numbers_that_were_there_are_replaced():
    bare = [seen(frame, 100 * person) for frame in (1, 2) for person in range(3)]
    numbered = [one._replace(track=40 + n) for n, one in enumerate(bare)]
    assert link(numbered) == link(bare) and [one.track for one in link(bare)] == [1, 2, 3] * 2
    assert link([]) == []


@pytest.mark.parametrize("wrong", [{"overlap": 0}, {"overlap": 1.1}, {"overlap": math.nan}, {"patience": -1}])
def test_linking_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ValueError, match="give 0 < overlap <= 1 and patience >= 0"):
        link([seen(1, 0)], **wrong)


# Even steps -----------------------------------------------------------------------------------------------------------
ACROSS, DOWN = 60.0, 12.0  # px/s


def walker(rate, first=1, seconds=4.0):
    """Someone who walks on at one pace."""
    count = int(seconds * rate) + 1
    return [seen(first + n, 100 + ACROSS * n / rate, 200 + DOWN * n / rate) for n in range(count)]


def on_the_way(steps, step=STEP):
    middles = (np.arange(steps) + 0.5) * step
    left, top = 100 + ACROSS * middles, 200 + DOWN * middles
    return np.stack([left, top, left + 40, top + TALL], axis=1)


@pytest.mark.parametrize("rate", [8, 12.5, 30])
def test_the_rate_of_frames_does_not_matter(rate):
    boxes, known = to_steps(walker(rate), rate)
    assert boxes.shape == (21, 4) and known.all() and known.dtype == bool
    assert boxes[:-1] == pytest.approx(on_the_way(20), abs=1e-6)
    assert np.abs(boxes[-1] - on_the_way(21)[-1]).max() <= ACROSS * STEP / 2 + 1e-6  # begun, and no neighbour after it


@pytest.mark.parametrize("rate", [8, 12.5, 30])
def test_speed_does_not_depend_on_the_rate_of_frames(rate):
    speed = motion(*to_steps(walker(rate), rate), 1280, 720)[:, FEATURES.index("speed")]
    assert speed[:-2] == pytest.approx(np.full(19, STATURE * math.hypot(ACROSS, DOWN) / TALL), rel=1e-5)


def test_a_step_holds_the_mean_of_its_boxes():
    trembling = [seen(frame, 100 + 10 * (frame % 2)) for frame in range(1, 11)]
    boxes, _ = to_steps(trembling, 10)
    assert boxes[:, 0] == pytest.approx([105.0] * 5)


def test_a_gap_is_interpolated_and_said():
    whole = walker(10)
    boxes, known = to_steps([one for one in whole if not 7 <= one.frame <= 12], 10)  # 0.6 s to 1.1 s: three steps
    assert known.tolist() == [True] * 3 + [False] * 3 + [True] * 15
    assert boxes[:-1] == pytest.approx(on_the_way(20), abs=1e-6)
    assert np.array_equal(to_steps(whole, 10)[0][6:], boxes[6:])


def test_frames_count_from_the_first_one_seen():
    for first in (0, 57):
        assert np.array_equal(to_steps(walker(12.5, first), 12.5)[0], to_steps(walker(12.5), 12.5)[0])


def test_steps_of_another_length():
    boxes, _ = to_steps(walker(10), 10, step=0.5)
    assert boxes.shape == (9, 4) and boxes[:-1] == pytest.approx(on_the_way(8, 0.5), abs=1e-6)


@pytest.mark.parametrize(("count", "rate"), [(0, 10), (1, 10), (2, 10), (5, 30)])
def test_a_track_within_one_step_has_no_speed(count, rate):
    with pytest.raises(ValueError, match=f"a track of {count} boxes spans no two steps of 0.2 s"):
        to_steps(walker(rate)[:count], rate)
    assert to_steps(walker(rate)[: count + 4], rate)[0].shape[0] >= 2


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": -10}, {"rate": math.nan}, {"step": 0}, {"step": -0.2}])
def test_rate_and_step_have_to_be_positive(wrong):
    with pytest.raises(ValueError, match="give frames per second, and seconds above 0"):
        to_steps(walker(10), **{"rate": 10, **wrong})


# Features -------------------------------------------------------------------------------------------------------------
def columns(boxes, known=None, width=1280, height=720, step=STEP):
    known = np.ones(len(boxes), dtype=bool) if known is None else known
    found = motion(boxes, known, width, height, step)
    assert found.shape == (len(boxes), len(FEATURES)) and found.dtype == np.float32
    return dict(zip(FEATURES, found.T))


def moving(across=0.0, down=0.0, tall=100.0, wide=40.0, growth=0.0, steps=12):
    seconds = np.arange(steps) * STEP
    middle, foot, tall = 500 + across * seconds, 400 + down * seconds, tall * np.exp(growth * seconds)
    return np.stack([middle - wide / 2, foot - tall, middle + wide / 2, foot], axis=1)


@pytest.mark.parametrize(("across", "down"), [(80, 0), (-80, 0), (0, 30), (0, -30), (60, -45)])
@pytest.mark.parametrize("tall", [50.0, 200.0])
def test_speed_is_in_metres_for_a_person_of_the_height_taken(across, down, tall):
    found = columns(moving(across, down, tall))
    assert STATURE == 1.7
    assert found["vx"] == pytest.approx(np.full(12, 1.7 * across / tall), abs=1e-5)
    assert found["vy"] == pytest.approx(np.full(12, 1.7 * down / tall), abs=1e-5)
    assert found["speed"] == pytest.approx(np.full(12, 1.7 * math.hypot(across, down) / tall), abs=1e-5)


def test_who_comes_nearer_has_fewer_metres_a_pixel():
    boxes = moving(60, growth=0.3)  # the foot stays on its line, and the head does not
    found = columns(boxes)
    assert found["vx"] == pytest.approx(1.7 * 60 / (boxes[:, 3] - boxes[:, 1]), rel=1e-5)
    assert found["vy"] == pytest.approx(0.0, abs=1e-6)


def test_speed_needs_the_length_of_a_step():
    assert columns(moving(80), step=0.1)["speed"] == pytest.approx(2 * columns(moving(80))["speed"])


def test_where_a_box_is_and_how_it_is_shaped():
    found = columns(moving(wide=40, tall=100), width=1000, height=800)
    assert found["x"] == pytest.approx(0.0) and found["y"] == pytest.approx(0.0)  # foot in the middle
    assert found["height"] == pytest.approx(math.log(100 / 800)) and found["aspect"] == pytest.approx(0.4)
    corner = columns(moving() + np.array([400, 200, 400, 200]), width=1000, height=800)
    assert corner["x"] == pytest.approx(0.4) and corner["y"] == pytest.approx(0.25)  # right and down are positive


def test_velocity_does_not_depend_on_the_size_of_the_picture():
    small, large = columns(moving(60, 20, growth=0.2)), columns(moving(60, 20, growth=0.2), width=3840, height=2160)
    for name in ("aspect", "vx", "vy", "growth", "speed"):
        assert np.array_equal(small[name], large[name]), name
    for name in ("x", "y", "height"):
        assert np.abs(small[name] - large[name]).min() > 0.01, name


def test_a_film_of_twice_the_size_gives_the_same_features():
    boxes = moving(60, 20, growth=0.2)
    once, twice = columns(boxes), columns(2 * boxes, width=2 * 1280, height=2 * 720)
    for name in FEATURES:
        assert twice[name] == pytest.approx(once[name], abs=1e-5), name


def test_who_comes_nearer_grows():
    assert columns(moving(growth=0.3))["growth"] == pytest.approx(0.3, abs=1e-4)
    assert columns(moving(growth=-0.3))["growth"] == pytest.approx(-0.3, abs=1e-4)
    assert columns(moving(60))["growth"] == pytest.approx(0.0, abs=1e-6)


def test_what_was_seen_stands_in_the_last_column():
    known = np.arange(12) % 3 > 0
    assert FEATURES[-1] == "seen" and columns(moving(60), known)["seen"].tolist() == [0.0, 1.0, 1.0] * 4


# The model ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small BERT on disk, in half precision as the embedded one; large random weights, so that inputs matter."""
    torch.manual_seed(99)  # none that a model here is made with
    config = BertConfig(vocab_size=CLS + 19, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=POSITIONS, initializer_range=0.3)  # fmt: skip
    folder = tmp_path_factory.mktemp("checkpoint")
    BertModel(config).half().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(checkpoint):
    return new_track_model(checkpoint, 2)


def sequences(lengths, seed=0, features=9):
    chance = torch.Generator().manual_seed(seed)
    return [torch.randn(length, features, generator=chance) for length in lengths]


def task(count=32, seed=1):
    """Steps that rise, and each of these sequences backwards: only the order tells the label."""
    found = []
    for line in sequences([8] * (count // 2), seed):
        line[:, 0] = 0.3 * line[:, 0] + torch.linspace(-2, 2, 8)
        found += [line, line.flip(0)]
    return found, [1, 0] * (count // 2)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def accuracy(model, part, **more):
    return float((predict_tracks(model, part[0], **more).argmax(dim=-1) == torch.tensor(part[1])).float().mean())


def cut_after(steps):
    left = iter(range(steps))

    def watch(**_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    return watch


def test_a_model_begins_with_the_weights_of_the_checkpoint(checkpoint):
    stored = BertModel.from_pretrained(checkpoint, dtype=torch.float32).state_dict()
    model, fresh = new_track_model(checkpoint, 3), new_track_model(checkpoint, 3, pretrained=False)
    for name, weight in model.bert.state_dict().items():
        assert torch.equal(weight, stored[name]), name
    for name, weight in fresh.bert.named_parameters():
        assert weight.dim() == 1 or not torch.allclose(weight, stored[name], atol=0.1), name
    for one in (model, fresh):
        assert {parameter.dtype for parameter in one.parameters()} == {torch.float32}
        assert one.classifier.out_features == one.config.num_labels == 3 and not one.training
        assert (one.projection.in_features, one.projection.out_features) == (9, 16)
        assert {part.p for part in one.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}


def test_projection_and_head_come_from_the_seed(checkpoint):
    first, again, other = (new_track_model(checkpoint, 2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(first.projection.weight, other.projection.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert torch.equal(first.bert.pooler.dense.weight, other.bert.pooler.dense.weight)
    bare = [new_track_model(checkpoint, 2, seed=seed, pretrained=False) for seed in (3, 3, 4)]
    assert torch.equal(weights(bare[0]), weights(bare[1]))
    assert not torch.equal(bare[0].bert.pooler.dense.weight, bare[2].bert.pooler.dense.weight)


@pytest.mark.parametrize("features", [4, 64])
def test_a_step_weighs_as_much_as_a_word(checkpoint, features):
    model = new_track_model(checkpoint, 2, features=features)
    steps, words = model.projection(sequences([500], features=features)[0]), model.bert.embeddings.word_embeddings
    assert steps.std().item() / words.weight.std().item() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_the_one_asked_for(checkpoint, attention):
    model = new_track_model(checkpoint, 2, attention=attention)
    with torch.no_grad():
        logits = model(**embed(model, sequences([5, 3]))).logits
    assert model.config._attn_implementation == attention
    assert torch.allclose(logits, predict_tracks(new_track_model(checkpoint, 2), sequences([5, 3])), atol=1e-5)


def test_steps_become_vectors_behind_that_of_cls(model):
    given = sequences([3, 1, 5])
    made = embed(model, given)
    assert set(made) == {"inputs_embeds", "attention_mask"}
    assert made["inputs_embeds"].shape == (3, 6, 16)
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1] * 6]
    cls = model.bert.embeddings.word_embeddings.weight[CLS]
    assert all(torch.equal(row, cls) for row in made["inputs_embeds"][:, 0])
    for row, one in zip(made["inputs_embeds"], given):
        assert torch.allclose(row[1 : 1 + len(one)], model.projection(one), atol=1e-6)


def test_a_sequence_does_not_feel_its_neighbours(model):
    """Neither padding nor the batch changes a result, and results come in the order given."""
    given = sequences([9, 2, 30, 1, 17, 2, 12])
    alone = torch.cat([predict_tracks(model, [one]) for one in given])
    assert alone.shape == (7, 2) and alone.dtype == torch.float32
    assert alone.std(dim=0).min() > 1e-2  # they differ
    for size in (1, 3, 64):
        assert torch.allclose(alone, predict_tracks(model, given, batch_size=size), atol=1e-5), size


def test_predicting_leaves_the_model_in_its_mode(model):
    model.train()
    model.bert.eval()
    assert not predict_tracks(model, sequences([4])).requires_grad
    assert model.training and not model.bert.training


def test_only_positions_tell_the_order(model):
    (line,) = sequences([20])
    mixed = line[torch.randperm(20, generator=torch.Generator().manual_seed(2))]
    one, other = predict_tracks(model, [line, mixed])
    assert (one - other).abs().max() > 1e-2
    one, other = predict_tracks(model, [line, mixed], position_ids=NO_POSITIONS)
    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there are no sequences"),
        (sequences([4, 0, 3]), "sequence 1 has 0 steps; this model takes 1 to 39"),
        (sequences([POSITIONS]), "sequence 0 has 40 steps; this model takes 1 to 39"),
        (sequences([4], features=8), "sequence 0 has the shape (4, 8); it has to be (steps, 9)"),
        ([torch.zeros(4)], "sequence 0 has the shape (4,); it has to be (steps, 9)"),
        ([torch.zeros(4, 9, 1)], "sequence 0 has the shape (4, 9, 1); it has to be (steps, 9)"),
    ],
)
def test_what_is_no_sequence_of_the_model_is_told(model, given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        embed(model, given)


def test_a_sequence_may_fill_all_positions(model):
    assert embed(model, sequences([POSITIONS - 1]))["inputs_embeds"].shape[1] == POSITIONS
    assert predict_tracks(model, sequences([POSITIONS - 1])).isfinite().all()


# Training -------------------------------------------------------------------------------------------------------------
LONG = Recipe(rate=5e-3, batch_size=8, epochs=12, patience=12)


def test_a_small_model_learns_an_order(model):
    history = fine_tune_tracks(model, task(), task(16, seed=2), LONG)
    assert [row["epoch"] for row in history] == list(range(1, 13)) and not model.training
    assert history[-1]["train_loss"] < 0.1 * history[0]["train_loss"]
    assert accuracy(model, task()) > 0.95


def test_without_positions_it_does_not(model):
    """`position_ids` go to the model in training, and in judging."""
    history = fine_tune_tracks(model, task(), task(), LONG, position_ids=NO_POSITIONS)
    assert min(row["train_loss"] for row in history) > 0.6
    assert accuracy(model, task(), position_ids=NO_POSITIONS) == pytest.approx(0.5, abs=0.1)
    best = min(row["validation_loss"] for row in history)
    logits = predict_tracks(model, task()[0], position_ids=NO_POSITIONS)
    assert float(torch.nn.functional.cross_entropy(logits, torch.tensor(task()[1]))) == pytest.approx(best, abs=1e-5)


def test_the_best_epoch_is_kept_and_the_run_stops(model):
    turned = task()[0], [1 - label for label in task()[1]]  # the better it learns, the worse it does here
    recipe = Recipe(rate=5e-3, batch_size=8, epochs=12, patience=2)
    history = fine_tune_tracks(model, task(), turned, recipe)
    losses = [row["validation_loss"] for row in history]
    best = losses.index(min(losses))
    assert len(history) == best + 1 + recipe.patience < recipe.epochs
    loss = torch.nn.functional.cross_entropy(predict_tracks(model, turned[0]), torch.tensor(turned[1]))
    assert float(loss) == pytest.approx(min(losses), abs=1e-5)
    assert history[best]["validation_accuracy"] == pytest.approx(accuracy(model, turned))


@pytest.mark.parametrize("pretrained", [True, False])
def test_words_stay_and_the_rest_learns(checkpoint, pretrained):
    model = new_track_model(checkpoint, 2, pretrained=pretrained)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    fine_tune_tracks(model, task(), recipe=SMALL)
    same = {name for name, parameter in model.named_parameters() if torch.equal(before[name], parameter)}
    assert same == {"bert.embeddings.word_embeddings.weight"}


def test_like_lengths_share_a_batch(model):
    shapes = []
    model.register_forward_pre_hook(lambda _, __, given: shapes.append(given["inputs_embeds"].shape), with_kwargs=True)
    fine_tune_tracks(model, (sequences([2, 30] * 32), [0, 1] * 32), recipe=SMALL)
    assert sorted(tuple(shape) for shape in shapes) == 12 * [(8, 3, 16)] + 12 * [(8, 31, 16)]


def test_arrays_are_taken_too(checkpoint):
    first, second = new_track_model(checkpoint, 2), new_track_model(checkpoint, 2)
    fine_tune_tracks(first, task(), recipe=SMALL)
    arrays = [one.numpy() for one in task()[0]]
    fine_tune_tracks(second, (arrays, np.array(task()[1])), recipe=SMALL)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (([], []), "there are no sequences"),
        ((task()[0], [0, 1]), "32 sequences and 2 labels were given; each one needs one label"),
        ((task()[0], [0] * 31 + [2]), "labels are whole numbers from 0 to 1 in this model, and ['2'] were given"),
        ((task()[0], [0] * 31 + [-1]), "labels are whole numbers from 0 to 1 in this model, and ['-1'] were given"),
        ((task()[0], [0] * 31 + [0.5]), "labels are whole numbers from 0 to 1 in this model, and ['0.5'] were given"),
        ((task()[0], [0] * 31 + ["neg"]), "labels are whole numbers from 0 to 1 in this model, and ['neg'] were given"),
        (([*task()[0][:31], torch.full((8, 9), math.nan)], task()[1]), "sequence 31 holds a value that is not finite"),
        (([*task()[0][:31], torch.full((8, 9), math.inf)], task()[1]), "sequence 31 holds a value that is not finite"),
    ],
)
def test_unfit_data_is_an_error_before_a_step_is_made(model, train, said):
    before = weights(model)
    with pytest.raises(ValueError, match=re.escape(said)):
        fine_tune_tracks(model, train)
    with pytest.raises(ValueError, match=re.escape(said)):
        fine_tune_tracks(model, task(), train, watch=cut_after(0))
    assert torch.equal(before, weights(model))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (sequences([4, 0]), "sequence 1 has 0 steps"),
        (sequences([4, POSITIONS]), "sequence 1 has 40 steps"),
        (sequences([4, 5], features=8), "sequence 0 has the shape (4, 8)"),
    ],
)
def test_unfit_shapes_are_an_error_of_training_too(model, given, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        fine_tune_tracks(model, (given, [0, 1]), recipe=SMALL)


# A run that is cut ----------------------------------------------------------------------------------------------------
def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.parametrize(("steps", "kept"), [(3, 0), (7, 1), (11, 2)])  # cut at the last step of an epoch of four
def test_a_cut_run_ends_like_an_uncut_one(checkpoint, tmp_path, steps, kept):
    uncut, made = new_track_model(checkpoint, 2), []
    expected = fine_tune_tracks(uncut, task(), task(16, seed=2), SMALL)
    with pytest.raises(KeyboardInterrupt):
        fine_tune_tracks(new_track_model(checkpoint, 2), task(), task(16, seed=2), SMALL, folder=tmp_path,
                         watch=cut_after(steps))  # fmt: skip
    assert (tmp_path / "run.safetensors").exists() == bool(kept)
    resumed = new_track_model(checkpoint, 2, seed=7 if kept else 0)  # one cut in its first epoch begins as it is given
    history = fine_tune_tracks(resumed, task(), task(16, seed=2), SMALL, folder=tmp_path,
                               watch=lambda **now: made.append(now))  # fmt: skip
    assert len(made) == 4 * (3 - kept)
    assert torch.equal(weights(uncut), weights(resumed))
    assert without_seconds(history) == without_seconds(expected)


def test_a_finished_run_is_not_made_again(checkpoint, tmp_path):
    first, second = new_track_model(checkpoint, 2), new_track_model(checkpoint, 2, seed=3)
    fine_tune_tracks(first, task(), recipe=SMALL, folder=tmp_path)
    fine_tune_tracks(second, task(), recipe=SMALL, folder=tmp_path, watch=cut_after(0))
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"train": (task()[0], task()[1][::-1])}, "another set of sequences or labels"),
        ({"train": (task()[0][::-1], task()[1])}, "another set of sequences or labels"),
        ({"validation": task(16, seed=2)}, "another set of sequences or labels"),
        ({"recipe": LONG}, "another recipe"),
        ({"dtype": torch.bfloat16}, "another number type"),
    ],
)
def test_a_folder_of_another_run_is_refused(checkpoint, tmp_path, other, said):
    given = {"train": task(), "recipe": SMALL, "folder": tmp_path}
    fine_tune_tracks(new_track_model(checkpoint, 2), **given)
    with pytest.raises(ValueError, match=said):
        fine_tune_tracks(new_track_model(checkpoint, 2), **given | other)
