"""Simulate people in front of a fixed camera, and what a detector with a tracker would report of them.

    .venv/bin/python tools/simulate_movement.py            # writes data/movement, the same each time

First the world: a camera (pinhole model) over flat ground, people of drawn statures who stand, walk, run, change from
one to the other, turn back or loiter. Then the detector: edges that tremble, misses, occlusion, false boxes, numbers
that are lost or exchanged. What is written is the detector's view; the truth stands in `tracks.csv`, for the labels.
Sources of the ranges: `data/movement/README.md`. Writes to the folder it is given and nowhere else.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SEED = 7
SPLITS = {"train": 60, "validation": 12, "test": 24}  # scenes
FORMATS = {"yolo": 14, "mot": 74, "records": 8}
PEOPLE = (24, 30)  # people a scene
FRAME_RATES = (8.0, 10.0, 10.0, 12.5, 15.0)
PICTURES = ((1920, 1080), (1280, 720))
WALK, WALK_SD, WALK_RANGE = 1.34, 0.26, (0.7, 2.0)  # m/s, Weidmann 1993
RUN, RUN_SD, RUN_RANGE = 3.0, 0.45, (2.2, 4.5)  # m/s, recreational runners
STATURE = ((1.71, 0.07), (1.59, 0.065))  # m: men, women, mean and standard deviation
LONG_ENOUGH = 0.8  # s: how long a phase has to be seen to count for a track's label
PURE = 0.9  # share of a track's boxes that have to be of one person for the track to have a label
SMALLEST = 12.0  # px: what shows less of a person is not reported
LOG_RATE = 15.0  # frames/s of the scene that is also written as a log without tracks, the first one in the test split
SHORTEST = 2.5  # s: shorter tracks have no label

# What happens, as phases; the middle of a change lies at least 1.1 s from the first and the last frame.
BEHAVIOURS = {
    "stationary": ["still"],
    "walking": ["walk"],
    "running": ["run"],
    "starts running": ["walk", "run"],
    "slows down": ["run", "walk"],
    "stops": ["walk", "still"],
    "sets off": ["still", "walk"],
    "turns back": ["walk", "walk back"],
    "loiters": ["walk", "walk back", "walk", "walk back", "walk"],  # two to four turns
}
# How often each behaviour is seen in a kind of scene (in the order above).
KINDS = {
    "square": (2, 3, 2, 2, 2, 2, 2, 2, 2),
    "bus stop": (4, 1, 0.5, 2.5, 1, 3, 3, 2, 4),
    "path": (1, 3, 4, 3, 3, 1, 1, 2, 1),
    "crossing": (2, 3, 1, 3, 2, 3, 4, 1.5, 1.5),
}


@dataclass
class Camera:
    """A pinhole camera at `height` m over the ground, looking down by `tilt` degrees."""

    width: int  # px
    height_px: int
    focal: float  # px
    height: float  # m
    tilt: float  # degrees

    def project(self, x, up, z):
        """Return (column, row, depth) of points `x` m to the right, `up` m over the ground, `z` m ahead."""
        tilt = math.radians(self.tilt)
        below = np.asarray(up) - self.height
        depth = z * math.cos(tilt) - below * math.sin(tilt)
        rise = below * math.cos(tilt) + z * math.sin(tilt)
        return (
            self.width / 2 + self.focal * x / depth,
            self.height_px / 2 - self.focal * rise / depth,
            depth,
        )


@dataclass
class Person:
    number: int
    stature: float  # m
    behaviour: str
    phases: list  # (how, begins, ends) in s of the scene
    first: int  # frame in which it appears
    x: np.ndarray  # m, a value a frame
    z: np.ndarray
    speed: np.ndarray  # m/s
    boxes: np.ndarray = field(default=None)  # px, (frames, 4), as an ideal detector would see it
    depth: np.ndarray = field(default=None)


def draw_camera(chance) -> Camera:
    width, height_px = PICTURES[chance.integers(len(PICTURES))]
    height = chance.uniform(1.2, 2.2) if chance.random() < 0.4 else chance.uniform(2.2, 7.0)
    far = chance.uniform(9, 22)  # m: where the middle of the picture meets the ground, roughly
    tilt = math.degrees(math.atan2(height - 1.0, far))
    return Camera(width, height_px, width * chance.uniform(0.6, 1.1), height, tilt)


def speeds(chance, phases, times):
    """Return the speed along the way at `times`, signed: backwards is below 0; changes take about 0.6 s."""
    walk = float(np.clip(chance.normal(WALK, WALK_SD), *WALK_RANGE))
    run = float(np.clip(chance.normal(RUN, RUN_SD), *RUN_RANGE))
    value = {"still": 0.0, "walk": walk, "run": max(run, walk + 0.8), "walk back": -walk}
    levels = [value[how] * chance.uniform(0.85, 1.15) for how, _, _ in phases]
    speed = np.full(len(times), levels[0])
    for (_, begin, _), before, after in zip(phases[1:], levels, levels[1:]):
        half = chance.uniform(0.25, 0.45)
        share = np.clip((times - begin + half) / (2 * half), 0, 1)
        speed = np.where(share > 0, before + (after - before) * (1 - np.cos(np.pi * share)) / 2, speed)
    wave = 1 + chance.uniform(0, 0.2) * np.sin(2 * np.pi * times / chance.uniform(2, 6) + chance.uniform(0, 6))
    return speed * wave


def draw_person(chance, camera, number, behaviour, spots, first, rate) -> Person | None:
    """Return a person who is in the picture nearly all the time; None if this draw is not."""
    hows = BEHAVIOURS[behaviour]
    seconds = chance.uniform(4.5, 7.5) if len(hows) > 1 else chance.uniform(3.5, 7.5)
    count = int(seconds * rate)
    times = np.arange(count) / rate
    seconds = count / rate
    if behaviour == "loiters":
        hows = hows[: chance.integers(3, 6)]
    if len(hows) == 2:
        changes = [chance.uniform(1.1, seconds - 1.1)]
    else:
        changes = [(n + chance.uniform(-0.12, 0.12)) * seconds / len(hows) for n in range(1, len(hows))]
    edges = [0.0, *changes, seconds]
    phases = list(zip(hows, edges, edges[1:]))
    speed = speeds(chance, phases, times)
    heading = chance.uniform(0, 2 * np.pi)
    if chance.random() < 0.75:  # most ways lead across the picture
        heading = chance.choice([0, np.pi]) + chance.normal(0, 0.4)
    bend = np.cumsum(chance.normal(0, math.radians(6) / math.sqrt(rate), count))
    way = np.stack([np.cos(heading + bend), np.sin(heading + bend)]) * speed / rate
    way = np.cumsum(way, axis=1) - way[:, :1]
    sway = np.cumsum(chance.normal(0, 0.012, (2, count)), axis=1)
    sway -= np.linspace(0, 1, count) * sway[:, -1:]
    path = way + sway * 0.6
    if "still" in hows or behaviour == "loiters":  # these happen at the same few spots of a scene
        spot = spots[chance.integers(len(spots))] + chance.normal(0, 0.6, 2)
        at = int(np.argmin(np.abs(speed))) if "still" in hows else count // 2
    else:
        near = camera.height * 1.2 + 3
        z = near * (28 / near) ** chance.random()
        spot = np.array([chance.uniform(-0.45, 0.45) * z * camera.width / camera.focal, z])
        at = count // 2
    x, z = path + (spot - path[:, at])[:, None]
    sexes = STATURE[chance.integers(2)]
    person = Person(number, float(np.clip(chance.normal(*sexes), 1.45, 2.0)), behaviour, [], first, x, z, speed)
    person.phases = [(how, begin + first / rate, end + first / rate) for how, begin, end in phases]
    if z.min() < 2.0 or z.max() > 40:
        return None
    person.boxes, person.depth = boxes_of(chance, camera, person, heading + bend, times)
    clipped = clip(person.boxes, camera)
    shown = area(clipped) / area(person.boxes)
    tall = person.boxes[:, 3] - person.boxes[:, 1]
    if (shown < 0.85).mean() > 0.04 or tall.min() < 45 or tall.max() > 0.75 * camera.height_px:
        return None
    return person


def boxes_of(chance, camera, person, heading, times):
    """Return the box around the body a frame: legs spread with each step, the body rises when it runs."""
    moving = np.clip(np.abs(person.speed) / WALK, 0, 2.2)
    cadence = np.where(np.abs(person.speed) > 2.05, 2.7, 1.8)  # steps a second
    step = np.cumsum(cadence) * (times[1] - times[0]) * np.pi + chance.uniform(0, np.pi)
    across = np.abs(np.cos(heading))  # the share of a step that the camera sees from the side
    wide = person.stature * 0.27 + 0.36 * np.abs(np.sin(step)) * across * np.clip(moving, 0, 1.4)
    bob = 0.015 * moving * np.abs(np.sin(step))
    column, bottom, depth = camera.project(person.x, 0.0, person.z)
    _, top, _ = camera.project(person.x, person.stature + bob, person.z)
    half = camera.focal * wide / depth / 2
    return np.stack([column - half, top, column + half, bottom], axis=1), depth


def clip(boxes, camera):
    limit = np.array([camera.width, camera.height_px] * 2)
    return np.clip(boxes, 0, limit)


def area(boxes):
    return np.clip(boxes[..., 2] - boxes[..., 0], 0, None) * np.clip(boxes[..., 3] - boxes[..., 1], 0, None)


def covered(box, others) -> float:
    """Return the largest share of `box` that one of `others` covers."""
    if not len(others):
        return 0.0
    left, top = np.maximum(box[:2], others[:, :2]).T
    right, bottom = np.minimum(box[2:], others[:, 2:]).T
    inside = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    return float(inside.max() / max(area(box), 1.0))


def detect(chance, camera, people, frames, rate):
    """Return what a detector with a tracker reports: rows (frame, track, box, confidence, person or None)."""
    rows, names, lost, taken = [], {}, {}, 0
    trembling = {person.number: np.zeros(4) for person in people}
    apart = set()  # pairs that have been close: an exchange happens once at most
    quality = chance.uniform(1.0, 3.5)  # of the detector in this scene's light
    for frame in range(frames):
        present = [p for p in people if p.first <= frame < p.first + len(p.x)]
        now = {p.number: clip(p.boxes[frame - p.first], camera) for p in present}
        depth = {p.number: p.depth[frame - p.first] for p in present}
        hidden = {n: covered(box, np.array([now[m] for m in now if depth[m] < depth[n]])) for n, box in now.items()}
        for a, b in itertools.combinations(sorted(now), 2):
            known = (a, b) not in apart and a in names and b in names
            if known and covered(now[a], now[b][None]) > 0.55 and covered(now[b], now[a][None]) > 0.3:
                apart.add((a, b))
                if chance.random() < 0.2:  # the tracker takes one for the other
                    names[a], names[b] = names[b], names[a]
        for person in present:
            n, box = person.number, now[person.number]
            tall = box[3] - box[1]
            sigma = quality * math.hypot(0.7, 0.004 * tall)  # px: below 0.5 % of a near person, several % of a far one
            trembling[n] = 0.6 * trembling[n] + 0.8 * chance.normal(0, sigma, 4)
            miss = 0.015 * quality + (0.05 * quality if tall < 90 else 0) + max(0.0, hidden[n] - 0.35) * 1.5
            if chance.random() < miss or min(box[2] - box[0], tall) < SMALLEST:
                lost[n] = lost.get(n, 0) + 1
                continue
            gone = lost.pop(n, 0) / rate
            if n not in names or gone > 1.2 or (gone > 0.4 and chance.random() < 0.35):
                taken += 1
                names[n] = taken
            seen = clip(box + trembling[n] * [1, 1, 1, 1.2], camera)
            sure = float(np.clip(chance.normal(0.86 - 0.35 * hidden[n] - 8 / tall, 0.05), 0.3, 0.99))
            rows.append((frame, names[n], seen, sure, n))
        if chance.random() < 0.02 * quality * 10 / rate:  # something that is no person, for a few frames
            taken += 1
            tall = chance.uniform(50, 200)
            corner = chance.uniform(0, 1, 2) * [camera.width - tall, camera.height_px - tall - 5]
            for later in range(chance.integers(1, 5)):
                box = np.array([*corner, corner[0] + tall * 0.4, corner[1] + tall]) + chance.normal(0, 2, 4)
                if frame + later < frames:
                    rows.append((frame + later, taken, clip(box, camera), float(chance.uniform(0.3, 0.55)), None))
    rows.sort(key=lambda row: (row[0], row[1]))
    return rows


def label_of(person, begin, end) -> str | None:
    """Return the behaviour that can be seen of `person` between two times, None where it is neither one nor another."""
    seen = [how for how, b, e in person.phases if min(e, end) - max(b, begin) >= LONG_ENOUGH]
    if len(seen) > 2 and all(how.startswith("walk") for how in seen):
        return "loiters"
    if seen == ["walk back"]:
        seen = ["walk"]
    if seen == ["walk back", "walk"]:
        seen = ["walk", "walk back"]
    return next((name for name, hows in BEHAVIOURS.items() if hows == seen), None)


def simulate_scene(chance, number, split, form):
    kind = list(KINDS)[chance.integers(len(KINDS))]
    rate = FRAME_RATES[chance.integers(len(FRAME_RATES))]
    camera = draw_camera(chance)
    weights = np.array(KINDS[kind]) * chance.gamma(3, 1 / 3, len(BEHAVIOURS))
    count = int(chance.integers(*PEOPLE))
    near = camera.height * 1.2 + 4
    depths = near * (20 / near) ** chance.random(2)
    spots = [np.array([chance.uniform(-0.3, 0.3) * z * camera.width / camera.focal, z]) for z in depths]
    people, clock = [], 0.0
    while len(people) < count:
        behaviour = list(BEHAVIOURS)[chance.choice(len(BEHAVIOURS), p=weights / weights.sum())]
        found = None
        for _ in range(200):
            found = draw_person(chance, camera, len(people), behaviour, spots, int(clock * rate), rate)
            if found:
                break
        if found is None:
            weights[list(BEHAVIOURS).index(behaviour)] *= 0.5  # there is no room for it before this camera
            continue
        people.append(found)
        clock += chance.exponential(1.4)
    frames = max(p.first + len(p.x) for p in people)
    rows = detect(chance, camera, people, frames, rate)
    scene = {
        "scene": f"{number:02d}", "split": split, "format": form, "kind": kind, "frames": frames, "rate": rate,
        "width": camera.width, "height": camera.height_px, "focal": round(camera.focal),
        "camera_height": round(camera.height, 2), "tilt": round(camera.tilt, 1),
    }  # fmt: skip
    return scene, people, rows


def truth(scene, people, rows):
    """Return a row for each track: whose it is, how purely, what can be seen of it, and how fast that is in truth."""
    found = []
    tracks = {}
    for frame, track, _, _, owner in rows:
        tracks.setdefault(track, []).append((frame, owner))
    for track, seen in sorted(tracks.items()):
        owners = [owner for _, owner in seen]
        owner = max(set(owners), key=lambda one: (owners.count(one), -1 if one is None else one))
        share = owners.count(owner) / len(owners)
        first, last = seen[0][0], seen[-1][0]
        line = {"scene": scene["scene"], "track": track, "person": "", "first": first + 1, "last": last + 1,
                "boxes": len(seen), "share": round(share, 3), "behaviour": "", "speed": "", "stature": ""}  # fmt: skip
        if owner is not None:
            person = people[owner]
            own = [frame - person.first for frame, one in seen if one == owner]
            line |= {"person": owner + 1, "speed": round(float(np.median(np.abs(person.speed[own]))), 2)}
            line["stature"] = round(person.stature, 2)
            if share >= PURE and (last - first) / scene["rate"] >= SHORTEST:
                line["behaviour"] = label_of(person, first / scene["rate"], (last + 1) / scene["rate"]) or ""
        found.append(line)
    return found


def as_yolo(scene, rows) -> bytes:
    """Return a zip of label files, a file for each frame in which something is seen: class x y w h confidence track."""
    lines = {}
    for frame, track, (x1, y1, x2, y2), sure, _ in rows:
        w, h = scene["width"], scene["height"]
        numbers = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h)
        lines.setdefault(frame + 1, []).append(
            " ".join(["0", *(f"{v:.5f}" for v in numbers), f"{sure:.2f}", str(track)])
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for frame, text in lines.items():
            info = zipfile.ZipInfo(f"{scene['scene']}_{frame}.txt", date_time=(2026, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, "\n".join(text) + "\n", compresslevel=9)
    return buffer.getvalue()


def as_mot(rows) -> str:
    lines = [
        f"{frame + 1},{track},{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f},{sure:.2f},-1,-1,-1"
        for frame, track, (x1, y1, x2, y2), sure, _ in rows
    ]
    return "\n".join(lines) + "\n"


def as_record(row, numbered=True) -> dict:
    frame, track, box, sure, _ = row
    box = dict(zip(("x1", "y1", "x2", "y2"), (round(float(v), 1) for v in box)))
    record = {
        "frame": frame + 1,
        "track_id": track,
        "name": "person",
        "class": 0,
        "confidence": round(sure, 2),
        "box": box,
    }
    return record if numbered else {key: value for key, value in record.items() if key not in ("frame", "track_id")}


def as_log(scene, rows) -> str:
    """Return a line a frame, the list of what a detector alone reports of it: no frame, no track."""
    lists = [[] for _ in range(scene["frames"])]
    for row in rows:
        lists[row[0]].append(as_record(row, numbered=False))
    return "".join(json.dumps(found) + "\n" for found in lists)


def packed(text: str) -> bytes:
    """Return `text` as gzip; the byte that names the system, which differs between versions of Python, is fixed."""
    content = gzip.compress(text.encode("utf-8"), 9, mtime=0)
    return content[:9] + b"\x03" + content[10:]


def write_table(path: Path, lines: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "movement")
    out = parser.parse_args().out
    (out / "scenes").mkdir(parents=True, exist_ok=True)
    for old in [*(out / "scenes").glob("*.zip"), *(out / "scenes").glob("*.gz")]:
        old.unlink()
    chance = np.random.default_rng(SEED)
    splits = chance.permutation([name for name, count in SPLITS.items() for _ in range(count)])
    forms = chance.permutation([name for name, count in FORMATS.items() for _ in range(count)])
    scenes, tracks, logged = [], [], None
    for number, (split, form) in enumerate(zip(splits, forms), start=1):
        scene, people, rows = simulate_scene(chance, number, str(split), str(form))
        if form == "yolo":
            name, content = f"{scene['scene']}.zip", as_yolo(scene, rows)
        elif form == "mot":
            name, content = f"{scene['scene']}.txt.gz", packed(as_mot(rows))
        else:
            name, content = f"{scene['scene']}.jsonl.gz", packed("".join(json.dumps(as_record(r)) + "\n" for r in rows))
        (out / "scenes" / name).write_bytes(content)
        scenes.append(scene | {"file": f"scenes/{name}"})
        tracks += truth(scene, people, rows)
        if not logged and scene["split"] == "test" and scene["rate"] == LOG_RATE:
            (out / "detector_log.jsonl.gz").write_bytes(packed(as_log(scene, rows)))
            logged = scene["scene"]
    write_table(out / "scenes.csv", scenes)
    write_table(out / "tracks.csv", tracks)
    labelled = [line["behaviour"] for line in tracks if line["behaviour"]]
    counts = {name: labelled.count(name) for name in BEHAVIOURS}
    print(f"{len(scenes)} scenes, {len(tracks)} tracks, {len(labelled)} of them labelled: {counts}")
    print(f"the log without tracks is scene {logged}")
    print(f"{sum(len(f.read_bytes()) for f in (out / 'scenes').iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
