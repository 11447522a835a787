"""Readers of detection files: three formats read back as they were written, and everything wrong with them said."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from inside_bert import movement
from inside_bert.movement import (
    Detection,
    MalformedDetectionError,
    read_detections,
    read_mot,
    read_records,
    read_yolo,
)

WIDTH, HEIGHT = 640, 480
SEEN = [  # two tracks in three frames
    Detection(1, 3, 0, 64.0, 48.0, 128.0, 240.0, 0.875),
    Detection(1, 7, 2, 320.0, 120.0, 480.0, 360.0, 0.5),
    Detection(2, 3, 0, 80.0, 48.0, 144.0, 240.0, 0.75),
    Detection(10, 3, 0, 96.0, 48.0, 160.0, 240.0, 0.25),
]
MOT = "1,3,10,20,30,40,0.9,-1,-1,-1\n"
BOX = {"x1": 10.5, "y1": 20.0, "x2": 40.0, "y2": 60.0}
RECORD = {"frame": 1, "track_id": 3, "class": 0, "name": "person", "confidence": 0.9, "box": BOX}


def label(seen):
    """A line of a YOLO label file with all seven fields."""
    x, y = (seen.x1 + seen.x2) / 2 / WIDTH, (seen.y1 + seen.y2) / 2 / HEIGHT
    w, h = (seen.x2 - seen.x1) / WIDTH, (seen.y2 - seen.y1) / HEIGHT
    return f"{seen.kind} {x!r} {y!r} {w!r} {h!r} {seen.confidence!r} {seen.track}\n"


def labels(detections):
    files = {}
    for seen in detections:
        name = f"video_{seen.frame}.txt"
        files[name] = files.get(name, "") + label(seen)
    return files


def mot_line(seen):
    fields = [seen.frame, seen.track, seen.x1, seen.y1, seen.x2 - seen.x1, seen.y2 - seen.y1, seen.confidence]
    return ",".join(map(str, [*fields, seen.kind, 1.0])) + "\n"


def record_line(seen):
    box = {"x1": seen.x1, "y1": seen.y1, "x2": seen.x2, "y2": seen.y2}
    return json.dumps({"frame": seen.frame, "track_id": seen.track, "class": seen.kind, "name": "thing",
                       "confidence": seen.confidence, "box": box}) + "\n"  # fmt: skip


def folder_of(path, files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def file_of(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path):
    return list(read_detections(path, WIDTH, HEIGHT))


def refused(path, *parts, line=None, after=0, member="", reader=read_detections):
    """Check that reading fails after `after` detections, and that the message begins with the place and holds `parts`.

    `member` is the file in the folder or `.zip`, if the message has to name it.
    """
    place, count = path / member if path.is_dir() else f"{path}/{member}".removesuffix("/"), 0
    with pytest.raises(MalformedDetectionError) as caught:
        for _ in reader(path, WIDTH, HEIGHT):
            count += 1
    message = str(caught.value)
    assert message.startswith(f"{place}: " if line is None else f"{place}, line {line}: "), message
    for part in parts:
        assert part in message, message
    assert count == after, f"{count} detections before the error"


# what is right comes back as it was --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["labels", "labels.zip", "deep.zip"])
def test_yolo_reads_back(tmp_path, name):
    files = labels(SEEN) | {"video_5.txt": "", "classes.txt": "person\n", "notes.md": "17", ".hidden_1.txt": "no"}
    if name == "deep.zip":
        files = {f"run 7/labels/{file}": text for file, text in files.items()}
        files |= {"__MACOSX/run 7/labels/_video_1.txt": b"\x00\x05", "run 7/frame_1.txt/": ""}
    path = (zip_of if name.endswith(".zip") else folder_of)(tmp_path / name, files)
    if path.is_dir():
        (path / "frame_3.txt").mkdir()  # a folder is no label file, whatever its name
    found = read(path)
    assert [seen[:3] for seen in found] == [seen[:3] for seen in SEEN], "frames by number: 1, 2, 10"
    for seen, wrote in zip(found, SEEN):
        assert seen[3:] == pytest.approx(wrote[3:])
    assert found == list(read_yolo(str(path), WIDTH, HEIGHT))


@pytest.mark.parametrize("name", ["seen.txt", "seen.csv", "seen.TXT.GZ", "seen.txt.gz"])
def test_mot_reads_back(tmp_path, name):
    path = tmp_path / name
    content = "".join(map(mot_line, SEEN)).encode()
    path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert read(path) == list(read_mot(path)) == [seen._replace(kind=seen.kind or -1) for seen in SEEN], "no class 0"


@pytest.mark.parametrize("name", ["seen.json", "seen.jsonl", "seen.json.gz", "seen.jsonl.gz"])
def test_records_read_back(tmp_path, name):
    path = file_of(tmp_path / name, "".join(map(record_line, SEEN)))
    assert read(path) == SEEN == list(read_records(path))
    assert all(type(seen.frame) is type(seen.track) is type(seen.kind) is int for seen in read(path))


def test_yolo_fields(tmp_path):
    lines = {
        "1": "0 0.5 0.5 0.25 0.5",  # neither
        "2": "0 0.5 0.5 0.25 0.5 0.75",  # confidence
        "3": "0 0.5 0.5 0.25 0.5 12",  # track
        "4": "0 0.5 0.5 0.25 0.5 1e-05",  # confidence, as %g writes small ones
        "5": "0 0.5 0.5 0.25 0.5 1.0",  # confidence: written with a point
        "6": "0 0.5 0.5 0.25 0.5 0.75 12",  # both
        "7": "0 0.5 0.5 0.25 0.5 0.75 -1",  # no track
        "8": "  0\t0.5  0.5 0.25 0.5 ",  # spaces as they come
    }
    found = read(folder_of(tmp_path / "labels", {f"{name}.txt": text for name, text in lines.items()}))
    assert [(seen.confidence, seen.track) for seen in found] == [
        (1.0, None), (0.75, None), (1.0, 12), (1e-05, None), (1.0, None), (0.75, 12), (0.75, None), (1.0, None),
    ]  # fmt: skip
    assert {seen[3:7] for seen in found} == {(240.0, 120.0, 400.0, 360.0)}


def test_yolo_boxes_beyond_the_picture_stay(tmp_path):
    (seen,) = read(folder_of(tmp_path / "labels", {"1.txt": "0 -0.005 1 0.5 1.01"}))
    assert seen[3:7] == pytest.approx((-0.255 * WIDTH, 0.495 * HEIGHT, 0.245 * WIDTH, 1.505 * HEIGHT))


@pytest.mark.parametrize("name, frame", [("000123", 123), ("cam2_run3_00045", 45), ("1712345678901234567", 1712345678901234567)])  # fmt: skip
def test_frame_number_is_the_last_run_of_digits(tmp_path, name, frame):
    (seen,) = read(folder_of(tmp_path / "labels7", {f"{name}.txt": "0 0.5 0.5 0.2 0.2"}))
    assert seen.frame == frame


@pytest.mark.parametrize(
    "line, expected",
    [
        ("5,-1,10,20,30,40", (5, None, -1, 1.0)),
        ("5,-1,10,20,30,40,45.3", (5, None, -1, 45.3)),
        ("5,2,10,20,30,40,-1,-1,-1,-1", (5, 2, -1, -1.0)),
        ("5,2,10,20,30,40,0,1,0.25", (5, 2, 1, 0.0)),
        ("5,2,10,20,30,40,1,7", (5, 2, 7, 1.0)),
        ("5,2,10,20,30,40,1,0.5,1", (5, 2, -1, 1.0)),
        ("5,2,10,20,30,40,1,4,2,0", (5, 2, -1, 1.0)),  # x, y, z: a place four metres away is no class
        (" 5 , 2 ,\t10, 20 ,30,40 , .5 ", (5, 2, -1, 0.5)),
        ("5.000000,2.000000,10,20,30,40,1", (5, 2, -1, 1.0)),
        ("5.0e+00,-1.0e+00,1e1,2e1,3e1,4e1,1", (5, None, -1, 1.0)),  # numpy.savetxt
    ],
)
def test_mot_fields(tmp_path, line, expected):
    (seen,) = read(file_of(tmp_path / "a.txt", line))
    assert (seen.frame, seen.track, seen.kind, seen.confidence) == expected
    assert seen[3:7] == (10.0, 20.0, 40.0, 60.0)
    assert type(seen.frame) is type(seen.kind) is int


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, (1, 3, 0, 0.9)),
        ({"track_id": None, "class": None, "confidence": None}, (1, None, -1, 1.0)),
        ({"track_id": 5.0, "frame": 2.0}, (2, 5, 0, 0.9)),  # pandas, where a column had gaps
        ({"track_id": -1, "class": -1, "confidence": 1}, (1, None, -1, 1.0)),
        ({"box": list(BOX.values()), "segments": [[1, 2]], "text": "Zürich \u2028 here"}, (1, 3, 0, 0.9)),
    ],
)
def test_record_fields(tmp_path, changes, expected):
    line = json.dumps(RECORD | changes, ensure_ascii=False)
    (seen,) = read(file_of(tmp_path / "a.json", line))
    assert (seen.frame, seen.track, seen.kind, seen.confidence) == expected
    assert seen[3:7] == tuple(BOX.values())


def test_a_record_needs_only_frame_and_box(tmp_path):
    path = file_of(tmp_path / "a.jsonl", json.dumps({"frame": 0, "box": BOX}))
    assert read(path) == [Detection(0, None, -1, *BOX.values(), 1.0)]


def test_lists_of_one_frame_a_line(tmp_path):
    one = {name: value for name, value in RECORD.items() if name != "frame"}
    frames = [[one, one | {"track_id": 4}], [], [one]]
    path = file_of(tmp_path / "a.json", "\n".join(map(json.dumps, frames)))
    assert [(seen.frame, seen.track) for seen in read(path)] == [(1, 3), (1, 4), (3, 3)]
    assert read(file_of(tmp_path / "b.json", "[]\n[]\n")) == [], "two frames in which nothing was seen"


def test_ground_truth_sorted_by_track(tmp_path):
    text = "".join(f"{frame},{track},10,20,30,40,1,1,1\n" for track in (2, 1) for frame in (3, 4, 9))
    assert [(seen.track, seen.frame) for seen in read(file_of(tmp_path / "gt.txt", text))] == [
        (2, 3), (2, 4), (2, 9), (1, 3), (1, 4), (1, 9),
    ]  # fmt: skip


CONTENT = {".txt": MOT + "2" + MOT[1:], ".jsonl": "".join(json.dumps(RECORD | {"frame": n}) + "\n" for n in (1, 2))}


@pytest.mark.parametrize("suffix", CONTENT)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_line_ends_and_byte_order_marks(tmp_path, suffix, ending, bom, last):
    text = CONTENT[suffix].replace("\n", ending)
    path = file_of(tmp_path / f"a{suffix}", bom + (text if last else text.rstrip()).encode())
    assert [seen.frame for seen in read(path)] == [1, 2]


def test_line_ends_and_byte_order_marks_of_labels(tmp_path):
    text = "\ufeff0 0.5 0.5 0.2 0.2\r\n0 0.5 0.5 0.4 0.4\r\n"
    assert len(read(folder_of(tmp_path / "labels", {"1.txt": text}))) == 2
    assert len(read(zip_of(tmp_path / "labels.zip", {"1.txt": text}))) == 2


# what is wrong is said ---------------------------------------------------------------------------------------------
BAD_MOT = {  # line: what is said of it
    "1,3,nan,20,30,40,1": ["left is nan", "finite"],
    "1,3,10,20,inf,40,1": ["width is inf", "finite"],
    "1,3,10,20,30,-Infinity,1": ["height is -inf", "finite"],
    "1,3,10,20,30,40,1e999": ["confidence is inf", "finite"],
    "1,3,10,20,30,40,1,1,nan": ["visibility is nan", "finite"],
    "1,3,10,20,30,40,1,-1,nan,-1": ["y is nan", "finite"],
    "1,3,1e308,20,1e308,40,1": ["infinity", "width"],
    "1,3,10,20,-30,40,1": ["inverted", "width is negative"],
    "1,3,10,20,30,-1,1": ["inverted", "height is negative"],
    "1,3,10,20,0,40,1": ["empty", "width is 0"],
    "1,3,10,20,30,0,1": ["empty", "height is 0"],
    "1,3,1e17,20,1,40,1": ["empty", "width is 0"],
    "1,3,10,20,30": ["5 fields found", "7 to 10 expected", "frame, id, left, top, width, height, confidence"],
    "1 3 10 20 30 40 1": ["1 fields found", "commas"],
    "1;3;10;20;30;40;1": ["1 fields found", "commas"],
    "1,3,10,20,30,40,1,1,1,1,1": ["11 fields found", "7 to 10 expected"],
    "1,3,10,20,3O,40,1": ["width is '3O'", "number"],
    "1,3,10,,30,40,1": ["top is ''", "number"],
    "1,3,1_0,20,30,40,1": ["left is '1_0'", "number"],
    "1,3,١٠,20,30,40,1": ["left is '١٠'", "number"],
    "frame,id,left,top,width,height,conf": ["frame is 'frame'", "number"],
    "# a comment": ["1 fields found"],
    "1.5,3,10,20,30,40,1": ["frame is 1.5", "whole number"],
    "-1,3,10,20,30,40,1": ["frame is -1", "whole number"],
    "1e300,3,10,20,30,40,1": ["frame is 1e+300", "whole number"],
    "1,3.5,10,20,30,40,1": ["id is 3.5", "whole number"],
    "1,-2,10,20,30,40,1": ["id is -2", "whole number"],
}


@pytest.mark.parametrize("line", BAD_MOT)
def test_bad_lines_of_mot(tmp_path, line):
    path = file_of(tmp_path / "a.txt", f"1,1,10,20,30,40,1\n\n  \n{line}\n5,5,bad\n")
    refused(path, *BAD_MOT[line], line=4, after=1)  # blank lines count


BAD_YOLO = {
    "0 nan 0.5 0.2 0.2": ["x_center is nan", "finite"],
    "0 0.5 0.5 inf 0.2": ["width is inf", "finite"],
    "0 0.5 0.5 0.2 0.2 nan": ["confidence is nan", "finite"],
    "0 0.5 0.5 -0.2 0.2": ["inverted", "width is negative"],
    "0 0.5 0.5 0.2 -0.005": ["inverted", "height is negative"],
    "0 0.5 0.5 0 0.2": ["empty", "width is 0"],
    "0 0.5 0.5 0.2 0.0 0.9": ["empty", "height is 0"],
    "0 0.5 0.5 0.2": ["4 fields found", "5 to 7 expected", "class x_center y_center width height"],
    "0 0.5 0.5 0.2 0.2 0.9 3 4": ["8 fields found", "5 to 7 expected"],
    "0 0.1 0.2 0.3 0.4 0.5 0.6": ["track is 0.6", "whole number"],  # an outline of three points
    "0,0.5,0.5,0.2,0.2": ["1 fields found"],
    "person 0.5 0.5 0.2 0.2": ["class is 'person'", "number"],
    "0.5 0.5 0.5 0.2 0.2": ["class is 0.5", "whole number"],
    "-1 0.5 0.5 0.2 0.2": ["class is -1", "whole number"],
    "0 0.5 0.5 0.2 0.2 0.9 x": ["track is 'x'", "number"],
    "0 0.5 0.5 0.2 0.2 0.9 -2": ["track is -2", "whole number"],
    "0 0.5 0.5 0.2 0.2 7 0.9": ["track is 0.9", "whole number"],
    "0 0.5 0.5 0.2 0.2 7 3": ["confidence is 7", "0 to 1"],
    "0 0.5 0.5 0.2 0.2 -0.5": ["confidence is -0.5", "0 to 1"],
    "0 320 240 64 48": ["x_center is 320", "look like pixels"],
    "0 0.5 1.02 0.2 0.2": ["y_center is 1.02", "look like pixels"],
    "0 0.5 -0.02 0.2 0.2": ["y_center is -0.02", "look like pixels"],
    "0 0.5 0.5 64 0.2": ["width is 64", "look like pixels"],
}


@pytest.mark.parametrize("line", BAD_YOLO)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_bad_lines_of_yolo(tmp_path, line, kind):
    files = {"f_9.txt": "0 0.5 0.5 0.2 0.2", "f_10.txt": f"0 0.5 0.5 0.2 0.2\n\n{line}\n", "f_11.txt": "bad"}
    path = folder_of(tmp_path / "labels", files) if kind == "folder" else zip_of(tmp_path / "a.zip", files)
    refused(path, *BAD_YOLO[line], member="f_10.txt", line=3, after=2)


def test_the_picture_has_a_size(tmp_path):
    path = folder_of(tmp_path / "labels", labels(SEEN))
    for size in ((0, 480), (640, -1), (float("nan"), 480), (640, float("inf"))):
        with pytest.raises(ValueError, match="picture's (width|height) in pixels"):
            read_yolo(path, *size)
    for size in ((), (640,)):
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} .*give width and height"):
            read_detections(path, *size)


def without(*names):
    return {name: value for name, value in RECORD.items() if name not in names}


BAD_RECORDS = [
    (RECORD | {"box": BOX | {"x1": float("nan")}}, ["x1 is nan", "finite"]),
    (RECORD | {"box": BOX | {"y2": float("inf")}}, ["y2 is inf", "finite"]),
    ('{"frame": 1, "box": [1, 2, 3, 1e999]}', ["y2 is inf", "finite"]),
    ('{"frame": 1, "box": [1, 2, 3, 1%s]}' % ("0" * 400), ["y2 is 1000", "finite"]),
    (RECORD | {"confidence": float("nan")}, ["confidence is nan", "finite"]),
    (RECORD | {"box": BOX | {"x2": 3.0}}, ["inverted", "width is negative"]),
    (RECORD | {"box": BOX | {"y2": 3.0}}, ["inverted", "height is negative"]),
    (RECORD | {"box": BOX | {"x2": 10.5}}, ["empty", "width is 0"]),
    (RECORD | {"box": BOX | {"y2": 20.0}}, ["empty", "height is 0"]),
    (RECORD | {"box": {"x1": 1, "y1": 2, "x2": 3}}, ["the box is {'x1': 1", "4 fields are expected: x1, y1, x2, y2"]),
    (RECORD | {"box": BOX | {"x3": 1, "y3": 1, "x4": 2, "y4": 2}}, ["4 fields are expected", "not rotated"]),
    (RECORD | {"box": [1, 2, 3, 4, 5]}, ["the box is [1, 2, 3, 4, 5]", "4 fields are expected"]),
    (RECORD | {"box": "1 2 3 4"}, ["the box is '1 2 3 4'"]),
    (RECORD | {"box": [0.25, 0.25, 0.5, 1]}, ["look like fractions", "pixels"]),
    (without("box"), ["box is missing", "5 fields found", "frame and box expected"]),
    (without("frame"), ["frame is missing", "5 fields found"]),
    (RECORD | {"frame": None}, ["frame is missing"]),
    (RECORD | {"frame": True}, ["frame is True", "number"]),
    (RECORD | {"frame": "1"}, ["frame is '1'", "number"]),
    (RECORD | {"frame": 1.5}, ["frame is 1.5", "whole number"]),
    (RECORD | {"frame": -1}, ["frame is -1", "whole number"]),
    (RECORD | {"frame": 2**60}, ["whole number"]),
    (RECORD | {"track_id": "3"}, ["track_id is '3'", "number"]),
    (RECORD | {"track_id": 3.5}, ["track_id is 3.5", "whole number"]),
    (RECORD | {"class": "person"}, ["class is 'person'", "number"]),
    (RECORD | {"class": False}, ["class is False", "number"]),
    (RECORD | {"confidence": "0.9"}, ["confidence is '0.9'", "number"]),
    (RECORD | {"confidence": True}, ["confidence is True", "number"]),
    (RECORD | {"confidence": 90}, ["confidence is 90", "0 to 1"]),
    (RECORD | {"box": BOX | {"x1": "10"}}, ["x1 is '10'", "number"]),
    (RECORD | {"box": [True, 2, 3, 4]}, ["x1 is True", "number"]),
    ([without("frame"), RECORD], ["in the list, detection 2", "'frame' stands in it", "json.dumps"]),
    ([without("frame"), without("frame", "box")], ["in the list, detection 2", "box is missing"]),
    ([[without("frame")], []], ["in the list, detection 1", "no object", "json.dumps"]),
    (17, ["17 is no object", "json.dumps"]),
    ('{"frame": 1, "box": ', ["by itself is not JSON", "one line a record", "json.dumps"]),
    ("[" * 100_000, ["by itself is not JSON"]),
    ("9" * 5000, ["JSON Lines"]),
    (MOT, ["by itself is not JSON", "json.dumps"]),
]


@pytest.mark.parametrize("record, parts", BAD_RECORDS, ids=[" ".join(parts)[:40] for _, parts in BAD_RECORDS])
def test_bad_records(tmp_path, record, parts):
    line = record if isinstance(record, str) else json.dumps(record)
    first = json.dumps({"frame": 1, "track_id": 99, "box": BOX})
    path = file_of(tmp_path / "a.jsonl", f"{first}\n\n{line}\n{{}}\n")
    refused(path, *parts, line=3, after=1)


@pytest.mark.parametrize("indent", [2, None], ids=["pretty", "in one line"])
def test_one_big_array_of_json(tmp_path, indent):
    path = file_of(tmp_path / "a.json", json.dumps([RECORD, RECORD | {"frame": 2}], indent=indent))
    refused(path, "JSON Lines", "json.dumps", line=1)


ORDERS = {  # (frame, track) one after the other: line of the error, and what is said
    "a step back": ([(1, 3), (5, 3), (4, 3)], 3, "frame 4 of track 3 comes after frame 5; sort"),
    "a repeat": ([(1, 3), (1, 4), (1, 3)], 3, "frame 1 of track 3 comes a second time"),
    "of frame 0": ([(0, 3), (0, 3)], 2, "frame 0 of track 3 comes a second time"),
    "no track": ([(1, None), (1, None), (7, None), (6, None)], 4, "frame 6 of boxes without a track comes after"),
    "a second track": ([(8, 3), (2, 4), (3, 4), (7, 3)], 4, "frame 7 of track 3 comes after frame 8"),
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_frames_out_of_order(tmp_path, name, suffix):
    frames, line, said = ORDERS[name]
    if suffix == ".txt":
        rows = [f"{frame},{-1 if track is None else track}" + MOT[3:] for frame, track in frames]
    else:
        rows = [json.dumps({"frame": frame, "track_id": track, "box": BOX}) + "\n" for frame, track in frames]
    refused(file_of(tmp_path / f"a{suffix}", "".join(rows)), said, line=line, after=line - 1)


def test_a_track_twice_in_a_label_file(tmp_path):
    path = folder_of(tmp_path / "labels", {"4.txt": label(SEEN[0]) * 2})
    refused(path, "frame 4 of track 3 comes a second time", member="4.txt", line=2, after=1)


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".jsonl", ".json.gz"])
@pytest.mark.parametrize("content", ["", "\n \r\n\n", "\ufeff"], ids=["empty", "blank", "bom"])
def test_a_file_without_lines(tmp_path, suffix, content):
    refused(file_of(tmp_path / f"a{suffix}", content), "holds no detection")


def test_no_label_files(tmp_path):
    refused(folder_of(tmp_path / "labels", {"classes.txt": "person"}), "no label files")
    refused(zip_of(tmp_path / "a.zip", {"a.jpg": "", "labels/": ""}), "no label files")
    assert read(folder_of(tmp_path / "none", {"1.txt": "", "2.txt": "\n"})) == [], "empty files: nothing was seen"


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_names_of_label_files(tmp_path, kind):
    def made(n, *names):
        files = dict.fromkeys(names, "0 0.5 0.5 0.2 0.2")
        return folder_of(tmp_path / n, files) if kind == "folder" else zip_of(tmp_path / f"{n}.zip", files)

    refused(made("a", "f_1.txt", "gt.txt"), "gt.txt has no frame number")
    refused(made("b", "f_1.txt", "f_01.txt", "f_2.txt"), "f_01.txt and f_1.txt are both frame 1")
    refused(made("c", "1" * 40 + ".txt"), "has no frame number")


def test_two_files_of_one_frame_in_folders_of_a_zip(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"train/f_1.txt": "", "val/f_1.txt": ""})
    refused(path, "train/f_1.txt and val/f_1.txt are both frame 1")
    refused(zip_of(tmp_path / "b.zip", {"run 7/f.txt": ""}), "run 7/f.txt has no frame number")  # the folder's does not


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("wrong, byte", [(b"\xff", "0xff"), ("é".encode("latin-1"), "0xe9"), (b"\xed\xb2\x80", "0xed")])
def test_bytes_that_are_not_utf8(tmp_path, suffix, wrong, byte):
    first = (MOT if "txt" in suffix else json.dumps(RECORD) + "\n").encode()
    path = file_of(tmp_path / f"a{suffix}", first + b"\n2," + wrong + b"," + first)
    refused(path, f"byte {byte} is not UTF-8", line=3, after=1)


def test_utf16_is_not_utf8(tmp_path):
    refused(file_of(tmp_path / "a.txt", MOT.encode("utf-16")), "is not UTF-8", line=1)
    path = folder_of(tmp_path / "labels", {"1.txt": "0 0.5".encode("utf-16")})
    refused(path, "is not UTF-8", member="1.txt", line=1)


@pytest.mark.parametrize("suffix", [".txt.gz", ".jsonl.gz"])
def test_damaged_gzip(tmp_path, suffix):
    rng = random.Random(0)
    if "txt" in suffix:
        rows = [f"{n},1,{rng.random()},20,30,40,1\n" for n in range(5000)]
    else:
        rows = [json.dumps({"frame": n, "box": [rng.random(), 2, 3, 4]}) + "\n" for n in range(5000)]
    whole = gzip.compress("".join(rows).encode())
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    last, reader = -1, read_detections(path)
    with pytest.raises(MalformedDetectionError, match=rf"^{re.escape(str(path))}, line \d+: .*damaged") as caught:
        while True:
            last = next(reader).frame
    assert 1000 < last < 4000 and f"line {last + 2}: " in str(caught.value), "all up to there came"
    path.write_bytes(whole[:-8] + bytes(8))  # checksum
    refused(path, "damaged", line=5001, after=5000)
    path.write_bytes("".join(rows).encode())  # never packed
    refused(path, "damaged", line=1)


def test_damaged_zip(tmp_path):
    path = zip_of(tmp_path / "a.zip", labels(SEEN))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "not a whole .zip archive")
    path.write_bytes(whole.replace(b"PK\x03\x04", b"PK\x03\x05"))
    refused(path, "cannot be unpacked", member="video_1.txt")
    stored = tmp_path / "stored.zip"
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("video_1.txt", "0 0.5 0.5 0.2 0.2\n")
    stored.write_bytes(stored.read_bytes().replace(b"0 0.5 0.5", b"0 0.6 0.5"))
    refused(stored, "damaged", member="video_1.txt", line=1)
    refused(file_of(tmp_path / "b.txt", MOT), "not a whole .zip archive", reader=read_yolo)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, None], ids=["bzip2", "password"])
def test_members_that_cannot_be_unpacked(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method or zipfile.ZIP_STORED) as archive:
        archive.writestr("video_1.txt", "0 0.5 0.5 0.2 0.2\n")
    if method is None:  # the bit that says so, in the member's header and in the directory
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
    refused(path, "cannot be unpacked", member="video_1.txt")


def test_any_damage_is_said_or_harmless(tmp_path):
    """Bytes changed at random: whatever comes, it is detections or the one error, never another."""
    rng, counts = random.Random(0), {}
    content = {"a.zip": zip_of(tmp_path / "a.zip", {f"l/é_{n}.txt": label(SEEN[0]) for n in (1, 2)}).read_bytes()}
    content |= {f"b{suffix}": text.encode() for suffix, text in CONTENT.items()}
    content |= {f"c{suffix}.gz": gzip.compress(text.encode()) for suffix, text in CONTENT.items()}
    for name, whole in content.items():
        for n in range(400):
            path, damaged = tmp_path / f"{n}{name}", bytearray(whole)
            for _ in range(rng.choice((1, 1, 3))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            path.write_bytes(damaged[: rng.randrange(len(damaged))] if rng.random() < 0.2 else damaged)
            try:
                read(path)
            except MalformedDetectionError as error:
                assert str(error).startswith(str(path))
                counts[name] = counts.get(name, 0) + 1
    assert set(counts) == set(content) and min(counts.values()) > 100


def test_nothing_is_read_where_nothing_is(tmp_path):
    path = tmp_path / "none.txt"
    for reader in (read_detections, read_mot, read_records, lambda path: read_yolo(path, WIDTH, HEIGHT)):
        with pytest.raises(FileNotFoundError, match=f"{re.escape(str(path))} does not exist"):
            reader(path)  # at once, not while it is read
    for reader in (read_mot, read_records):
        with pytest.raises(ValueError, match="is a folder; give the file"):
            reader(tmp_path)


@pytest.mark.parametrize("name", ["a.xml", "a.txt.zip.bz2", "a", "a.gz", "json"])
def test_other_names(tmp_path, name):
    path = file_of(tmp_path / name, MOT)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} has none .*YOLO.*MOT.*records") as caught:
        read_detections(path)
    assert not isinstance(caught.value, MalformedDetectionError)


# one line at a time ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix, limit", [(".txt", 1_000_000), (".txt.gz", 1_000_000), (".jsonl", 10_000_000)])
def test_endless_lines_are_refused(tmp_path, suffix, limit):
    line = MOT if "txt" in suffix else json.dumps(RECORD)
    longest = line.strip().ljust(limit) + "\n"
    for whole in (longest, longest[:-1]):
        assert len(read(file_of(tmp_path / f"a{suffix}", whole))) == 1, "the longest line that is allowed"
    refused(file_of(tmp_path / f"b{suffix}", line.strip() + "\n" + " " * limit + " \n"), "longer than", line=2, after=1)
    refused(file_of(tmp_path / f"c{suffix}", "\0" * (limit + 1)), f"longer than {limit:,} characters", line=1)


def open_files(path):
    """How many of this process's open files lie under `path`."""
    links = []
    for entry in os.scandir("/proc/self/fd"):
        try:
            links.append(os.readlink(entry.path))
        except FileNotFoundError:  # that of scandir itself
            continue
    return sum(link.startswith(str(path)) for link in links)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the list of open files is Linux's")
@pytest.mark.parametrize("how", ["close", "end", "error"])
@pytest.mark.parametrize("name", ["labels", "labels.zip", "a.txt", "a.txt.gz", "a.jsonl"])
def test_files_are_closed(tmp_path, name, how):
    files = labels(SEEN) | ({"video_20.txt": "bad"} if how == "error" else {})
    bad = "bad" if how == "error" else ""
    if name.startswith("labels"):
        path = (zip_of if name.endswith(".zip") else folder_of)(tmp_path / name, files)
    else:
        path = file_of(tmp_path / name, (CONTENT[".jsonl"] if "json" in name else CONTENT[".txt"]) + bad)
    reader = read_detections(path, WIDTH, HEIGHT)
    assert open_files(tmp_path) == 0, "nothing is open before the first detection"
    next(reader)
    assert open_files(tmp_path) == 1
    if how == "close":
        reader.close()
    elif how == "end":
        list(reader)
    else:
        with pytest.raises(MalformedDetectionError):
            list(reader)
    assert open_files(tmp_path) == 0


GROWTH = """
import sys
from inside_bert.movement import read_detections

def peak():  # of this program alone; ru_maxrss would begin with that of the process that started it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

small, big, how = sys.argv[1:]
def total(path):
    if how == "whole":
        return len(open(path, "rb").read())
    return sum(1 for seen in read_detections(path) if seen.x2 > seen.x1)
total(small)
before = peak()
print(total(big), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("suffix, lines", [(".txt", 1_000_000), (".jsonl", 200_000)])
def test_memory_is_bounded(tmp_path, suffix, lines):
    path = tmp_path / f"big{suffix}"
    rest = ",10,20,30,40,0.9,-1,-1,-1" if suffix == ".txt" else f', "class": 0, "box": {json.dumps(BOX)}}}'
    start = "%d,%d" if suffix == ".txt" else '{"frame": %d, "track_id": %d'
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{start % (n, n % 20)}{rest}\n" for n in range(lines))
    small = file_of(tmp_path / f"small{suffix}", CONTENT[suffix])
    growth = {}
    for how in ("streamed", "whole"):  # the second shows that the figure would betray a file read at once
        done = subprocess.run([sys.executable, "-c", GROWTH, small, path, how], capture_output=True, text=True,
                              check=True, env=os.environ | {"PYTHONPATH": str(Path(movement.__file__).parents[1])})  # fmt: skip
        count, growth[how] = map(int, done.stdout.split())
        assert count == (lines if how == "streamed" else path.stat().st_size)
    assert growth["streamed"] < 4_000 and growth["whole"] > 12_000, f"{growth} kB"


def test_importing_it_loads_the_standard_library_alone():
    code = "import sys; import inside_bert.movement; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pandas", "transformers", "matplotlib"} & set(loaded)
