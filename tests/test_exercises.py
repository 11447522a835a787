"""Every exercise meets an untouched starter, its solution, each named wrong answer, and code that fails."""

from __future__ import annotations

import json
import random
import re
import textwrap

import numpy
import pytest
import torch
from lesson_runs import lessons, read

from inside_bert import check_exercise, progress
from inside_bert.exercises import exercises_of, lesson_numbers, record
from inside_bert.exercises.grading import RIGHT, UNTRIED, WRONG, difference, equal

EXERCISES = [exercise for lesson in lesson_numbers() for exercise in exercises_of(lesson).values()]
HEADS = exercises_of(0)["0.1"].reference()
WRONG_HEADS = dict.fromkeys(HEADS, False)
MISTAKES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.misconceptions]
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.number)


@pytest.fixture(autouse=True)
def fresh_record(monkeypatch):
    monkeypatch.setattr(record, "_marks", {})
    monkeypatch.setattr(record, "_file", None)


def in_lesson(exercise):
    """Return starter code, the name that is checked, hints and solution of an exercise, as the lesson has them."""
    path = lessons()[int(exercise.number.split(".")[0])]
    cells = read(path).cells
    check = next(n for n, cell in enumerate(cells) if f'check_exercise("{exercise.number}"' in cell.source)
    name = re.search(rf'check_exercise\("{re.escape(exercise.number)}", (\w+)\)', cells[check].source)[1]
    statement = next(
        c.source for c in reversed(cells[:check]) if c.source.startswith(f"### Exercise {exercise.number} ")
    )
    answers = cells[check + 1].source
    hints = re.findall(r"<summary>Hint (\d)</summary>", answers)
    solution = re.search(r"<summary>Solution</summary>\s+```python\n(.*?)```", answers, re.DOTALL)[1]
    return cells[check - 1].source, name, statement, hints, textwrap.dedent(solution)


def run(code, name):
    space = {"torch": torch}
    exec(code, space)  # the lesson's own code
    return space[name]


@every_exercise
def test_untouched(exercise):
    starter, name, *_ = in_lesson(exercise)
    assert exercise.grade(run(starter, name)).mark == UNTRIED


@every_exercise
def test_solution(exercise):
    *_, solution = in_lesson(exercise)
    _, name, *_ = in_lesson(exercise)
    verdict = exercise.grade(run(solution, name))
    assert (verdict.mark, verdict.message) == (RIGHT, exercise.right)


@pytest.mark.parametrize("exercise, mistake", MISTAKES, ids=[f"{e.number} {m.name}" for e, m in MISTAKES])
def test_each_named_mistake_is_recognised(exercise, mistake):
    verdict = exercise.grade(mistake.answer)
    assert (verdict.mark, verdict.message) == (WRONG, mistake.diagnosis)


@every_exercise
def test_lesson_and_checker_say_the_same(exercise):
    _, _, statement, hints, _ = in_lesson(exercise)
    heading = f"### Exercise {exercise.number} · {exercise.title} · {exercise.level} · {exercise.minutes} min · *"
    assert statement.startswith(heading)
    goals = read(lessons()[int(exercise.number.split(".")[0])]).cells[0].source
    goal = re.search(r"min · \*([\w ]+)\*", statement)[1]
    assert f"**{goal}**" in goals
    assert hints == [str(n) for n in range(1, len(hints) + 1)] and len(hints) >= 2
    for mentioned in re.findall(r"hint (\d)", " ".join(m.diagnosis for m in exercise.misconceptions)):
        assert mentioned in hints


@pytest.mark.parametrize("lesson", lesson_numbers())
def test_each_lesson_has_the_kinds_it_should(lesson):
    exercises = exercises_of(lesson).values()
    assert 3 <= len(exercises) <= 5
    assert {"warm-up", "core", "stretch"} == {exercise.level for exercise in exercises}
    text = "\n".join(cell.source for cell in read(lessons()[lesson]).cells)
    assert "**Predict first.**" in text and "Find the bug" in text
    assert all(len(exercise.misconceptions) >= 2 for exercise in exercises)


def functions():
    return [exercise for exercise in EXERCISES if exercise.inputs]


@pytest.mark.parametrize("exercise", functions(), ids=lambda exercise: exercise.number)
def test_code_that_fails_is_told_where(exercise):
    def answer(*arguments):
        return {}["no such key"]

    verdict = exercise.grade(answer)
    assert verdict.mark == WRONG
    assert "your function raised KeyError: 'no such key'" in verdict.message
    assert 'return {}["no such key"]' in verdict.message


@pytest.mark.parametrize("exercise", functions(), ids=lambda exercise: exercise.number)
@pytest.mark.parametrize(
    "nonsense",
    ["text", 17, [], torch.zeros(0), {"a": 1}, float("nan"), object(), torch.empty(2, device="meta"), 1j, {1, 2}],
    ids=lambda nonsense: type(nonsense).__name__,
)
def test_nonsense_is_wrong_and_nothing_breaks(exercise, nonsense):
    verdict = exercise.grade(lambda *arguments: nonsense)
    assert verdict.mark == WRONG and verdict.message


@pytest.mark.parametrize("exercise", functions(), ids=lambda exercise: exercise.number)
def test_answer_of_another_arity_is_told(exercise):
    verdict = exercise.grade(lambda: None)
    assert verdict.mark == WRONG and "TypeError" in verdict.message


@pytest.mark.parametrize("exercise", functions(), ids=lambda exercise: exercise.number)
def test_right_only_sometimes_is_wrong(exercise):
    calls = []

    def answer(*arguments):
        calls.append(arguments)
        return exercise.reference(*arguments) if len(calls) > 1 else "wrong once"

    assert exercise.grade(answer).mark == WRONG
    assert len(calls) == exercise.cases >= 5


def test_inputs_differ_in_shape_and_content():
    for exercise in functions():
        import random

        shown = {repr(exercise.inputs(random.Random(f"{exercise.number} {n}"))) for n in range(exercise.cases)}
        assert len(shown) >= 3, exercise.number


# comparing answers -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer, expected, same",
    [
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.01, False),
        (135.0, 135, True),
        (135.5, 135, False),
        (18, 18.0, True),
        (float("nan"), 1.0, False),
        (True, 1, False),
        (1, True, False),
        ("a", "a", True),
        (["a", 1], ("a", 1), True),
        ([1, 2], [1, 2, 3], False),
        (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]), True),
        (torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0]]), False),
        ([1.0, 2.0], torch.tensor([1.0, 2.0]), True),
        (torch.tensor([1, 2]), [1, 2], True),
        (numpy.array(["a", "b"]), ["a", "b"], True),
        (torch.tensor(18.0), 18.0, True),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), False),
        ("text", torch.tensor([1.0]), False),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        (None, 1, False),
    ],
)
def test_equal(answer, expected, same):
    assert equal(answer, expected) is same


@pytest.mark.parametrize(
    "answer, expected, said",
    [
        (torch.zeros(3), torch.zeros(2), "expected shape (2,), got (3,)"),
        (
            torch.full((9,), float("nan")),
            torch.zeros(9),
            "some values are NaN, not a number: is something divided by zero?",
        ),
        (torch.full((9,), 0.5), torch.zeros(9), "the shape is right, but values differ by up to 0.5"),
        (torch.tensor([4, 1]), torch.tensor([4, 2]), "expected [4, 2], got [4, 1]"),
        ([1.0], torch.zeros(2), "expected a tensor of shape (2,), got [1.0]"),
        ([1, 2], [1, 2, 3], "expected 3 items, got 2"),
        ([5, 2], [1, 2, 3], "expected 3 items, got 2; answer[0]: expected 1, got 5"),
        ([("a", 0.5), ("b", 0.123456)], [("a", 0.5), ("b", 0.7)], "answer[1][1]: expected 0.7, got 0.1235"),
        (7, [1], "expected a list, got 7"),
        (1, True, "expected True or False, got 1"),
        (0.7358, 0.73584103, "expected 0.73584103, got 0.7358: is it rounded?"),
        ("18", 18.0, "expected a number, got '18'"),
        (False, 0, "expected a number, got False"),
        ({"a": 1}, {"b": 1}, "expected the keys ['b'], got ['a']"),
        ({"a": 1}, {"a": True}, "answer['a']: expected True or False, got 1"),
    ],
)
def test_difference_names_what_is_off(answer, expected, said):
    assert difference(answer, expected) == said


def test_an_answer_that_is_begun_and_not_finished():
    exercise = exercises_of(0)["0.1"]
    verdict = exercise.grade({**HEADS, "BertForMaskedLM": None})
    assert (verdict.mark, verdict.message[:36]) == (UNTRIED, "not finished: an entry is still None")


def test_inputs_of_1_2_are_what_the_tokenizer_makes():
    import random

    from transformers import AutoTokenizer

    from inside_bert import data_folder

    tokenizer = AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")
    for seed in range(100):
        text, tokens, offsets = exercises_of(1)["1.2"].inputs(random.Random(seed))
        encoded = tokenizer(text, return_offsets_mapping=True)
        real = len(encoded["input_ids"])
        assert tokens[:real] == encoded.tokens() and set(tokens[real:]) <= {"[PAD]"}
        assert offsets[:real] == encoded["offset_mapping"] and set(offsets[real:]) <= {(0, 0)}


def test_difference_can_keep_the_answer_to_itself():
    assert difference([5], [2], reveal=False) == "answer[0]: 5 is not right"


def test_right_numbers_that_still_carry_a_graph():
    """0.4 asks for a result without one."""
    exercise = exercises_of(0)["0.4"]

    def descend(loss_of, start, learning_rate, steps):
        x = start.clone().requires_grad_()
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(loss_of(x), x, create_graph=True)
            x = x - learning_rate * gradient
        return x

    verdict = exercise.grade(descend)
    assert verdict.mark == WRONG and "still carries a graph" in verdict.message
    assert exercise.grade(lambda *arguments: descend(*arguments).detach()).mark == RIGHT


def test_heads_that_0_1_calls_untrained_are(tmp_path):
    import transformers

    from inside_bert import data_folder
    from inside_bert.exercises.lesson_00 import UNTRAINED

    for name, untrained in UNTRAINED.items():
        load = getattr(transformers, name).from_pretrained
        _, info = load(data_folder() / "models" / "embedded-bert", output_loading_info=True)
        assert bool(info["missing_keys"]) is untrained, name


def test_solution_of_1_5_equals_the_library():
    from transformers import AutoTokenizer

    from inside_bert import data_folder, read_texts

    tokenizer = AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")
    windows = exercises_of(1)["1.5"].reference
    for text in read_texts(["story", "message"])["text"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        library = tokenizer(text, truncation=True, max_length=24, stride=5, return_overflowing_tokens=True)["input_ids"]
        assert windows(ids, 24, 5) == library


def test_numbers_of_6_1_are_those_of_the_package():
    from inside_bert import answer_f1

    guesses = ["the Ana Paz", "Ana Lucía Paz, a miller", "Lucía", ""]
    scores = [answer_f1(guess, ["Ana Lucía Paz", "Ana Paz"]) for guess in guesses]
    assert scores == pytest.approx(exercises_of(6)["6.1"].reference())


def test_positions_of_6_2_are_those_of_the_package():
    """Over windows of a real text: each answer of one to three words, and some that begin or end within a word."""
    from transformers import AutoTokenizer

    from inside_bert import data_folder, make_windows, read_texts

    tokenizer = AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")
    positions = exercises_of(6)["6.2"].reference
    text = read_texts(["story"])["text"].iloc[0]
    words = [word.span() for word in re.finditer(r"\S+", text)][:40]
    spans = [(a, words[n + more][1]) for more in range(3) for n, (a, _) in enumerate(words[:-2])]
    spans += [(a + 1, b) for a, b in words if b > a + 1] + [(a, b - 1) for a, b in words if b > a + 1]
    passage = text[: words[-1][1]]
    windows = make_windows(
        tokenizer, ["Who paid?"] * len(spans), [passage] * len(spans), spans, max_length=24, stride=6
    )
    labels = [(window.start, window.end) for window in windows]
    assert [positions(window.offsets, *spans[window.example]) for window in windows] == labels
    assert 0 < labels.count((0, 0)) < len(labels)


def test_inputs_of_6_2_hold_every_case():
    exercise, seen = exercises_of(6)["6.2"], set()
    for case in range(exercise.cases):
        offsets, start, end = exercise.inputs(random.Random(f"6.2 {case}"))
        first, last = exercise.reference(offsets, start, end)
        pairs = [pair for pair in offsets if pair]
        if last:
            begins, ends = offsets[first][0] == start, offsets[last][1] == end
            at_edges = offsets[first] == pairs[0], offsets[last] == pairs[-1]
            seen |= {("begins", begins), ("ends", ends), ("edges", *at_edges)}
        else:
            rest = [pair for pair in pairs if pair[1] > start and pair[0] < end]
            seen.add(("cut" if rest else "absent", pairs[0][0] > start))
    assert {(name, value) for name in ("begins", "ends", "cut", "absent") for value in (True, False)} <= seen
    assert {("edges", True, False), ("edges", False, True), ("edges", False, False)} <= seen


def test_spans_of_6_3_are_those_of_the_package():
    from inside_bert import Window, best_spans

    exercise = exercises_of(6)["6.3"]
    for seed in range(100):
        starts, ends, inside, max_tokens = exercise.inputs(random.Random(seed))
        offsets = [(n, n + 1) if held else None for n, held in enumerate(inside.tolist())]
        window = Window(0, [0] * len(offsets), [0] * len(offsets), offsets)
        best = best_spans("x" * len(offsets), [window], [(starts, ends)], max_tokens=max_tokens).spans[0]
        assert exercise.reference(starts, ends, inside, max_tokens) == (best.start, best.end - 1)


def test_windows_of_6_4_are_those_of_the_library():
    from transformers import AutoTokenizer

    from inside_bert import data_folder, read_texts

    tokenizer = AutoTokenizer.from_pretrained(data_folder() / "models" / "embedded-bert")
    spans = exercises_of(6)["6.4"].reference
    question, words = "Who built the mill?", read_texts(["story"])["text"].iloc[0].split()
    asked = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    lengths = set()
    for count in range(1, 46):
        passage = " ".join(words[:count])
        ids = tokenizer(passage, add_special_tokens=False)["input_ids"]
        for room, stride in ((6, 1), (8, 3), (9, 8), (12, 4), (20, 0)):
            encoded = tokenizer(question, passage, truncation="only_second", max_length=asked + 3 + room,
                                stride=stride, return_overflowing_tokens=True)  # fmt: skip
            library = [
                [token for token, part in zip(window, encoded.sequence_ids(n)) if part == 1]
                for n, window in enumerate(encoded["input_ids"])
            ]
            mine = spans(len(ids), room, stride)
            assert [ids[first:end] for first, end in mine] == library
            lengths.add((len(mine), mine[-1][1] - mine[-1][0] == room))
    assert {(1, False), (1, True), (2, True), (3, False), (3, True)} <= lengths


def test_infinity_is_a_threshold_of_its_own():
    """6.5 asks for it now and then: it equals itself, and no other number."""
    exercise, infinity = exercises_of(6)["6.5"], float("inf")
    calls = [exercise.inputs(random.Random(f"6.5 {case}")) for case in range(exercise.cases)]
    thresholds = [exercise.reference(*call) for call in calls]
    assert 2 <= sum(threshold == infinity for threshold in thresholds) <= exercise.cases / 2
    assert sum(min(call[0]) == threshold for call, threshold in zip(calls, thresholds)) >= 2
    declining = thresholds[next(n for n, threshold in enumerate(thresholds) if threshold == infinity)]
    finite = next(threshold for threshold in thresholds if threshold != infinity)
    for number in (infinity, numpy.float32("inf"), torch.tensor(infinity), declining):
        assert equal(number, declining) and not equal(number, finite)
    for number in (0, 1e300, -infinity, float("nan"), finite):
        assert not equal(number, declining)
    assert equal(float(finite), finite) and equal(finite, finite) and not equal(finite + 0.1, finite)
    assert difference(0.5, declining) == "expected inf, got 0.5"

    def just_a_large_number(*call):
        threshold = float(exercise.reference(*call))
        return 1e9 if threshold == infinity else threshold

    assert exercise.grade(just_a_large_number).mark == WRONG
    assert exercise.grade(lambda *call: float(exercise.reference(*call))).mark == RIGHT


def test_speeds_of_7_1_are_those_of_the_package():
    """With boxes of the height that is said, which move to the right by as much each step of 0.2 s."""
    from inside_bert import motion
    from inside_bert.tracks import STATURE

    speeds = exercises_of(7)["7.1"].reference()
    for tall, moved, known, speed in zip((340, 680, 170, 340), (36, 72, 36, 36), (1.7, 1.7, 1.7, 1.5), speeds):
        boxes = numpy.array([[moved * n, 100.0, moved * n + 90.0, 100.0 + tall] for n in range(4)])
        vx = motion(boxes, numpy.ones(4), 1920, 1080, step=0.2)[:, 4]
        assert vx * known / STATURE == pytest.approx([speed] * 4)


def test_inputs_of_7_2_hold_every_case():
    exercise = exercises_of(7)["7.2"]
    calls = [exercise.inputs(random.Random(f"7.2 {case}")) for case in range(exercise.cases)]
    gaps = [numpy.diff(frames).tolist() for frames, _, _ in calls]
    speeds = [exercise.reference(*call) for call in calls]
    assert all(0.5 < abs(speed) < 2 for some in speeds for speed in some)  # at the pace of a person
    assert any(max(some) > 1 for some in gaps) and any(1 in some for some in gaps)
    assert any((some > 0).any() and (some < 0).any() for some in speeds)
    assert min(map(len, gaps)) == 1 and max(map(len, gaps)) >= 4
    assert exercise.grade(lambda *call: [float(speed) for speed in exercise.reference(*call)]).mark == RIGHT
    assert exercise.grade(lambda *call: torch.tensor(exercise.reference(*call))).mark == RIGHT


def test_matches_of_7_3_are_those_of_the_package():
    from inside_bert import Detection, link

    exercise, seen = exercises_of(7)["7.3"], set()
    for case in range(exercise.cases):
        old, new, overlap = exercise.inputs(random.Random(f"7.3 {case}"))
        boxes = [Detection(n, None, 0, *map(float, box), 1.0) for n, some in ((1, old), (2, new)) for box in some]
        tracks = [one.track for one in link(boxes, overlap)]
        found = exercise.reference(old, new, overlap)
        assert found == [track - 1 if track <= len(old) else None for track in tracks[len(old) :]]
        seen |= {("old", bool(old)), ("new", bool(new)), *(("found", entry is None) for entry in found)}
    assert seen == {(name, value) for name in ("old", "new", "found") for value in (True, False)}


def test_batches_of_7_4_are_those_of_the_library():
    """Each kind of number does for the mask; in some calls a real step holds zeros alone."""
    from torch.nn.utils.rnn import pad_sequence

    exercise = exercises_of(7)["7.4"]

    def library(sequences, kind=torch.long):
        mask = pad_sequence([torch.ones(len(one)) for one in sequences], batch_first=True)
        return pad_sequence(sequences, batch_first=True), mask.to(kind)

    for kind in (torch.long, torch.bool, torch.float32):
        assert exercise.grade(lambda sequences, kind=kind: library(sequences, kind)).mark == RIGHT
    assert exercise.grade(lambda sequences: [part.numpy() for part in library(sequences)]).mark == RIGHT
    calls = [exercise.inputs(random.Random(f"7.4 {case}"))[0] for case in range(exercise.cases)]
    assert all(any((one == 0).all(dim=-1).any() for one in sequences) for sequences in calls)
    assert {len(sequences) for sequences in calls} >= {1, 2, 4}


def splits():
    """Return some ways to split by scene: what is right in 7.5 does not hang on the way to draw."""

    def names_and_count(scenes, share):
        names = sorted(set(scenes))
        return names, max(1, min(round(share * len(names)), len(names) - 1))

    def shuffled(scenes, share, seed):
        names, count = names_and_count(scenes, share)
        random.Random(seed).shuffle(names)
        return tuple(n for n, scene in enumerate(scenes) if scene in names[:count])

    def by_numpy(scenes, share, seed):
        names, count = names_and_count(scenes, share)
        test = numpy.random.default_rng(seed).choice(names, count, replace=False)
        return numpy.flatnonzero(numpy.isin(scenes, test))

    def by_torch(scenes, share, seed):
        names, count = names_and_count(scenes, share)
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        test = {names[n] for n in order[:count]}
        return [torch.tensor(n) for n, scene in enumerate(scenes) if scene in test]

    return [shuffled, by_numpy, by_torch, exercises_of(7)["7.5"].reference]


def test_any_way_to_draw_scenes_is_right_in_7_5():
    exercise = exercises_of(7)["7.5"]
    call = exercise.inputs(random.Random("7.5 0"))
    assert len({tuple(int(n) for n in split(*call)) for split in splits()}) >= 3
    for split in splits():
        assert exercise.grade(split).mark == RIGHT


def test_inputs_of_7_5_hold_every_case():
    exercise = exercises_of(7)["7.5"]
    calls = [exercise.inputs(random.Random(f"7.5 {case}")) for case in range(exercise.cases)]
    films = {(tuple(scenes), share) for scenes, share, _ in calls}
    assert len(films) == 6 and len(calls) - len({repr(call) for call in calls}) >= 20  # the same call comes again
    assert all(len({seed for scenes, _, seed in calls if tuple(scenes) == film}) >= 2 for film, _ in films)
    scenes = [(len(set(film)), share) for film, share in films]
    assert {round(share * count) for count, share in scenes} >= {0, 2, 3, 5}  # of 6, 7 or 9, 10 or 11, and 5 scenes
    assert all(abs(share * count % 1 - 0.5) > 0.1 for count, share in scenes)


@pytest.mark.parametrize(
    "number, answer, said",
    [
        ("7.1", [0.9, None, 1.8, 0.8], "not finished: an entry is still None"),
        ("7.1", [0.9, 0.9, 1.8], "expected 4 items, got 3"),
        ("7.1", [0.9, 0.9, 1.8, "0.8"], "answer[3]: expected a number, got '0.8'"),
        ("7.2", lambda frames, x, rate: 1.2, "expected a list of 3 speeds, got 1.2"),
        ("7.2", lambda frames, x, rate: x, "4 boxes have 3 neighbours in time, so expected 3 speeds, got 4"),
        ("7.2", lambda frames, x, rate: [None] * (len(x) - 1), "answer[0]: expected a number, got None"),
        ("7.2", lambda frames, x, rate: numpy.zeros((2, len(x) - 1)), "4 boxes have 3 neighbours in time"),
        ("7.3", lambda old, new, overlap: {}, "expected a list with one entry for each new box, got {}"),
        ("7.3", lambda old, new, overlap: [0], "expected one entry for each of the 2 new boxes, got 1"),
        ("7.3", lambda old, new, overlap: [(0, 0)] * len(new), "answer[0]: expected None or the index of an old box"),
        ("7.3", lambda old, new, overlap: [len(old)] * len(new), "answer[0]: expected None or the index"),
        ("7.3", lambda old, new, overlap: [False] * len(new), "answer[0]: expected None or the index"),
        ("7.3", lambda old, new, overlap: [None] * len(new), "answer[1]: expected 1, got None"),
        ("7.4", lambda sequences: {"features": 1}, "expected a pair (features, attention_mask), got {'features': 1}"),
        ("7.4", lambda sequences: (None, None), "features: expected a tensor, got None"),
        ("7.4", lambda sequences: (torch.zeros(4, 5, 9), None), "attention_mask: expected a tensor, got None"),
        ("7.4", lambda sequences: (torch.zeros(4, 6, 9), torch.ones(4, 6)), "features: expected shape (4, 5, 9)"),
        ("7.4", lambda sequences: (torch.zeros(4, 5, 9), torch.ones(4, 6)), "attention_mask: expected shape (4, 5)"),
        ("7.4", lambda sequences: (torch.zeros(4, 5, 9), torch.zeros(4, 5)), "attention_mask[0] is [0.0, 0.0, 0.0"),
        ("7.5", lambda scenes, share, seed: 3, "expected a list of indices, got 3"),
        ("7.5", lambda scenes, share, seed: {0, 1}, "expected a list of indices, got {0, 1}"),
        ("7.5", lambda scenes, share, seed: [0, None], "answer[1]: expected a whole number, got None"),
        ("7.5", lambda scenes, share, seed: [0, 0.5], "answer[1]: expected a whole number, got 0.5"),
        ("7.5", lambda scenes, share, seed: [0, 0], "answer[1]: the index 0 comes a second time"),
        ("7.5", lambda scenes, share, seed: [len(scenes)], "the index 29 is out of range: there are 29 tracks"),
        ("7.5", lambda scenes, share, seed: [-1], "the index -1 is out of range: there are 29 tracks"),
        ("7.5", lambda scenes, share, seed: [], "the number of test scenes is off"),
    ],
)
def test_what_lesson_07_says_of_other_answers(number, answer, said):
    verdict = exercises_of(7)[number].grade(answer)
    assert verdict.mark != RIGHT and verdict.message.startswith(said), verdict.message


def test_an_examined_answer_still_says_where_code_fails():
    """7.2 to 7.5 look at all answers; an error in one call, or None in one, is told all the same."""
    for exercise in list(exercises_of(7).values())[1:]:
        calls = []

        def answer(*arguments, exercise=exercise, calls=calls, fails=True):
            calls.append(arguments)
            if len(calls) == exercise.cases:
                return {}["no such key"] if fails else None
            return exercise.reference(*arguments)

        verdict = exercise.grade(answer)
        assert verdict.mark == WRONG and 'return {}["no such key"] if fails' in verdict.message
        assert "it was called with" in verdict.message
        calls.clear()
        verdict = exercise.grade(lambda *arguments, answer=answer: answer(*arguments, fails=False))
        assert verdict.mark == WRONG and "got None" in verdict.message


# the record --------------------------------------------------------------------------------------------------------
def test_unknown_exercise():
    for number in ("9.9", "0.9", "nonsense", "-1.2"):
        with pytest.raises(KeyError, match="there is no exercise"):
            check_exercise(number, None)


def test_changing_what_is_given_is_told():
    """3.4 asks to leave the tensor as it is."""

    def in_place(joined, head, heads):
        size = joined.shape[-1] // heads
        joined[..., head * size : (head + 1) * size] = 0
        return joined

    exercise = exercises_of(3)["3.4"]
    verdict = exercise.grade(in_place)
    assert verdict.mark == WRONG and "changed what it was given" in verdict.message
    heads = [exercise.inputs(random.Random(f"3.4 {case}"))[1] for case in range(exercise.cases)]
    assert 0 in heads and max(heads) > 1


def test_progress_counts_and_a_solved_exercise_stays_solved(capsys):
    progress()
    assert capsys.readouterr().out == "no exercise tried yet\n"
    check_exercise("0.1", None)
    check_exercise("0.1", WRONG_HEADS)
    assert "✗ a name such as BertForQuestionAnswering promises a head" in capsys.readouterr().out
    check_exercise("0.1", HEADS)
    check_exercise("0.1", WRONG_HEADS)
    capsys.readouterr()
    progress()
    assert "✓ 0.1" in (shown := capsys.readouterr().out) and "1 of 5 solved" in shown
    assert "lesson 01" not in shown


def test_progress_is_kept_in_the_file_that_was_named(tmp_path, capsys, monkeypatch):
    file = tmp_path / "progress.json"
    check_exercise("0.1", HEADS)
    progress(file)
    check_exercise("1.1", [0] * 7 + [1] * 3)
    assert json.loads(file.read_text())["exercises"] == {"0.1": "right", "1.1": "right"}
    monkeypatch.setattr(record, "_marks", {})  # tomorrow
    monkeypatch.setattr(record, "_file", None)
    check_exercise("0.1", WRONG_HEADS)
    progress(file)
    assert "✓ 0.1" in (shown := capsys.readouterr().out) and "✓ 1.1" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match="is a folder; name a file in it"):
        progress(tmp_path)
    with pytest.raises(OSError, match="cannot be written"):
        progress(tmp_path / "no such folder" / "progress.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"exercises": {"0.1": "superb"}}', '{"exercises": []}', "\ud800"])
def test_a_file_that_is_something_else_is_left_alone(content, tmp_path):
    file = tmp_path / "thesis.txt"
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    before = file.read_bytes()
    with pytest.raises(ValueError, match="is not a record of exercises, and was left as it is"):
        progress(file)
    check_exercise("0.1", HEADS)
    assert file.read_bytes() == before
