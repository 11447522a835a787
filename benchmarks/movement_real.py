"""Standing or walking, real people: `benchmarks/movement_real.json`, and its part of `benchmarks/README.md`.

    python benchmarks/movement_real.py             # about a minute on two cores

Trains on windows of 1 s of the simulated tracks in `data/movement`, and judges on pedestrians of JAAD (Rasouli et al.
2017) filmed from a car that stands still: `jaad_stopped_train.csv.gz` and `jaad_stopped_val.csv.gz` in `--real FOLDER`.
Nothing is trained on them; that the aspect of the boxes is left out was decided after a first try. Intervals draw
whole tracks anew, standing and walking ones apart. Touches no network; writes `movement_real.json` beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import torch
import transformers
from report import markdown_table, write_part
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from inside_bert import (
    Detection,
    Recipe,
    by_track,
    data_folder,
    fast_dtype,
    fine_tune_tracks,
    motion,
    new_track_model,
    predict_tracks,
    read_behaviours,
    read_detections,
    read_scenes,
    to_steps,
)
from inside_bert.tracks import FEATURES

HERE = Path(__file__).resolve().parent
REAL = HERE.parents[1] / "shared" / "real"
FOUND = HERE / "movement_real.json"
CLASSES = {"stationary": 0, "walking": 1, "turns back": 1, "loiters": 1}  # of the simulation
KEPT = ["vx", "vy", "growth", "speed"]  # what moves; neither place nor shape
COLUMNS = [FEATURES.index(name) for name in KEPT]
SEEDS = (0, 1, 2)
RECIPE = Recipe(rate=1e-4, batch_size=64, epochs=2)
RATE, WIDTH, HEIGHT = 30.0, 1920, 1080  # of JAAD


def window(part: list[Detection], rate: float, width: float, height: float) -> np.ndarray:
    """Return the kept features of one second, ``(5, 4)``."""
    boxes, seen = to_steps(part, rate)
    return motion(boxes, seen, width, height)[:5, COLUMNS]


def simulated() -> tuple[list[np.ndarray], np.ndarray]:
    """Return windows of the scenes of all splits, and 1 for walking."""
    scenes, truth = read_scenes(), read_behaviours()
    windows, labels = [], []
    for name, scene in scenes.iterrows():
        tracks = by_track(read_detections(scene.path, scene.width, scene.height))
        for one in truth[(truth["scene"] == name) & truth["behaviour"].isin(list(CLASSES))].itertuples():
            track = tracks[one.track]
            for begin in range(track[0].frame, track[-1].frame, round(scene.rate)):
                part = [box for box in track if begin <= box.frame < begin + scene.rate]
                if len(part) > 1 and (part[-1].frame - part[0].frame) / scene.rate > 0.8:
                    windows.append(window(part, scene.rate, scene.width, scene.height))
                    labels.append(CLASSES[one.behaviour])
    return windows, np.array(labels)


def real(folder: Path) -> pandas.DataFrame:
    """Return the windows of 30 frames in a row in which a person does one thing: split, track, walking, features."""
    rows = []
    for split in ("train", "val"):
        table = pandas.read_csv(folder / f"jaad_stopped_{split}.csv.gz")
        for name, track in table.groupby(["video", "track"], sort=False):
            frames = track["frame"].to_numpy()
            for at in range(0, len(track) - 29, 30):
                part = track.iloc[at : at + 30]
                if frames[at + 29] - frames[at] != 29 or part["action"].nunique() > 1:
                    continue
                boxes = [Detection(row.frame, 1, 0, row.x1, row.y1, row.x2, row.y2, 1.0) for row in part.itertuples()]
                rows.append({"split": split, "track": "/".join(map(str, name)),
                             "walking": int(part["action"].iloc[0] == "walking"),
                             "features": window(boxes, RATE, WIDTH, HEIGHT)})  # fmt: skip
    return pandas.DataFrame(rows)


def balanced(truth: np.ndarray, said: np.ndarray) -> float:
    """Return the mean of the share of standing windows and of walking windows that are right."""
    return float(np.mean([(said == truth)[truth == kind].mean() for kind in (0, 1)]))


def interval(table: pandas.DataFrame, said: np.ndarray, draws: int = 2000) -> list[float]:
    """Return the 95 % interval of balanced accuracy over tracks, those with a standing window drawn apart."""
    chance = np.random.default_rng(0)
    rows = pandas.DataFrame({"track": table["track"], "truth": table["walking"], "right": said == table["walking"]})
    stands = set(rows["track"][rows["truth"] == 0])
    sums = {track: [(part["right"][part["truth"] == kind].sum(), (part["truth"] == kind).sum()) for kind in (0, 1)]
            for track, part in rows.groupby("track")}  # fmt: skip
    groups = [[np.array(sums[t]) for t in sorted(sums) if (t in stands) == kind] for kind in (True, False)]
    found = []
    for _ in range(draws):
        total = sum(np.sum([group[n] for n in chance.integers(len(group), size=len(group))], axis=0)
                    for group in groups)  # fmt: skip
        found.append(np.mean(total[:, 0] / total[:, 1]))
    return [float(value) for value in np.quantile(found, [0.025, 0.975])]


def judged(table: pandas.DataFrame, said: np.ndarray) -> dict:
    """Return balanced accuracy of val, of train and of both, the interval of both, and the counts."""
    truth = table["walking"].to_numpy()
    parts = {split: balanced(truth[where], said[where]) for split in ("train", "val")
             for where in [(table["split"] == split).to_numpy()]}  # fmt: skip
    return {**parts, "both": balanced(truth, said), "interval": interval(table, said),
            "standing right": int((said == truth)[truth == 0].sum()),
            "walking right": int((said == truth)[truth == 1].sum())}  # fmt: skip


def best_threshold(speed: np.ndarray, truth: np.ndarray) -> float:
    grid = np.quantile(speed, np.linspace(0.02, 0.98, 97))
    return float(max(grid, key=lambda cut: balanced(truth, (speed > cut).astype(int))))


def measure(table: pandas.DataFrame) -> dict:
    windows, labels = simulated()
    real_windows = table["features"].tolist()
    speed = FEATURES.index("speed")
    speeds = [np.array([np.median(one[:, COLUMNS.index(speed)]) for one in some]) for some in (windows, real_windows)]
    ways = {}
    cut = best_threshold(speeds[0], labels)
    ways[f"speed over {cut:.2f} m/s, chosen on the simulation"] = [judged(table, (speeds[1] > cut).astype(int))]
    values = [np.array([np.concatenate([one.mean(axis=0), one.std(axis=0)]) for one in some])
              for some in (windows, real_windows)]  # fmt: skip
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, class_weight="balanced"))
    ways["logistic regression on means and deviations"] = [
        judged(table, regression.fit(values[0], labels).predict(values[1]))
    ]
    known = np.concatenate(windows)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    sequences, real_sequences = ([torch.tensor((one - mean) / deviation) for one in some]
                                 for some in (windows, real_windows))  # fmt: skip
    standing, walking = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    dtype = fast_dtype(torch.device("cpu"))
    said = []
    for seed in SEEDS:
        some = np.random.default_rng(seed).choice(walking, len(standing), replace=False)
        chosen = np.concatenate([standing, some])
        model = new_track_model(str(data_folder() / "models" / "embedded-bert"), 2, features=len(KEPT), seed=seed)
        examples = [sequences[n] for n in chosen], labels[chosen].tolist()
        fine_tune_tracks(model, examples, recipe=Recipe(**{**vars(RECIPE), "seed": seed}), dtype=dtype)
        said.append(judged(table, predict_tracks(model, real_sequences, dtype=dtype).argmax(dim=-1).numpy()))
        print(f"seed {seed}: {said[-1]}", flush=True)
    ways["BERT on features, trained on the simulation"] = said
    best = best_threshold(speeds[1], table["walking"].to_numpy())
    ways[f"for comparison: speed over {best:.2f} m/s, chosen on these people"] = [
        judged(table, (speeds[1] > best).astype(int))
    ]
    return {"ways": ways, "trained on": 2 * len(standing)}


def counts(table: pandas.DataFrame) -> dict:
    return {split: {"windows": len(part), "standing": int((part["walking"] == 0).sum()),
                    "tracks": part["track"].nunique(),
                    "standing tracks": part["track"][part["walking"] == 0].nunique()}
            for split, part in table.groupby("split")}  # fmt: skip


def report(found: dict) -> None:
    rows = []
    for name, runs in found["ways"].items():
        both = [run["both"] for run in runs]
        spread = f" ± {np.std(both, ddof=1):.3f}" if len(runs) > 1 else ""
        rows.append([name, f"{np.mean(both):.3f}{spread}",
                     "; ".join(f"{run['interval'][0]:.3f} to {run['interval'][1]:.3f}" for run in runs),
                     f"{np.mean([run['train'] for run in runs]):.3f}", f"{np.mean([run['val'] for run in runs]):.3f}",
                     "; ".join(f"{run['standing right']} and {run['walking right']}" for run in runs)])  # fmt: skip
    head = ["way", "balanced accuracy, train and val", "95 %, tracks drawn anew", "train", "val",
            "windows right: standing and walking"]  # fmt: skip
    n = found["windows"]
    line = "; ".join(f"{split}: {one['windows']} windows of {one['tracks']} tracks, {one['standing']} of them standing, "
                     f"of {one['standing tracks']} tracks" for split, one in n.items())  # fmt: skip
    write_part(HERE / "README.md", "movement", found["machine"],
               f"{line}. Trained on {found['trained on']} simulated windows, half of them standing.\n\n"
               + markdown_table(head, rows))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, default=REAL, help="the folder with the two files of JAAD")
    folder = parser.parse_args().real
    if missing := [s for s in ("train", "val") if not (folder / f"jaad_stopped_{s}.csv.gz").is_file()]:
        sys.exit(f"{folder} has no jaad_stopped_{missing[0]}.csv.gz; name the folder that has with --real.")
    torch.set_num_threads(2)
    table = real(folder)
    processor = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                      if line.startswith("model name")), platform.processor())  # fmt: skip
    machine = {"date": time.strftime("%Y-%m-%d"), "processor": processor, "threads": torch.get_num_threads(),
               "torch": torch.__version__, "transformers": transformers.__version__}  # fmt: skip
    found = {"machine": machine, "windows": counts(table), **measure(table)}
    FOUND.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    report(found)


if __name__ == "__main__":
    main()
