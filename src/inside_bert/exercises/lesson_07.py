"""Exercises of lesson 07: speeds in metres, across a gap, linking by overlap, a padded batch, a split by scene."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy
import torch

from inside_bert.exercises.grading import RIGHT, UNTRIED, WRONG, Exercise, Misconception, Verdict, _plain, _short
from inside_bert.tracks import iou


class _Noted:
    """Calls a function as it is, and notes what it was given and what it returned."""

    def __init__(self, function: Callable) -> None:
        self.function, self.calls, self.answers = function, [], []
        self.__code__ = getattr(function, "__code__", None)  # grading reads there which lines are the learner's

    def __call__(self, *given: Any) -> Any:
        self.calls.append(copy.deepcopy(given))
        self.answers.append(self.function(*given))
        return self.answers[-1]


@dataclass(frozen=True)
class _Examined(Exercise):
    """An exercise that says more of a wrong answer, or that has several right ones.

    `flaw(call, answer)` says what is wrong with one answer that no misconception explains, or nothing. With
    `together(calls, answers)`, which says what is wrong with all of them, an answer without a flaw is right; the
    reference is then only one of many.
    """

    flaw: Callable[[tuple, Any], str | None] = field(default=lambda call, answer: None)
    together: Callable[[list[tuple], list], str | None] | None = None

    def _grade_function(self, function: Callable) -> Verdict:
        noted = _Noted(function)
        verdict = super()._grade_function(noted)
        if verdict.mark == UNTRIED or len(noted.answers) < self.cases:  # nothing returned, or an error
            return verdict
        known = {mistake.diagnosis for mistake in self.misconceptions}
        if self.together is None and (verdict.mark == RIGHT or verdict.message in known):
            return verdict
        for call, answer in zip(noted.calls, noted.answers):
            if said := self.flaw(call, answer):
                return Verdict(WRONG, said if said in known else f"{said}\n  it was called with {self.show(call)}")
        if self.together is None:
            return verdict
        said = self.together(noted.calls, noted.answers)
        return Verdict(WRONG, said) if said else Verdict(RIGHT, self.right)


def _items(answer: Any) -> list | tuple | None:
    """Return the items of a list, a tuple, an array or a tensor; nothing of anything else."""
    answer = _plain(answer)
    return answer if isinstance(answer, (list, tuple)) else None


def _is_number(value: Any) -> bool:
    return isinstance(_plain(value), (int, float)) and not isinstance(_plain(value), bool)


# 7.1 ---------------------------------------------------------------------------------------------------------------
SPEEDS = (0.9, 0.9, 1.8, 0.9 * 1.5 / 1.7)
WRONG_SPEEDS = {  # place in the list: wrong value and what to say
    1: {
        1.8: "in (2) the lens doubles the box as well as the path, so the person walks no faster (hint 2)",
        0.45: "in (2) the path is 72 px long, not 36 (hint 2)",
    },
    2: {
        0.9: "in (3) the box is half as tall, so a pixel is twice as many metres (hint 1)",
        0.45: "in (3) the box is half as tall, so a pixel is more metres, not fewer (hint 1)",
    },
    3: {
        0.9: "in (4) you know the person's height, and 1.5 m takes the place of 1.7 m (hint 3)",
        0.9 * 1.7 / 1.5: "in (4) the same box is a smaller person, so a pixel is fewer metres (hint 3)",
    },
}
RIGHT_ONES = {1: "three are right", 2: "two are right", 3: "only (1) is right"}


def _wrong_speeds() -> list[Misconception]:
    """Return the mistakes that concern one speed, two or three."""
    found = []
    for values in product(*[[SPEEDS[place], *wrong] for place, wrong in WRONG_SPEEDS.items()]):
        off = [(place, value) for place, value in enumerate(values, start=1) if value != SPEEDS[place]]
        if off:
            name = ", ".join(f"({place + 1}) is {value:.3g}" for place, value in off)
            said = "; ".join([RIGHT_ONES[len(off)], *(WRONG_SPEEDS[place][value] for place, value in off)])
            found.append(Misconception(name, [SPEEDS[0], *values], said))
    return found


# 7.2 ---------------------------------------------------------------------------------------------------------------
def _speeds(frames, x, rate, *, gap=lambda frames: frames):
    """Return metres a second; `gap` maps the difference of two frame numbers."""
    return numpy.diff(x) / gap(numpy.diff(frames)) * rate


def _missing_frames(frames, x, rate):
    with numpy.errstate(divide="ignore"):
        return _speeds(frames, x, rate, gap=lambda frames: frames - 1)


def _interpolated(frames, x, rate):
    return numpy.diff(numpy.interp(range(frames[0], frames[-1] + 1), frames, x)) * rate


def _walk(rng: random.Random) -> tuple:
    rate, boxes = rng.choice([5, 10, 25, 30]), rng.choice([2, 4, 5, 7])
    frames, x = [rng.randrange(1, 60)], [round(rng.uniform(-4, 4), 2)]
    gaps = [rng.choice([1, 1, 2, 3, 6]) for _ in range(boxes - 1)]
    gaps[rng.randrange(len(gaps))] = rng.choice([1, 2, 4, 5])
    for gap in gaps:
        speed = rng.choice([-1, 1, 1]) * rng.uniform(0.6, 1.9)
        frames.append(frames[-1] + gap)
        x.append(round(x[-1] + speed * gap / rate, 3))
    return frames, x, rate


def _flaw_of_speeds(call: tuple, answer: Any) -> str | None:
    items, boxes = _items(answer), len(call[0])
    if items is None:
        return f"expected a list of {boxes - 1} speeds, got {_short(answer)}"
    if len(items) != boxes - 1:
        return f"{boxes} boxes have {boxes - 1} neighbours in time, so expected {boxes - 1} speeds, got {len(items)}"
    wrong = [n for n, item in enumerate(items) if not _is_number(item)]
    return f"answer[{wrong[0]}]: expected a number, got {_short(items[wrong[0]])}" if wrong else None


# 7.3 ---------------------------------------------------------------------------------------------------------------
def _match(old, new, overlap, *, enough=lambda share, overlap: share >= overlap, highest=True, none=None,
           order=lambda share, i, j: share):  # fmt: skip
    """Return old indices for new boxes; pairs are taken by `order`, its largest first if `highest`."""
    pairs = [(iou(a, b), i, j) for i, a in enumerate(old) for j, b in enumerate(new)]
    found = [none] * len(new)
    for share, i, j in sorted(pairs, key=lambda pair: order(*pair), reverse=highest):
        if enough(share, overlap) and i not in found and found[j] == none:
            found[j] = i
    return found


def _best_of_each(old, new, overlap, *, mutual=False):
    found = []
    for j, box in enumerate(new):
        i = max(range(len(old)), key=lambda i: iou(old[i], box), default=None)
        fits = i is not None and iou(old[i], box) >= overlap
        if fits and mutual:
            fits = j == max(range(len(new)), key=lambda k: iou(old[i], new[k]))
        found.append(i if fits else None)
    return found


def _best_sum(old, new, overlap):
    """Return the pairs whose IoU add up to the most, as the Hungarian algorithm does."""

    def best(j, taken):
        if j == len(new):
            return 0.0, []
        options = [(*best(j + 1, taken), None)]
        for i, box in enumerate(old):
            if i not in taken and iou(box, new[j]) >= overlap:
                total, rest = best(j + 1, taken | {i})
                options.append((total + iou(box, new[j]), rest, i))
        total, rest, i = max(options, key=lambda option: option[0])
        return total, [i, *rest]

    return best(0, frozenset())[1]


def _new_of_each_old(old, new, overlap):
    found = _match(old, new, overlap)
    return [found.index(i) if i in found else None for i in range(len(old))]


def _boxes_of_two_frames(rng: random.Random) -> tuple:
    overlap, kind = rng.choice([0.25, 0.3, 0.4, 0.5]), rng.random()
    while True:
        old, new = ([_standing(rng) for _ in range(rng.choice([2, 3, 4]))] for _ in range(2))
        if kind < 0.08:
            return [], new, overlap
        if kind < 0.14:
            return old, [], overlap
        exact = kind > 0.5 and overlap in (0.25, 0.5)
        if exact:  # a pair with exactly this overlap, apart from the others
            left = rng.randrange(400, 500)
            old.insert(rng.randrange(len(old) + 1), (left, 10, left + 40, 90))
            new.insert(rng.randrange(len(new) + 1), (left, 10, left + 40, 10 + round(80 * overlap)))
        shares = sorted([iou(a, b) for a in old for b in new if iou(a, b) > 0] + [overlap] * (not exact))
        if all(b - a > 1e-4 for a, b in pairwise(shares)):
            return old, new, overlap


def _standing(rng: random.Random) -> tuple:
    left, top = rng.randrange(0, 60), rng.randrange(0, 20)
    return left, top, left + rng.randrange(30, 46), top + rng.randrange(80, 101)


def _flaw_of_a_match(call: tuple, answer: Any) -> str | None:
    items, (old, new, _) = _items(answer), call
    if items is None:
        return f"expected a list with one entry for each new box, got {_short(answer)}"
    if len(items) != len(new):
        return f"expected one entry for each of the {len(new)} new boxes, got {len(items)}"
    for n, (item, expected) in enumerate(zip(items, _match(*call))):
        if item is not None and not (_is_number(item) and item in range(len(old))):
            return f"answer[{n}]: expected None or the index of an old box, below {len(old)}, got {_short(item)}"
        if item != expected:
            return f"answer[{n}]: expected {expected}, got {_short(item)}"
    return None


# 7.4 ---------------------------------------------------------------------------------------------------------------
ONE_TENSOR = "that is one tensor; return two of them, features and attention_mask"
EXCHANGED = "features and attention_mask are exchanged: features come first"
JOINED = "your sequences stand one behind the other, (sum of the T, F); each one needs a row of its own (hint 1)"
TIME_FIRST = "the first axis is time; the sequences come first, (B, T, ...): batch_first=True in pad_sequence (hint 1)"
CUT = "you cut all sequences to the shortest one; T is the longest, and the others are padded (hint 1)"
EACH_FEATURE = "the mask has an entry for each feature; it has one for each step, (B, T) (hint 2)"
LENGTHS = "those are lengths; the mask has one entry for each step, (B, T): 1 up to the length, then 0 (hint 3)"
OTHER_NUMBERS = "the mask holds other numbers than 0 and 1; the large negative ones are made by BERT itself (hint 2)"


def _batch(sequences, *, front=False, mask_front=False, fill=lambda one: 0.0):
    longest = max(len(one) for one in sequences)
    features = torch.zeros(len(sequences), longest, sequences[0].shape[1])
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for n, one in enumerate(sequences):
        features[n] = fill(one)
        features[n, slice(-len(one), None) if front else slice(len(one))] = one
        mask[n, slice(-len(one), None) if mask_front else slice(len(one))] = 1
    return features, mask


def _masked_by(make):
    """Return a version with right features and the mask `make(features, mask)`."""

    def batch(sequences):
        features, mask = _batch(sequences)
        return features, make(features, mask)

    return batch


def _cut(sequences):
    shortest = min(len(one) for one in sequences)
    return torch.stack([one[:shortest] for one in sequences]), torch.ones(len(sequences), shortest)


def _joined(sequences):
    features = torch.cat(sequences)
    return features, torch.ones(len(features))


def _time_first(sequences):
    return tuple(part.transpose(0, 1) for part in _batch(sequences))


def _sequences(rng: random.Random) -> tuple:
    generator, width = torch.Generator().manual_seed(rng.randrange(10**6)), rng.choice([7, 8, 9])
    count = rng.choice([1, 2, 3, 4])
    lengths = [count]
    while max(lengths) == count:  # so that the axes differ
        lengths = [rng.randrange(1, 7) for _ in range(count)]
    sequences = [torch.randn(length, width, generator=generator) for length in lengths]
    still = rng.choice(sequences)
    still[rng.choice([0, len(still) // 2, -1])] = 0.0  # a real step, and nothing in it
    return (sequences,)


def _flaw_of_a_batch(call: tuple, answer: Any) -> str | None:
    lengths, width = [len(one) for one in call[0]], call[0][0].shape[1]
    count, longest = len(lengths), max(lengths)
    if hasattr(answer, "shape"):
        return ONE_TENSOR
    if not isinstance(answer, (list, tuple)) or len(answer) != 2:
        return f"expected a pair (features, attention_mask), got {_short(answer)}"
    for name, part in zip(("features", "attention_mask"), answer):
        if not hasattr(part, "shape"):
            return f"{name}: expected a tensor, got {_short(part)}"
    features, mask = answer
    shape, of_mask, steps = tuple(features.shape), tuple(mask.shape), (count, longest)
    known = {
        EXCHANGED: shape == steps and of_mask == (*steps, width),
        JOINED: shape == (sum(lengths), width),
        TIME_FIRST: shape == (longest, count, width) or of_mask == (longest, count),
        CUT: shape == (count, min(lengths), width) != (*steps, width),
        EACH_FEATURE: of_mask == (*steps, width),
        LENGTHS: shape == (*steps, width) and of_mask == (count,),
    }
    if said := next((said for said, holds in known.items() if holds), None):
        return said
    for name, part, expected in (("features", shape, (*steps, width)), ("attention_mask", of_mask, steps)):
        if part != expected:
            return f"{name}: expected shape {expected}, got {part}"
    for n, row in enumerate(_plain(mask)):
        if not set(row) <= {0, 1}:
            return OTHER_NUMBERS
        if [int(entry) for entry in row] != [1] * lengths[n] + [0] * (longest - lengths[n]):
            return f"attention_mask[{n}] is {_short(row)}, and this sequence has {lengths[n]} steps"
    return None


# 7.5 ---------------------------------------------------------------------------------------------------------------
BOTH_PARTS = "those are two parts; return the indices of the test tracks alone"
NAMES = "those are names of scenes; return the places of their tracks in `scenes` (hint 1)"
TRUE_OR_FALSE = "those are True and False, one a track; return the indices where it is True"
FROM_ONE = "your indices begin with 1; those of a list begin with 0"
LEAK = "a scene has tracks in both parts; draw scenes, then take all tracks of those that were drawn (hint 1)"
TRAINING = "those are the training tracks: share is the share of the scenes that are held out for the test"
DOWN = "the number of scenes is rounded down; round it to the nearest whole number, with round (hint 2)"
UP = "the number of scenes is rounded up; round it to the nearest whole number, with round (hint 2)"
BOUNDS = "few scenes may give a test part of none or of all; it has 1 at least, and all but one at most (hint 2)"
NUMBER = "the number of test scenes is off; `share` is a share of the scenes, not of the tracks (hint 2)"
UNSORTED = "the indices are right but not sorted"
UNSEEDED = "the same seed gives one answer now and another one then; draw with random.Random(seed) (hint 3)"
FIRST = "you always take the first scenes, whatever the seed; draw them, with random.Random(seed) (hint 3)"
FIXED = "every seed gives the same scenes; draw them with random.Random(seed) (hint 3)"


def _asked(scenes, share):
    count = len(set(scenes))
    return max(1, min(round(share * count), count - 1))


COUNTS = {  # how many scenes each way to count holds out
    TRAINING: [lambda scenes, share: len(set(scenes)) - _asked(scenes, share)],
    DOWN: [
        lambda scenes, share: int(share * len(set(scenes))),
        lambda scenes, share: max(1, int(share * len(set(scenes)))),
    ],
    UP: [
        lambda scenes, share: math.ceil(share * len(set(scenes))),
        lambda scenes, share: min(math.ceil(share * len(set(scenes))), len(set(scenes)) - 1),
    ],
    BOUNDS: [
        lambda scenes, share: round(share * len(set(scenes))),
        lambda scenes, share: max(1, round(share * len(set(scenes)))),
        lambda scenes, share: min(round(share * len(set(scenes))), len(set(scenes)) - 1),
    ],
}


def _draw(names, count, seed):
    return random.Random(seed).sample(names, count)


def _split(scenes, share, seed, *, count=_asked, draw=_draw):
    test = draw(sorted(set(scenes)), count(scenes, share), seed)
    return [n for n, scene in enumerate(scenes) if scene in test]


def _first_scenes(scenes, share, seed):
    test = list(dict.fromkeys(scenes))[: _asked(scenes, share)]
    return [n for n, scene in enumerate(scenes) if scene in test]


def _tracks_at_random(scenes, share, seed):
    return sorted(random.Random(seed).sample(range(len(scenes)), round(share * len(scenes))))


def _last_tracks(scenes, share, seed):
    return list(range(len(scenes) - round(share * len(scenes)), len(scenes)))


def _some_of_each_scene(scenes, share, seed):
    own = {name: [n for n, scene in enumerate(scenes) if scene == name] for name in sorted(set(scenes))}
    draw = random.Random(seed).sample
    return sorted(n for places in own.values() for n in draw(places, round(share * len(places))))


def _share_of_tracks(scenes, share, seed):
    names, held = sorted(set(scenes)), []
    random.Random(seed).shuffle(names)
    while len(held) < share * len(scenes):
        name = names.pop()
        held += [n for n, scene in enumerate(scenes) if scene == name]
    return sorted(held)


def _by_scene(scenes, share, seed):
    test = random.Random(seed).sample(sorted(set(scenes)), _asked(scenes, share))
    return [n for name in test for n, scene in enumerate(scenes) if scene == name]


def _films() -> list[tuple]:
    """Return some lists of scenes, with the share to hold out; scenes differ much in their tracks."""
    films = []
    for number, (count, share) in enumerate([(10, 0.3), (7, 0.25), (6, 0.05), (5, 0.95), (11, 0.3), (9, 0.2)]):
        rng = random.Random(f"film {number}")
        names = rng.sample([f"scene {n:02d}" for n in range(1, 30)], count)
        scenes = [name for name in names for _ in range(rng.choice([1, 2, 3, 8]))]
        if number % 2:  # the tracks of a scene need not stand together
            rng.shuffle(scenes)
        films.append((scenes, share))
    return films


def _film_and_seed(rng: random.Random) -> tuple:
    scenes, share = rng.choice(_films())
    return list(scenes), share, rng.choice([0, 1, 2])


def _flaw_of_a_split(call: tuple, answer: Any) -> str | None:
    scenes, items = call[0], _items(answer)
    if items is None:
        return f"expected a list of indices, got {_short(answer)}"
    if len(items) == 2 and all(_items(item) is not None for item in items):
        return BOTH_PARTS
    if items and all(isinstance(item, str) and item in scenes for item in items):
        return NAMES
    if len(items) == len(scenes) and all(isinstance(_plain(item), bool) for item in items):
        return TRUE_OR_FALSE
    for n, item in enumerate(items):
        if not _is_number(item) or not float(item).is_integer():
            return f"answer[{n}]: expected a whole number, got {_short(item)}"
        if item in items[:n]:
            return f"answer[{n}]: the index {_short(item)} comes a second time"
    test = {int(item) for item in items}
    if _leaks(scenes, test):
        before = {n - 1 for n in test}
        if _leaks(scenes, before):
            beyond = sorted(test - set(range(len(scenes))))
            return f"the index {beyond[0]} is out of range: there are {len(scenes)} tracks" if beyond else LEAK
        return FROM_ONE
    return None


def _leaks(scenes, test):
    """Say whether `test` is no set of whole scenes."""
    held = {scenes[n] for n in test if n in range(len(scenes))}
    return test != {n for n, scene in enumerate(scenes) if scene in held}


def _flaw_of_all_splits(calls: list[tuple], answers: list) -> str | None:
    held = [[int(n) for n in _items(answer)] for answer in answers]
    tests = [{call[0][n] for n in indices} for call, indices in zip(calls, held)]
    counts = [len(test) for test in tests]
    if counts != [_asked(*call[:2]) for call in calls]:
        same = (said for said, ways in COUNTS.items() if any(counts == [way(*c[:2]) for c in calls] for way in ways))
        return next(same, NUMBER)
    if any(indices != sorted(indices) for indices in held):
        return UNSORTED
    if any(a == b and held[n] != held[m] for n, a in enumerate(calls) for m, b in enumerate(calls[:n])):
        return UNSEEDED
    if all(held[n] == held[m] for n, a in enumerate(calls) for m, b in enumerate(calls[:n]) if a[:2] == b[:2]):
        orders = [(list(dict.fromkeys(call[0])), sorted(set(call[0]))) for call in calls]
        first = any(all(tests[n] == set(order[way][: counts[n]]) for n, order in enumerate(orders)) for way in (0, 1))
        return FIRST if first else FIXED
    return None


EXERCISES = (
    Exercise(
        "7.1",
        "How fast?",
        "warm-up",
        4,
        lambda: list(SPEEDS),
        "right: a zoom changes nothing, a smaller box is farther away, and a wrong height is a wrong speed",
        misconceptions=(
            Misconception(
                "pixels a second",
                [180, 360, 180, 180],
                "those are pixels a second; multiply by the metres that one pixel is, 1.7 / (box height) (hint 1)",
            ),
            Misconception(
                "metres in 0.2 s",
                [0.2 * speed for speed in SPEEDS],
                "those are metres in 0.2 s; divide by the seconds that they took (hint 1)",
            ),
            Misconception(
                "multiplied by the seconds",
                [0.04 * speed for speed in SPEEDS],
                "you multiply by 0.2 s; speed is metres divided by seconds (hint 1)",
            ),
            Misconception(
                "pixels a metre",
                [36 / 0.2 * 340 / 1.7, 72 / 0.2 * 680 / 1.7, 36 / 0.2 * 170 / 1.7, 36 / 0.2 * 340 / 1.5],
                "you multiply by pixels a metre; one pixel is 1.7 / (box height) metres (hint 1)",
            ),
            Misconception(
                "body heights a second",
                [36 / 0.2 / 340, 72 / 0.2 / 680, 36 / 0.2 / 170, 36 / 0.2 / 340],
                "those are body heights a second; one body height is 1.7 m, and 1.5 m in (4) (hint 1)",
            ),
            Misconception(
                "kilometres an hour",
                [3.6 * speed for speed in SPEEDS],
                "those are kilometres an hour; the question is for metres a second",
            ),
            *_wrong_speeds(),
            *(
                Misconception(
                    f"rounded to {rounded}",
                    [0.9, 0.9, 1.8, rounded],
                    "nearly: (4) is rounded; write what Python is to work out, such as 5 * 3 / 7",
                )
                for rounded in (0.8, 0.79, 0.794, 0.7941)
            ),
        ),
    ),
    _Examined(
        "7.2",
        "Find the bug: the person who sprints",
        "core",
        8,
        _speeds,
        "right: metres over the frames that really passed, whether or not somebody was seen in them",
        _walk,
        (
            Misconception(
                "the version with the bug",
                partial(_speeds, gap=numpy.ones_like),
                "that is the version from above: it takes each step for one frame, also across a gap (hint 1)",
            ),
            Misconception(
                "divided by the rate",
                lambda frames, x, rate: numpy.diff(x) / numpy.diff(frames) / rate,
                "you divide by the rate; one frame lasts 1 / rate seconds, so multiply by it (hint 2)",
            ),
            Misconception(
                "metres a frame",
                lambda frames, x, rate: numpy.diff(x) / numpy.diff(frames),
                "those are metres a frame; a second has `rate` frames (hint 2)",
            ),
            *(
                Misconception(
                    f"missing frames counted, {name}",
                    answer,
                    "you divide by the frames that are missing; from frame 3 to frame 8 five pass, not four (hint 1)",
                )
                for name, answer in (
                    ("infinity for none", _missing_frames),
                    ("one for none", partial(_speeds, gap=lambda frames: numpy.maximum(1, frames - 1))),
                )
            ),
            Misconception(
                "both ends counted",
                partial(_speeds, gap=lambda frames: frames + 1),
                "you count the first frame as well as the last; from frame 3 to frame 8 five pass, not six (hint 1)",
            ),
            Misconception(
                "without the sign",
                lambda *given: abs(_speeds(*given)),
                "you take the absolute value; a person who walks to the left has a negative speed (hint 3)",
            ),
            Misconception(
                "earlier minus later",
                lambda *given: -_speeds(*given),
                "your signs are the wrong way round; it is the later position minus the earlier one (hint 3)",
            ),
            Misconception(
                "interpolated",
                _interpolated,
                "those are too many: one speed for each frame, also the missed ones; return len(frames) - 1 (hint 3)",
            ),
            Misconception(
                "gaps left out",
                lambda frames, x, rate: _speeds(frames, x, rate)[numpy.diff(frames) == 1],
                "you leave out the speed across a gap; it is known as well, as a mean over the gap (hint 3)",
            ),
            Misconception(
                "gaps are zero",
                lambda frames, x, rate: _speeds(frames, x, rate) * (numpy.diff(frames) == 1),
                "across a gap you say 0, and the person did move; return the mean speed over the gap (hint 3)",
            ),
            Misconception(
                "one speed a box, the first 0",
                lambda *given: [0.0, *_speeds(*given)],
                "one too many: there is a speed between two boxes, and none before the first one (hint 3)",
            ),
            Misconception(
                "one speed a box, by numpy.gradient",
                lambda frames, x, rate: numpy.gradient(x, frames) * rate,
                "one too many: np.gradient gives a speed for each box; asked for is one between two boxes (hint 3)",
            ),
        ),
        cases=20,
        show=lambda call: "frames={}, x={}, rate={}".format(*call),
        flaw=_flaw_of_speeds,
    ),
    _Examined(
        "7.3",
        "Two people, one box",
        "core",
        12,
        _match,
        "right: the best pair first, each box once, and no pair below the threshold",
        _boxes_of_two_frames,
        (
            Misconception(
                "each its best one",
                _best_of_each,
                "two of your new boxes have one old box: two people, one number; each old box is taken once (hint 2)",
            ),
            Misconception(
                "first come, first served",
                partial(_match, order=lambda share, i, j: (-j, share)),
                "you go through the new boxes in their order; the pair with the largest IoU comes first (hint 1)",
            ),
            Misconception(
                "in the order of the old boxes",
                partial(_match, order=lambda share, i, j: (-i, share)),
                "you go through the old boxes in their order; the pair with the largest IoU comes first (hint 1)",
            ),
            Misconception(
                "in the order of the pairs",
                partial(_match, order=lambda share, i, j: (i, j), highest=False),
                "you take the pairs in their order; sort them by IoU first, the largest in front (hint 1)",
            ),
            Misconception(
                "smallest first",
                partial(_match, highest=False),
                "you begin with the smallest IoU; sort the other way round, reverse=True (hint 1)",
            ),
            Misconception(
                "both have to prefer each other",
                partial(_best_of_each, mutual=True),
                "a new box whose best old box is taken gets None here; it may still have the next one (hint 2)",
            ),
            Misconception(
                "the best sum",
                _best_sum,
                "your pairs have the largest sum of IoU (Hungarian algorithm); here the best pair goes first (hint 1)",
            ),
            Misconception(
                "any overlap",
                partial(_match, enough=lambda share, overlap: share > 0),
                "you match boxes that overlap less than `overlap`; such a pair is not taken (hint 3)",
            ),
            Misconception(
                "no threshold",
                partial(_match, enough=lambda share, overlap: True),
                "you match boxes that do not touch at all; a pair needs an IoU of `overlap` (hint 3)",
            ),
            Misconception(
                "strictly above",
                partial(_match, enough=lambda share, overlap: share > overlap),
                "a pair with an IoU of exactly `overlap` is taken, too: >=, not > (hint 3)",
            ),
            Misconception(
                "-1 for none",
                partial(_match, none=-1),
                "nearly: write None for a new box without an old one; -1 would be the last old box",
            ),
            Misconception(
                "new boxes of the old ones",
                _new_of_each_old,
                "that is the new box of each old one; asked for is the old box of each new one",
            ),
        ),
        cases=40,
        show=lambda call: "old={}, new={}, overlap={}".format(*call),
        flaw=_flaw_of_a_match,
    ),
    _Examined(
        "7.4",
        "A batch of sequences",
        "core",
        8,
        _batch,
        "right: padded at the end to the longest one, and a mask that knows the lengths",
        _sequences,
        (
            Misconception("features alone", lambda sequences: _batch(sequences)[0], ONE_TENSOR),
            Misconception("exchanged", lambda sequences: _batch(sequences)[::-1], EXCHANGED),
            Misconception("joined along time", _joined, JOINED),
            Misconception("time first", _time_first, TIME_FIRST),
            Misconception("cut to the shortest", _cut, CUT),
            Misconception(
                "padded in front",
                partial(_batch, front=True, mask_front=True),
                "you pad in front, so that first steps do not get first positions; pad at the end (hint 1)",
            ),
            Misconception(
                "features padded in front",
                partial(_batch, front=True),
                "the features are padded in front, and the mask at the end; pad both at the end (hint 1)",
            ),
            Misconception(
                "mask padded in front",
                partial(_batch, mask_front=True),
                "the features are padded at the end, and the mask in front; pad both at the end (hint 1)",
            ),
            Misconception(
                "last step repeated",
                partial(_batch, fill=lambda one: one[-1]),
                "you pad with the last step; pad with zeros (hint 1)",
            ),
            Misconception(
                "mask inverted",
                _masked_by(lambda features, mask: 1 - mask),
                "the mask is inverted: 1 is a real step, and 0 is padding (hint 2)",
            ),
            Misconception(
                "mask of ones",
                _masked_by(lambda features, mask: torch.ones_like(mask)),
                "your mask is 1 everywhere, so BERT reads the padding; it is 0 there (hint 2)",
            ),
            Misconception(
                "mask from the values",
                _masked_by(lambda features, mask: (features != 0).any(dim=-1)),
                "your mask hides a real step whose features are all 0; make it from the lengths (hint 2)",
            ),
            Misconception("a mask for each feature", _masked_by(lambda features, mask: features != 0), EACH_FEATURE),
            Misconception("lengths", _masked_by(lambda features, mask: mask.sum(dim=1)), LENGTHS),
            Misconception("additive mask", _masked_by(lambda features, mask: (1.0 - mask) * -10000.0), OTHER_NUMBERS),
        ),
        cases=12,
        show=lambda call: f"sequences of shapes {[tuple(one.shape) for one in call[0]]}",
        flaw=_flaw_of_a_batch,
    ),
    _Examined(
        "7.5",
        "A split without a leak",
        "stretch",
        10,
        _split,
        "right: whole scenes, as many as asked for, drawn by the seed alone",
        _film_and_seed,
        (
            Misconception("tracks drawn at random", _tracks_at_random, LEAK),
            Misconception("the last tracks", _last_tracks, LEAK),
            Misconception("some of each scene", _some_of_each_scene, LEAK),
            Misconception("always the first scenes", _first_scenes, FIRST),
            Misconception(
                "always the first names", partial(_split, draw=lambda names, count, seed: names[:count]), FIRST
            ),
            Misconception(
                "always the last names", partial(_split, draw=lambda names, count, seed: names[-count:]), FIXED
            ),
            Misconception("a seed of its own", lambda scenes, share, seed: _split(scenes, share, 0), FIXED),
            Misconception(
                "no seed", partial(_split, draw=lambda names, count, seed: random.sample(names, count)), UNSEEDED
            ),
            Misconception("share of the tracks", _share_of_tracks, NUMBER),
            Misconception("rounded down", partial(_split, count=COUNTS[DOWN][0]), DOWN),
            Misconception("rounded down, one at least", partial(_split, count=COUNTS[DOWN][1]), DOWN),
            Misconception("rounded up", partial(_split, count=COUNTS[UP][0]), UP),
            Misconception("rounded up, all but one at most", partial(_split, count=COUNTS[UP][1]), UP),
            Misconception("no bounds", partial(_split, count=COUNTS[BOUNDS][0]), BOUNDS),
            Misconception("no upper bound", partial(_split, count=COUNTS[BOUNDS][1]), BOUNDS),
            Misconception("no lower bound", partial(_split, count=COUNTS[BOUNDS][2]), BOUNDS),
            Misconception("the training part", partial(_split, count=COUNTS[TRAINING][0]), TRAINING),
            Misconception(
                "both parts",
                lambda *given: (sorted({*range(len(given[0]))} - {*_split(*given)}), _split(*given)),
                BOTH_PARTS,
            ),
            Misconception("names", lambda *given: sorted({given[0][n] for n in _split(*given)}), NAMES),
            Misconception(
                "True or False",
                lambda *given: [n in _split(*given) for n in range(len(given[0]))],
                TRUE_OR_FALSE,
            ),
            Misconception("counted from one", lambda *given: [n + 1 for n in _split(*given)], FROM_ONE),
            Misconception("by scene, not sorted", _by_scene, UNSORTED),
        ),
        cases=48,
        show=lambda call: f"{len(call[0])} tracks of {len(set(call[0]))} scenes, share={call[1]}, seed={call[2]}",
        flaw=_flaw_of_a_split,
        together=_flaw_of_all_splits,
    ),
)
