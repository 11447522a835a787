"""Runs that lesson 07 has no time to make: `data/runs/movement.csv` and `data/runs/movement_random.csv`.

    python tools/movement_runs.py | tee -a data/runs/movement_log.txt        # about 70 minutes on two cores; goes on if cut

Each run trains on the scenes of the training split and says the behaviour of each track of the test split.
`movement.csv` has a row a test track and a column a run, "way, seed", in which the answers stand; so that every figure
and every interval of the lesson is computed from answers. `movement_random.csv`: the same for tracks dealt out at
random instead of by scene. Then run `tools/write_checksums.py`. Reads only `data/`, writes only `data/runs/`; touches
no network.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer, BertForSequenceClassification

from inside_bert import (
    Recipe,
    by_track,
    data_folder,
    fast_dtype,
    fine_tune,
    fine_tune_tracks,
    motion,
    new_track_model,
    predict,
    predict_tracks,
    read_behaviours,
    read_detections,
    read_scenes,
    to_steps,
)
from inside_bert.tracks import FEATURES

BEHAVIOURS = ["stationary", "walking", "running", "starts running", "slows down", "stops", "sets off", "turns back",
              "loiters"]  # fmt: skip
PLACE = ("x", "y", "height")  # what tells where in the picture somebody is, and so, in a way, when
VERBS = {"stationary": "is standing", "walking": "is walking", "running": "is running"}
LESSON = Recipe(rate=3e-4, batch_size=32, epochs=8)
TEXT = Recipe(rate=2e-4, batch_size=16, epochs=6, max_length=256)
FRAMES = Recipe(rate=2e-4, batch_size=32, epochs=4)
SEEDS = (0, 1, 2)
MODEL = str(data_folder() / "models" / "embedded-bert")
DEVICE = torch.device("cpu")


def read_all() -> pandas.DataFrame:
    """Return a row for each track with a behaviour: scene, track, split, label, features (T, 9)."""
    scenes, truth = read_scenes(), read_behaviours()
    rows = []
    for name, scene in scenes.iterrows():
        tracks = by_track(read_detections(scene.path, scene.width, scene.height))
        for one in truth[(truth["scene"] == name) & (truth["behaviour"] != "")].itertuples():
            boxes, seen = to_steps(tracks[one.track], scene.rate)
            rows.append({"scene": name, "track": one.track, "split": scene.split, "behaviour": one.behaviour,
                         "label": BEHAVIOURS.index(one.behaviour),
                         "features": motion(boxes, seen, scene.width, scene.height)})  # fmt: skip
    return pandas.DataFrame(rows)


def scaled(table: pandas.DataFrame, train: np.ndarray) -> list[torch.Tensor]:
    known = np.concatenate(table["features"][train].tolist())
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    return [torch.tensor((one - mean) / deviation) for one in table["features"]]


def summary(one: np.ndarray, parts: int = 0) -> np.ndarray:
    """Mean, deviation, least and largest of each feature; with `parts`, the means of so many parts in order, too."""
    values = [one.mean(axis=0), one.std(axis=0), one.min(axis=0), one.max(axis=0)]
    return np.concatenate(values + [part.mean(axis=0) for part in (np.array_split(one, parts) if parts else [])])


def numbers(one: np.ndarray) -> str:
    """Honest text: every second step's velocities across and down the picture, as numbers."""
    return " ".join(f"{abs(row[4]):.2f} {'right' if row[4] > 0 else 'left'} "
                    f"{abs(row[5]):.2f} {'down' if row[5] > 0 else 'up'}" for row in one[::2])  # fmt: skip


def words(one: np.ndarray) -> str:
    """The same in words that are one token each: how fast in seven bins, and to which side."""
    paces = ("still", "slow", "calm", "medium", "quick", "fast", "rapid")
    edges = (0.25, 0.6, 1.0, 1.5, 2.0, 2.8)
    sides = {(True, True): "right", (True, False): "left", (False, True): "down", (False, False): "up"}
    said = []
    for row in one[::2]:
        across = abs(row[4]) >= abs(row[5])
        said += [paces[np.searchsorted(edges, row[7])], sides[bool(across), bool(row[4 if across else 5] > 0)]]
    return " ".join(said)


def sentence(row, verb: bool = True) -> str:
    """The sentence of many tutorials, with the answer in it; without `verb`, what is left."""
    x, y, speed = row.features[:, 0].mean() + 0.5, row.features[:, 1].mean() + 0.5, np.median(row.features[:, 7])
    said = f" {VERBS.get(row.behaviour, row.behaviour)}" if verb else ""
    return f"Person {row.track}{said} at position ({x:.2f}, {y:.2f}) with velocity {speed:.2f}."


class Gru(torch.nn.Module):
    """A GRU as wide as the model, over the same sequences."""

    def __init__(self, features: int, width: int, labels: int) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(features, width, batch_first=True)
        self.head = torch.nn.Linear(width, labels)

    def forward(self, sequences):
        _, last = self.gru(torch.nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False))
        return self.head(last[-1])


def train_gru(sequences, labels, seed: int, epochs: int = 20) -> Gru:
    torch.manual_seed(seed)
    model = Gru(sequences[0].shape[1], 384, len(BEHAVIOURS))
    steps = epochs * -(-len(sequences) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for some in torch.randperm(len(sequences)).split(32):
            loss = torch.nn.functional.cross_entropy(model([sequences[n] for n in some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(), schedule.step()
    return model.eval()


class Runs:
    """The tracks, cut into training, validation and test, and one method a way; each returns the test answers."""

    def __init__(self, table: pandas.DataFrame, train, validation, test) -> None:
        self.table, self.train, self.validation, self.test = table, train, validation, test
        self.labels = torch.tensor(table["label"].tolist())
        self.sequences = scaled(table, train)
        self.dtype = fast_dtype(DEVICE)

    def part(self, where, items=None):
        items = self.sequences if items is None else items
        return [items[n] for n in where], self.labels[where].tolist()

    def threshold(self, seed):
        """Median speed, cut in two places that fit the training tracks best: still, walking or running."""
        speed = np.array([np.median(one[:, 7]) for one in self.table["features"]])
        label, known = self.table["label"].to_numpy(), speed[self.train]
        grid = np.quantile(known, np.linspace(0.02, 0.98, 40))
        plain = label[self.train] < 3
        best = max(((a, b) for a in grid for b in grid if a < b), key=lambda cut: np.sum(
            np.digitize(known[plain], cut) == label[self.train][plain]))  # fmt: skip
        return np.digitize(speed[self.test], best)

    def regression(self, parts):
        values = np.array([summary(one, parts) for one in self.table["features"]])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        return model.fit(values[self.train], self.labels[self.train]).predict(values[self.test])

    def gru(self, seed):
        model = train_gru(*self.part(self.train)[:1], self.labels[self.train], seed)
        with torch.no_grad():
            return model(self.part(self.test)[0]).argmax(dim=-1).numpy()

    def tracks(self, seed, items=None, test_items=None, pretrained=True, **more):
        items = self.sequences if items is None else items
        model = new_track_model(MODEL, len(BEHAVIOURS), features=items[0].shape[1], pretrained=pretrained, seed=seed)
        recipe = Recipe(**{**vars(LESSON), "seed": seed})
        fine_tune_tracks(model, self.part(self.train, items), recipe=recipe, dtype=self.dtype, **more)
        answers = [predict_tracks(model, self.part(self.test, tested)[0], dtype=self.dtype, **more).argmax(dim=-1)
                   for tested in (items, test_items) if tested is not None]  # fmt: skip
        return [found.numpy() for found in answers]

    def shuffled(self, seed, items=None):
        """The sequences with their steps in random order, once and for all epochs; another order for each seed."""
        items, chance = self.sequences if items is None else items, np.random.default_rng(0)
        for _ in range(seed + 1):
            orders = [torch.from_numpy(chance.permutation(len(one))) for one in items]
        return [one[order] for one, order in zip(items, orders)]

    def frames(self, seed):
        """First, middle and last step of each track as three examples; the three then vote."""

        def three(where):
            return [self.sequences[n][[at]] for n in where for at in (0, len(self.sequences[n]) // 2, -1)]

        model = new_track_model(MODEL, len(BEHAVIOURS), seed=seed)
        labels = self.labels[self.train].repeat_interleave(3).tolist()
        fine_tune_tracks(model, (three(self.train), labels), recipe=Recipe(**{**vars(FRAMES), "seed": seed}),
                         dtype=self.dtype)  # fmt: skip
        chances = predict_tracks(model, three(self.test), dtype=self.dtype).softmax(dim=-1)
        return chances.view(-1, 3, len(BEHAVIOURS)).mean(dim=1).argmax(dim=-1).numpy()

    def text(self, seed, texts, tested=None, epochs=TEXT.epochs):
        torch.manual_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        model = BertForSequenceClassification.from_pretrained(
            MODEL, dtype=torch.float32, num_labels=len(BEHAVIOURS), attn_implementation="eager",
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        model.bert.embeddings.requires_grad_(False)
        recipe = Recipe(**{**vars(TEXT), "seed": seed, "epochs": epochs})
        fine_tune(model, tokenizer, self.part(self.train, texts), recipe=recipe, dtype=self.dtype)
        found = [predict(model, tokenizer, self.part(self.test, some)[0], dtype=self.dtype, max_length=256)
                 for some in (texts, tested) if some is not None]  # fmt: skip
        return [logits.argmax(dim=-1).numpy() for logits in found]


def ways(runs: Runs):
    """Yield (names of the columns, function of a seed, seeds), in the order in which they are made."""
    table, sequences = runs.table, runs.sequences
    leak = [sentence(row) for row in table.itertuples()]
    bare = [sentence(row, verb=False) for row in table.itertuples()]
    yield ["threshold"], lambda seed: [runs.threshold(seed)], (0,)
    yield ["regression"], lambda seed: [runs.regression(0)], (0,)
    yield ["regression on thirds"], lambda seed: [runs.regression(3)], (0,)
    yield ["gru"], lambda seed: [runs.gru(seed)], SEEDS
    yield ["features"], runs.tracks, SEEDS
    yield ["frames"], lambda seed: [runs.frames(seed)], SEEDS
    yield ["sentence", "sentence, verb removed"], lambda seed: runs.text(seed, leak, bare, epochs=2), SEEDS
    yield ["sentence without verb"], lambda seed: runs.text(seed, bare, epochs=2), SEEDS
    said = [words(one) for one in table["features"]]
    yield ["words"], lambda seed: runs.text(seed, said), SEEDS
    yield ["no positions"], lambda seed: runs.tracks(seed, position_ids=torch.zeros(1, 1, dtype=torch.long)), SEEDS
    yield ["shuffled"], lambda seed: runs.tracks(seed, runs.shuffled(seed)), SEEDS
    moving = [one[:, [n for n, name in enumerate(FEATURES) if name not in PLACE]] for one in sequences]
    yield ["no place"], lambda seed: runs.tracks(seed, moving), SEEDS
    yield ["no place, shuffled"], lambda seed: runs.tracks(seed, runs.shuffled(seed, moving)), SEEDS
    yield ["random weights"], lambda seed: runs.tracks(seed, pretrained=False), SEEDS
    for n, name in enumerate(FEATURES):
        kept = [m for m in range(len(FEATURES)) if m != n]
        yield [f"without {name}"], lambda seed, kept=kept: runs.tracks(seed, [s[:, kept] for s in sequences]), (0,)
    written = [numbers(one) for one in table["features"]]
    yield ["numbers"], lambda seed: runs.text(seed, written), SEEDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="make only the run whose first column begins so")
    only = parser.parse_args().only
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)  # else a GRU that has learned nearly everything becomes several times slower
    folder = data_folder() / "runs"
    table = read_all()
    places = {name: np.flatnonzero(table["split"] == name) for name in ("train", "validation", "test")}
    order = np.random.default_rng(0).permutation(len(table))
    cut = len(places["train"]), len(places["train"]) + len(places["validation"])
    dealt = dict(zip(places, map(np.sort, np.split(order, cut))))
    for path, split, some in (("movement.csv", places, None), ("movement_random.csv", dealt, ("gru", "features"))):
        runs = Runs(table, *split.values())
        answers = table.iloc[split["test"]][["scene", "track", "behaviour"]].reset_index(drop=True)
        if (folder / path).is_file():  # go on with what is there
            answers = pandas.read_csv(folder / path, dtype={"scene": str})
        print(f"{path}: {', '.join(f'{len(where)} {name}' for name, where in split.items())} tracks", flush=True)
        truth = np.array([BEHAVIOURS.index(name) for name in answers["behaviour"]])
        for columns, way, seeds in ways(runs):
            if (some and columns[0] not in some) or (only and not columns[0].startswith(only)):
                continue
            for seed in seeds:
                if f"{columns[0]}, {seed}" in answers:
                    continue
                began = time.monotonic()
                for column, found in zip(columns, way(seed)):
                    answers[f"{column}, {seed}"] = [BEHAVIOURS[n] for n in found]
                    right = found == truth
                    print(f"{column}, seed {seed}: {right.mean():.3f} of all, {right[truth < 3].mean():.3f} of plain, "
                          f"{right[truth > 2].mean():.3f} of order, {time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
                answers.to_csv(folder / path, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
