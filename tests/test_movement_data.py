"""The simulated movement of lesson 07: whole, told right by its tables, made again alike, and as fast as real people."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from inside_bert import (
    DamagedDataError,
    Detection,
    by_track,
    data_folder,
    motion,
    read_behaviours,
    read_detections,
    read_records,
    read_scenes,
    to_steps,
    tracks,
    verify,
)

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"
MOVEMENT = data_folder() / "movement"
CARD = (MOVEMENT / "README.md").read_text(encoding="utf-8")
SPLITS = ("train", "validation", "test")
ENDINGS = {"yolo": ".zip", "mot": ".txt.gz", "records": ".jsonl.gz"}
PARTNERS = [("starts running", "slows down"), ("stops", "sets off"), ("turns back", "loiters")]  # order tells them
BEHAVIOURS = {"stationary", "walking", "running", *(one for pair in PARTNERS for one in pair)}
LOG = "detector_log.jsonl.gz"


@pytest.fixture(scope="module")
def scenes():
    return read_scenes()


@pytest.fixture(scope="module")
def files(scenes):
    """The detections of each scene; about two seconds."""
    return {name: list(read_detections(one.path, one.width, one.height)) for name, one in scenes.iterrows()}


@pytest.fixture(scope="module")
def truth(scenes):
    table = read_behaviours()
    return table.assign(split=table["scene"].map(scenes["split"]), rate=table["scene"].map(scenes["rate"]))


@pytest.fixture(scope="module")
def labelled(truth):
    return truth[truth["behaviour"] != ""]


# Tables and files -----------------------------------------------------------------------------------------------------
def test_there_are_enough_scenes_and_tracks(scenes, labelled):
    assert len(scenes) >= 60 and len(labelled) >= 1_500
    assert scenes[["frames", "rate", "width", "height", "focal", "camera_height"]].min().min() > 0
    assert scenes["rate"].nunique() >= 4 and scenes["width"].nunique() == 2 and scenes["kind"].nunique() == 4


def test_a_scene_is_in_one_split(scenes, files, truth):
    assert scenes.index.is_unique and set(scenes["split"]) == set(SPLITS)
    counts = scenes["split"].value_counts(normalize=True)
    assert counts["train"] > 0.5 and counts["test"] > 0.2 and counts["validation"] > 0.1
    assert set(truth["scene"]) == set(scenes.index)
    beginnings = {tuple(one[3:7] for one in found[:20]) for found in files.values()}
    assert len(beginnings) == len(scenes)  # none stands there twice under two names


def test_every_format_is_used(scenes):
    assert set(scenes["format"]) == set(ENDINGS)
    for one in scenes.itertuples():
        assert one.path.name == one.Index + ENDINGS[one.format] and one.path.is_file()
    stored = {path.name for path in (MOVEMENT / "scenes").iterdir()} - {"SHA256SUMS", "README.md"}
    assert stored == {path.name for path in scenes["path"]}


def test_boxes_lie_in_picture_and_film(scenes, files):
    for name, scene in scenes.iterrows():
        boxes = np.array([one[3:7] for one in files[name]])
        frames = np.array([one.frame for one in files[name]])
        assert boxes[:, :2].min() > -0.5, name
        assert boxes[:, 2].max() < scene["width"] + 0.5 and boxes[:, 3].max() < scene["height"] + 0.5, name
        assert frames.min() >= 1 and frames.max() <= scene["frames"], name
        assert scene["frames"] - frames.max() < 3 * scene["rate"], name  # and none is told far beyond the last box
        assert all(one.track is not None and 0 < one.confidence < 1 for one in files[name]), name


def test_the_table_of_tracks_agrees_with_the_files(files, truth):
    found = {
        (name, track): (len(rows), rows[0].frame, rows[-1].frame)
        for name, detections in files.items()
        for track, rows in by_track(detections).items()
    }
    told = {(one.scene, one.track): (one.boxes, one.first, one.last) for one in truth.itertuples()}
    assert len(told) == len(truth) and told == found


def test_labelled_tracks_are_long_and_of_one_person(truth, labelled):
    assert labelled["share"].min() >= 0.9 and labelled["share"].max() <= 1
    assert ((labelled["last"] - labelled["first"]) / labelled["rate"]).min() >= 2.5
    assert labelled["person"].min() >= 1 and labelled[["speed", "stature"]].notna().all().all()
    nobody = truth[truth["person"] == 0]
    assert len(nobody) > 100 and (nobody["behaviour"] == "").all() and nobody["speed"].isna().all()
    mixed = (truth["share"] < 0.9) & (truth["person"] > 0)
    assert mixed.sum() > 10 and (truth["behaviour"][mixed] == "").all()


def test_every_behaviour_is_in_every_split(labelled):
    counts = labelled.groupby(["split", "behaviour"]).size().unstack(fill_value=0)
    assert set(counts.columns) == BEHAVIOURS
    for split, least in {"train": 90, "validation": 15, "test": 30}.items():
        assert counts.loc[split].min() >= least, split
    whole = labelled["behaviour"].value_counts()
    for one, other in PARTNERS:  # who guesses the commoner of two gains little
        assert 4 / 7 < whole[one] / whole[other] < 7 / 4, (one, other)
        assert (counts[one] / counts[other]).between(0.5, 2).all(), (one, other)


def test_the_truth_tells_behaviours_apart_by_speed(labelled):
    speed = labelled.groupby("behaviour")["speed"]
    assert speed.quantile(0.9)["stationary"] < 0.2
    assert 1.1 < speed.median()["walking"] < 1.5 and speed.quantile(0.95)["walking"] < speed.quantile(0.05)["running"]


def test_the_card_counts_right(scenes, truth, labelled):
    assert f"{len(scenes)} simulated scenes" in CARD and f"each of {len(truth):,} tracks" in CARD
    for form, count in scenes["format"].value_counts().items():
        assert f"({count} `{ENDINGS[form]}`)" in CARD
    for split in SPLITS:
        count = (labelled["split"] == split).sum()
        assert f"| {split} | {(scenes['split'] == split).sum()} | {count:,} |" in CARD
    counts = ", ".join(f"{name} {count}" for name, count in labelled["behaviour"].value_counts(sort=False).items())
    told = re.search(r"Labelled: (.*): together ([\d,]+) of ([\d,]+) tracks", CARD)
    assert sorted(told[1].split(", ")) == sorted(counts.split(", "))
    assert (told[2], told[3]) == (f"{len(labelled):,}", f"{len(truth):,}")


@pytest.mark.parametrize("name", ["scenes.csv", "tracks.csv", "scenes/01.txt.gz"])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, name):
    (tmp_path / "models").mkdir()
    shutil.copytree(MOVEMENT, tmp_path / "movement")
    monkeypatch.setenv("INSIDE_BERT_DATA", str(tmp_path))
    assert len(read_scenes()) and len(read_behaviours())
    damaged = tmp_path / "movement" / name
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DamagedDataError, match=re.escape(f"{damaged.name} is damaged")):
        read_scenes(), read_behaviours()


# The log without tracks -----------------------------------------------------------------------------------------------
def test_the_log_is_a_scene_without_its_tracks(scenes, files):
    log = list(read_records(verify("movement", required=[LOG]) / LOG))
    assert {one.track for one in log} == {None}
    like = [name for name, found in files.items() if [one.frame for one in found] == [one.frame for one in log]]
    assert len(like) == 1 and f"scene {like[0]} once more" in CARD
    for logged, stored in zip(log, files[like[0]], strict=True):
        assert logged.confidence == stored.confidence
        assert logged[3:7] == pytest.approx(stored[3:7], abs=0.11)  # MOT rounds left and width, the log left and right
    assert scenes.loc[like[0], "split"] == "test"
    with gzip.open(MOVEMENT / LOG, "rt", encoding="utf-8") as file:
        assert sum(1 for _ in file) == scenes.loc[like[0], "frames"]


# Made again -----------------------------------------------------------------------------------------------------------
def unpacked(path):
    """What a file holds. Packed bytes differ between versions of Python (byte 9 of a .gz) and of zlib."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return [(member.filename, member.date_time, archive.read(member)) for member in archive.infolist()]
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_the_tool_makes_the_same_scenes_again(tmp_path):
    """About 15 seconds. The same with numpy 2.1 to 2.5 and Python 3.10 to 3.13: their random numbers do not differ."""
    tool = [sys.executable, str(ROOT / "tools" / "simulate_movement.py"), "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(tool, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr[-3000:]
    for folder in ("", "scenes"):
        sums = (MOVEMENT / folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        names = {line.split("  ")[1] for line in sums}
        assert {path.name for path in (tmp_path / folder).iterdir() if path.is_file()} == names
        for name in sorted(names):
            assert unpacked(tmp_path / folder / name) == unpacked(MOVEMENT / folder / name), name


# As fast as real people -----------------------------------------------------------------------------------------------
def median_speeds(track, rate, width, height):
    """The medians of one track's speed as lesson 07 computes it, in m/s, and as it is in the picture, in px/s."""
    boxes, known = to_steps(track, rate)
    middle, foot = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]
    pixels = np.hypot(np.gradient(middle, tracks.STEP), np.gradient(foot, tracks.STEP))
    features = motion(boxes, known, width, height)
    return np.median(features[:, tracks.FEATURES.index("speed")]), np.median(pixels)


def simulated_walkers(scenes, files, labelled):
    for name, rows in labelled[labelled["behaviour"] == "walking"].groupby("scene"):
        scene, found = scenes.loc[name], by_track(files[name])
        for track in rows["track"]:
            yield median_speeds(found[track], scene["rate"], scene["width"], scene["height"])


def real_walkers():
    """Pedestrians of JAAD in front of a car that stands, of one second or more, who walk nearly all the time."""
    import pandas

    for part in ("train", "val"):
        table = pandas.read_csv(REAL / f"jaad_stopped_{part}.csv.gz")
        for _, rows in table.groupby(["video", "track"]):
            if len(rows) >= 30 and (rows["action"] == "walking").mean() > 0.9:
                track = [Detection(one.frame, 1, 0, one.x1, one.y1, one.x2, one.y2, 1.0) for one in rows.itertuples()]
                yield median_speeds(track, 30, 1920, 1080)


def test_measured_walking_speed_is_that_of_people(scenes, files, labelled):
    speeds = np.array(list(simulated_walkers(scenes, files, labelled)))
    assert len(speeds) > 250
    assert np.median(speeds[:, 0]) == pytest.approx(1.2, abs=0.15)  # 1.15 of n = 300; the truth is 1.25


@pytest.mark.skipif(not (REAL / "jaad_stopped_train.csv.gz").is_file(), reason="no JAAD annotations in ../shared/real")
def test_real_people_walk_as_fast_as_simulated_ones(scenes, files, labelled, monkeypatch):
    """JAAD: 1.31 m/s of n = 75 (train 1.28 of 57, val 1.48 of 18); simulated 1.15 of n = 300: 14 % apart."""
    simulated, real = (
        np.median(list(speeds), axis=0) for speeds in (simulated_walkers(scenes, files, labelled), real_walkers())
    )
    assert len(list(real_walkers())) >= 60
    assert [simulated[0], real[0]] == pytest.approx([1.2, 1.2], abs=0.15)
    assert 1 / 1.15 < real[0] / simulated[0] < 1.15
    assert real[1] > 2 * simulated[1]  # in pixels they do not agree: the real people are nearer to the camera
    monkeypatch.setattr(tracks, "STATURE", 3.4)  # nor would any stature do
    assert np.median(list(real_walkers()), axis=0)[0] > 2
