"""Movement from detections: readers of the files that detectors and trackers write, one detection at a time.

Reads only the files it is given, writes nothing, touches no network. Importing it loads the standard library alone.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

LONGEST_LINE = 1_000_000  # characters; a longer line of YOLO or MOT is refused before all of it is read
LONGEST_RECORD = 10_000_000  # the same for a line of records
MOT_COLUMNS = ("frame", "id", "left", "top", "width", "height", "confidence", "class", "visibility")
MOT_WORLD_COLUMNS = (*MOT_COLUMNS[:7], "x", "y", "z")  # the layout of ten columns
YOLO_COLUMNS = ("class", "x_center", "y_center", "width", "height")
EDGES = ("x1", "y1", "x2", "y2")
JSON_LINES = r'write one line a record or frame (JSON Lines), as with file.write(json.dumps(result.summary()) + "\n").'
LARGEST = sys.float_info.max
DAMAGE = (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError)


class MalformedDetectionError(ValueError):
    """A file does not hold what its format says; the message begins with file and line, and says what to do.

    The checksum of a `.gz` or `.zip` stands at the end, so damage may show only after some detections.
    """


class _Flaw(Exception):
    """What is wrong in a line; `_detections` says where."""


class Detection(NamedTuple):
    """One box in one frame, as the file has it: nothing is rounded, clipped to the picture or left out."""

    frame: int  # as the file numbers it
    track: int | None  # None where no tracker gave a number
    kind: int  # number of the class, as the file counts; -1 where it has none
    x1: float  # left edge in pixels
    y1: float  # top edge
    x2: float  # right edge, always right of x1
    y2: float  # bottom edge, always below y1
    confidence: float  # 0..1 (`read_mot` says when not); 1.0 where the file has none


def read_detections(path: str | os.PathLike, width: float | None = None,
                    height: float | None = None) -> Iterator[Detection]:  # fmt: skip
    """Return the detections of `path` by the reader that its name asks for.

    A folder or `.zip` goes to `read_yolo`, which needs `width` and `height` of the picture in pixels; `.txt` and `.csv`
    go to `read_mot`, `.json` and `.jsonl` to `read_records`, each of them also with `.gz` behind. Raises at once
    `FileNotFoundError` for a missing path, and `ValueError` for another name or without `width` and `height` where they
    are needed; while it is read, what the reader raises.
    """
    path = _existing(path)
    name = path.name.lower()
    if path.is_dir() or name.endswith(".zip"):
        if width is None or height is None:
            raise ValueError(f"{path} holds YOLO labels, which are fractions of the picture; give width and height of "
                             "the picture in pixels.")  # fmt: skip
        return read_yolo(path, width, height)
    if name.removesuffix(".gz").endswith((".txt", ".csv")):
        return read_mot(path)
    if name.removesuffix(".gz").endswith((".json", ".jsonl")):
        return read_records(path)
    raise ValueError(
        f"{path} has none of the names that say the format: YOLO labels are a folder or .zip, MOT is .txt or .csv, and "
        "records are .json or .jsonl (the last two also with .gz). Rename it, or call the reader itself."
    )


def read_yolo(path: str | os.PathLike, width: float, height: float) -> Iterator[Detection]:
    """Yield the detections of a folder or `.zip` of YOLO label files, frame by frame in the order of their numbers.

    One `.txt` file a frame; its number is the last run of digits in the file's name, as in `video_12.txt`. A frame with
    an empty file or none has no detections. In a `.zip`, label files count in every folder of it. Names that begin with
    a dot, `__MACOSX` and `classes.txt` are left out. A line holds ``class x_center y_center width height``, fractions
    of the picture (0 to 1), and maybe more: with seven fields, confidence and track, as Ultralytics writes with
    `save_txt`, `save_conf` and a tracker; with six, the last is the track where it is written as a whole number, else
    the confidence (a confidence of exactly 1 is written "1" there, and read as a track). `width` and `height` are the
    picture's, in pixels.

    Raises at once `FileNotFoundError` for a missing path and `ValueError` for sizes that are not positive. Raises
    `MalformedDetectionError` when the place is reached, so after the detections before it: for a name without number,
    two files of one frame, no label files, a damaged `.zip`, text that is not UTF-8, and a line with other fields, with
    values that are no finite numbers or no fractions, with an empty or inverted box, or with a track that its frame
    already had. Nothing is unpacked to disk; the names of the files and one line are in memory, and the last frame of
    each track.
    """
    path = _existing(path)
    for name, size in (("width", width), ("height", height)):
        if not 0 < size < math.inf:
            raise ValueError(f"{name} is {size}, and has to be the picture's {name} in pixels.")
    return _yolo(path, width, height)


def read_mot(path: str | os.PathLike) -> Iterator[Detection]:
    """Yield the detections of a text file in the layout of MOT Challenge (or its `.gz`), in the file's order.

    A line holds ``frame, id, left, top, width, height, confidence``, then nothing, or ``class, visibility``, or
    ``x, y, z`` (motchallenge.net/instructions; Milan et al. 2016). Frames and pixels count from 1 there, and stay as
    they are. An id of -1 is no track. `kind` is the eighth of eight or nine columns if it is a whole number above 0 (1
    is a pedestrian), else -1; in ten columns the eighth is a place in the world. `confidence` stays as it is too, so it
    may lie outside 0..1: in ground truth it is a flag (0: not to be judged), trackers often write -1, and some
    detectors of MOT15 write scores such as 45.3. It may be missing. Whole numbers may be written as 12.0.

    Raises at once `FileNotFoundError` for a missing path and `ValueError` for a folder. Raises
    `MalformedDetectionError` when the line is reached, so after the detections before it: for fewer or more fields, for
    values that are no finite numbers, for an empty or inverted box, for frames of a track that do not increase, frames
    of boxes without a track that decrease, text that is not UTF-8, a damaged `.gz`, and a file without lines. A file
    may be sorted by frame, or by track and then frame. One line is in memory, and the last frame of each track.
    """
    return _file(_existing(path, folder=False), LONGEST_LINE, lambda line, number: [_mot(line)])


def read_records(path: str | os.PathLike) -> Iterator[Detection]:
    """Yield the detections of a file of JSON Lines (or its `.gz`), in the file's order.

    A line is one detection, an object such as ``{"frame": 3, "track_id": 5, "class": 0, "confidence": 0.91, "box":
    {"x1": 4.0, "y1": 8.0, "x2": 20.5, "y2": 60.0}}``, or a list of such objects without `frame`, all detections of one
    frame: what ``json.dumps(result.summary())`` writes for a result of Ultralytics. The frame is then the line's number
    (blank lines count), and an empty list a frame without detections. `track_id`, `class` and `confidence` may be
    missing or null, `box` may be a list ``[x1, y1, x2, y2]``, and other fields do not matter. Boxes are in pixels.

    Raises at once `FileNotFoundError` for a missing path and `ValueError` for a folder. Raises
    `MalformedDetectionError` when the line is reached, so after the detections before it: for a line that is not JSON
    (such as a pretty-printed array), for missing fields, for values that are no finite numbers (text and true are
    none), for an empty, inverted or rotated box, or one of fractions, for frames out of order as in `read_mot`, text
    that is not UTF-8, a damaged `.gz`, and a file without lines. One line is in memory, and the last frame of each
    track.
    """
    return _file(_existing(path, folder=False), LONGEST_RECORD, _records)


def _existing(path: str | os.PathLike, *, folder: bool = True) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; relative paths start at {Path.cwd()}.")
    if path.is_dir() and not folder:
        raise ValueError(f"{path} is a folder; give the file in it (folders are for YOLO labels: read_yolo).")
    return path


def _file(path: Path, longest: int, parse: Callable[[str, int], list[Detection]]) -> Iterator[Detection]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb") as stream:
        lines = yield from _detections(stream, str(path), longest, parse, _Order())
    if not lines:
        raise MalformedDetectionError(f"{path}: the file is empty and holds no detection; write it again.")


def _yolo(path: Path, width: float, height: float) -> Iterator[Detection]:
    order = _Order()
    with contextlib.closing(_label_files(path)) as files:
        for frame, stream, place in files:
            yield from _detections(stream, place, LONGEST_LINE,
                                   lambda line, _, frame=frame: [_label(line, frame, width, height)], order)  # fmt: skip


def _detections(stream: IO[bytes], place: str, longest: int, parse: Callable[[str, int], list[Detection]],
                order: _Order) -> Generator[Detection, None, int]:  # fmt: skip
    """Yield what `parse(line, number)` finds in each line that is not blank; return how many such lines there are."""
    lines = 0
    for number, line in _lines(stream, place, longest):
        lines += 1
        try:
            found = parse(line, number)
            for detection in found:
                order.check(detection)
        except _Flaw as flaw:
            raise MalformedDetectionError(f"{place}, line {number}: {flaw}") from None
        yield from found
    return lines


def _lines(stream: IO[bytes], place: str, longest: int) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank; one line at a time is in memory.

    Lines end with LF, CRLF or CR. Bytes that are not UTF-8 are decoded to lone surrogates, which no UTF-8 text holds,
    so that the error can say their line, and comes when that line is reached.
    """
    text, number = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape"), 0
    while True:
        number += 1
        try:
            line = text.readline(longest + 1)
        except DAMAGE as error:
            raise MalformedDetectionError(f"{place}, line {number}: the file is damaged here, or a little after "
                                          f"({str(error) or 'it ends too early'}); get or pack it again.") from None  # fmt: skip
        if not line:
            return
        if len(line) > longest and not line.endswith("\n"):
            raise MalformedDetectionError(f"{place}, line {number}: the line is longer than {longest:,} characters; "
                                          "write one line a detection or frame.")  # fmt: skip
        if not line.isascii() and (wrong := re.search("[\udc80-\udcff]", line)):
            raise MalformedDetectionError(f"{place}, line {number}: byte 0x{ord(wrong[0]) - 0xDC00:02x} is not UTF-8; "
                                          "save the file as UTF-8.")  # fmt: skip
        if not line.isspace():
            yield number, line


def _label_files(path: Path) -> Iterator[tuple[int, IO[bytes], str]]:
    """Yield number, open file and name of each frame in a folder or `.zip`; each file closes before the next opens."""
    if path.is_dir():
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
        for frame, name in _numbered(names, path):
            with open(path / name, "rb") as stream:
                yield frame, stream, str(path / name)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGE, NotImplementedError, UnicodeDecodeError) as error:
        raise MalformedDetectionError(f"{path}: this is not a whole .zip archive ({error}); get it again, or give the "
                                      "folder of label files.") from None  # fmt: skip
    with archive:
        for frame, name in _numbered([member.filename for member in archive.infolist() if not member.is_dir()], path):
            with _member(archive, name, f"{path}/{name}") as stream:
                yield frame, stream, f"{path}/{name}"


def _member(archive: zipfile.ZipFile, name: str, place: str) -> IO[bytes]:
    try:
        member = archive.getinfo(name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError("packed with another method than deflate")
        if member.header_offset < 0:  # zipfile would ask the system to seek there
            raise zipfile.BadZipFile("it begins before the archive")
        return archive.open(member)
    except (*DAMAGE, RuntimeError, UnicodeDecodeError) as error:  # RuntimeError: a password, or not implemented
        raise MalformedDetectionError(f"{place}: it cannot be unpacked ({error}); pack the folder again, plainly and "
                                      "without a password.") from None  # fmt: skip


def _numbered(names: Iterable[str], path: Path) -> list[tuple[int, str]]:
    """Return number and name of each label file among `names`, by number."""
    found: dict[int, str] = {}
    for name in sorted(names):
        file = PurePosixPath(name)
        hidden = file.name.startswith(".") or "__MACOSX" in file.parts
        if hidden or file.suffix.lower() != ".txt" or file.name == "classes.txt":
            continue
        digits = re.findall("[0-9]+", file.stem)
        if not digits or len(digits[-1]) > 30:
            raise MalformedDetectionError(
                f"{path}: {name} has no frame number in its name; take it away if it is no label file (and if this is "
                "MOT, give the file itself)."
            )
        frame = int(digits[-1])
        if frame in found:
            raise MalformedDetectionError(f"{path}: {found[frame]} and {name} are both frame {frame}; keep the labels "
                                          "of one video, with one file a frame.")  # fmt: skip
        found[frame] = name
    if not found:
        raise MalformedDetectionError(f"{path}: it holds no label files, and so no detection; give the folder or .zip "
                                      "with one .txt file a frame.")  # fmt: skip
    return sorted(found.items())


def _label(line: str, frame: int, width: float, height: float) -> Detection:
    fields = line.split()
    if not 5 <= len(fields) <= 7:
        raise _Flaw(f"{len(fields)} fields found, and 5 to 7 expected: {' '.join(YOLO_COLUMNS)}, then maybe confidence "
                    "and track; save boxes, not outlines, keypoints or rotated boxes.")  # fmt: skip
    (kind, x, y, w, h), more = _numbers(fields[:5], YOLO_COLUMNS), fields[5:]
    for value, name in zip((x, y, w, h), YOLO_COLUMNS[1:]):
        if value > 1.01 or (value < -0.01 and name.endswith("center")):
            raise _Flaw(f"{name} is {value:g}, and has to be from 0 to 1; values of this label look like pixels, so "
                        "divide x by the picture's width and y by its height.")  # fmt: skip
    if len(more) == 1:
        more = ["1", *more] if re.fullmatch("[+-]?[0-9]+", more[0]) else [*more, "-1"]
    confidence, track = more or ("1", "-1")
    confidence, track = _numbers([confidence, track], ("confidence", "track"))
    edges = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
    return Detection(frame, _track(track, "track"), _whole(kind, "class"), *_box(*edges), _confidence(confidence))


def _mot(line: str) -> Detection:
    fields = line.split(",")
    if not 6 <= len(fields) <= 10:
        raise _Flaw(f"{len(fields)} fields found, and 7 to 10 expected, with commas between: "
                    f"{', '.join(MOT_COLUMNS[:7])}, then maybe class and visibility, or x, y and z.")  # fmt: skip
    values = _numbers(fields, MOT_WORLD_COLUMNS if len(fields) == 10 else MOT_COLUMNS)
    left, top, width, height = values[2:6]
    kind = int(values[7]) if len(fields) in (8, 9) and values[7] > 0 and values[7].is_integer() else -1
    return Detection(
        _whole(values[0], "frame"), _track(values[1], "id"), kind, *_box(left, top, left + width, top + height),
        values[6] if len(fields) > 6 else 1.0,
    )  # fmt: skip


def _records(line: str, number: int) -> list[Detection]:
    """Return the detections of frame `number`, or the one detection, that a line of JSON holds."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:  # not only JSONDecodeError: whole numbers of thousands of digits
        raise _Flaw(f"this line by itself is not JSON ({getattr(error, 'msg', error)}); {JSON_LINES}") from None
    if not isinstance(content, list):
        return [_record(content)]
    found = []
    for n, record in enumerate(content, start=1):
        try:
            found.append(_record(record, number))
        except _Flaw as flaw:
            raise _Flaw(f"in the list, detection {n}: {flaw}") from None
    return found


def _record(record: object, frame: int | None = None) -> Detection:
    """Return the detection that an object of JSON holds; `frame` is that of the list in which it stands, if any."""
    if not isinstance(record, dict):
        raise _Flaw(f"{record!r:.40} is no object with frame and box; {JSON_LINES}")
    if frame is not None and "frame" in record:
        raise _Flaw(f"a list is one frame, numbered by its line, and 'frame' stands in it as well; {JSON_LINES}")
    for name in ["frame"] * (frame is None) + ["box"]:
        if record.get(name) is None:
            raise _Flaw(f"{name} is missing; {len(record)} fields found ({', '.join(record):.80}), and frame and box "
                        "expected (in a list, box alone).")  # fmt: skip
    frame = _whole(record["frame"], "frame") if frame is None else frame
    box, kind, confidence = record["box"], record.get("class"), record.get("confidence")
    if isinstance(box, dict) and set(box) == set(EDGES):
        box = [box[name] for name in EDGES]
    if not isinstance(box, list) or len(box) != 4:
        raise _Flaw(f"the box is {box!r:.60}, and 4 fields are expected: {', '.join(EDGES)}, not rotated.")
    edges = [_number(value, name) for value, name in zip(box, EDGES)]
    if all(0 <= edge <= 1 for edge in edges):
        raise _Flaw("the box lies within one pixel, so x1 to y2 look like fractions; write pixels (summary() without "
                    "normalize).")  # fmt: skip
    return Detection(
        frame, _track(record.get("track_id"), "track_id"), -1 if kind is None else _whole(kind, "class", least=-1),
        *_box(*edges), 1.0 if confidence is None else _confidence(confidence),
    )  # fmt: skip


def _numbers(fields: list[str], names: Iterable[str]) -> list[float]:
    """Return the numbers that `fields` write, with or without spaces around them; `names` are theirs in messages."""
    text = "".join(fields)
    if text.isascii() and "_" not in text:  # float() takes digits of every script, and 1_000
        with contextlib.suppress(ValueError):
            numbers = [float(field) for field in fields]
            if math.isfinite(sum(numbers)):
                return numbers
    return [_number(_value(field), name) for field, name in zip(fields, names)]  # slower; says which one is wrong


def _value(text: str) -> float | str:
    """Return the number that `text` is, or else `text`, both without the spaces around it."""
    try:
        return float(text) if text.isascii() and "_" not in text else text.strip()
    except ValueError:
        return text.strip()


def _number(value: object, name: str) -> float:
    if type(value) not in (int, float) or not -LARGEST <= value <= LARGEST:  # True is of type bool; nan compares false
        raise _Flaw(f"{name} is {value!r:.40}, and has to be a finite number.")
    return float(value)


def _whole(value: object, name: str, *, least: int = 0) -> int:
    number = _number(value, name)
    if not least <= number <= 2**53 or not number.is_integer():  # beyond 2**53 not every whole number is a float
        raise _Flaw(f"{name} is {value!r:.40}, and has to be a whole number from {least} on.")
    return int(number)


def _track(value: object, name: str) -> int | None:
    track = -1 if value is None else _whole(value, name, least=-1)
    return None if track == -1 else track


def _confidence(value: object) -> float:
    confidence = _number(value, "confidence")
    if not 0 <= confidence <= 1:
        raise _Flaw(f"confidence is {confidence:g}, and has to be from 0 to 1; are the fields in order?")
    return confidence


def _box(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    for size, low, high in (("width", x1, x2), ("height", y1, y2)):
        if high < low:
            raise _Flaw(f"the box is inverted, its {size} is negative (from {low:g} to {high:g}); write the smaller "
                        "edge first, and no negative sizes.")  # fmt: skip
        if high == low:
            raise _Flaw(f"the box is empty, its {size} is 0 (at {low:g}); leave it out.")
        if not -LARGEST <= low <= high <= LARGEST:
            raise _Flaw(f"the box has an edge at infinity, its {size} is too large; leave it out.")
    return x1, y1, x2, y2


class _Order:
    """Refuses frames out of order: of a track they have to increase, of boxes without a track not to decrease."""

    def __init__(self) -> None:
        self.last: dict[int | None, int] = {}  # last frame of each track, and of boxes without one

    def check(self, detection: Detection) -> None:
        frame, track = detection.frame, detection.track
        last = self.last.get(track, -1)
        if frame < last:
            boxes = "boxes without a track" if track is None else f"track {track}"
            raise _Flaw(f"frame {frame} of {boxes} comes after frame {last}; sort the file by frame, or by track and "
                        "then frame.")  # fmt: skip
        if frame == last and track is not None:
            raise _Flaw(f"frame {frame} of track {track} comes a second time, and a track has one box a frame; was "
                        "the file written twice?")  # fmt: skip
        self.last[track] = frame
