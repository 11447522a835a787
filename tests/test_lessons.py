"""Meta-tests: what every lesson keeps to, and that the comparison of its outputs is real."""

from __future__ import annotations

import json
import re
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lesson_runs import comparable_outputs, lessons, read

from inside_bert import publish

ROOT = Path(__file__).resolve().parents[1]
SKIPS = {"nbval-ignore-output", "nbval-skip"}
PLACES = [str(ROOT), str(Path.home()), "/home/", "/Users/", "/root/", "/tmp/", "/content/", "/var/"]
ADDRESS = re.compile(
    "|".join(map(re.escape, PLACES))
    + rf"|\b{re.escape(socket.gethostname())}\b"
    + r"|[A-Z]:\\\\|(?:site|dist)-packages|/conda| at 0x[0-9a-f]{6,}|127\.0\.0\.1"
)
CLOCK_OR_BAR = re.compile(r"\d+%\||it/s\b|s/it\b|\b\d+(\.\d+)? ?ms\b")
MAXIMUM_KB = {"default": 300, "03_attention_visualization": 488}  # 500,000 bytes, the views and their scripts included
# cells; 04 to 07 train, and the digits of a training depend on the machine
NOT_COMPARED = {"default": 3, "04_mlm_and_nsp": 5, "05_classification": 12, "06_question_answering": 13,
                "07_movement_sequences": 10}  # fmt: skip
BADGE = "https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}"

every_lesson = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path):
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def test_there_are_lessons():
    assert [path.name[:2] for path in lessons()] == [f"{number:02d}" for number in range(len(lessons()))]
    assert lessons()


@every_lesson
def test_was_run_once_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@every_lesson
def test_what_is_not_compared_has_a_reason(path):
    for cell in code_cells(path):
        assert not re.search(r"^\s*#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source, re.MULTILINE), "use a tag with a reason"
        if tags(cell) & SKIPS:
            assert len(cell.metadata.get("reason", "").split()) >= 4, cell.source
            assert len(tags(cell) & SKIPS) == 1


@every_lesson
def test_most_outputs_are_compared(path):
    cells = [cell for cell in code_cells(path) if cell.outputs]
    compared = [cell for cell in cells if not tags(cell) & SKIPS and comparable_outputs(cell)]
    assert len(compared) >= len(cells) - NOT_COMPARED.get(path.stem, NOT_COMPARED["default"])


@every_lesson
def test_stored_outputs_are_fit_to_be_read_anywhere(path):
    for cell in code_cells(path):
        readable = [{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in cell.outputs]
        stored = json.dumps(readable)
        assert not ADDRESS.search(stored), ADDRESS.search(stored)
        assert not CLOCK_OR_BAR.search(stored), CLOCK_OR_BAR.search(stored)
        for output in cell.outputs:
            assert output.output_type != "error" or "raises-exception" in tags(cell)
            assert output.get("name") != "stderr", f"red text above the output of: {cell.source}"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


@every_lesson
def test_pictures_have_a_description_and_a_finding(path):
    for cell in code_cells(path):
        pictures = [n for n, output in enumerate(cell.outputs) if "image/png" in output.get("data", {})]
        for place in pictures:
            picture = cell.outputs[place]
            alt = picture.metadata.get("image/png", {}).get("alt", "")
            assert len(alt.split()) >= 5
            assert picture.data["text/plain"] == f"[picture] {alt}"
            assert len(picture.data["image/png"]) * 3 / 4 <= 60_000
            below = "".join(output.get("text", "") for output in cell.outputs[place + 1 :])
            assert re.search(r"\d", below), "under each figure one printed line holds the finding in numbers"


@every_lesson
def test_size_and_metadata(path):
    assert path.stat().st_size <= 1024 * MAXIMUM_KB.get(path.stem, MAXIMUM_KB["default"])
    notebook = read(path)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"  # the name that Colab and every venv have
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@every_lesson
def test_cells_are_short_and_prose_stands_between_them(path):
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code_cells(path)]
    assert max(lines) <= 30
    assert statistics.median(lines) <= 6
    assert sorted(lines)[int(0.9 * len(lines))] < 20
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in read(path).cells)
    assert "ccc" not in kinds
    assert max(len(line) for cell in code_cells(path) for line in cell.source.splitlines()) <= 104


@every_lesson
def test_prose_blocks_can_be_read_at_a_glance(path):
    for text in prose(path):
        if text.startswith(("# ", "## References", "## Recap")):
            continue
        plain = re.sub(r"<details>.*?</details>|^\|[^\n]*$|\$\$.*?\$\$", "", text, flags=re.DOTALL | re.MULTILINE)
        assert len(plain.split()) <= 90, plain


@every_lesson
def test_first_cells_and_last_sections(path):
    first = read(path).cells[0].source
    assert re.match(rf"# {path.name[:2]} · \S", first)
    for row in ("You will be able to", "You need", "Runs in", "Uses"):
        assert f"| {row} |" in first
    assert re.search(r"\| Runs in \| \d+ s", first)
    sections = [heading for text in prose(path) for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    assert sections[-4:] == ["Exercises", "Recap", "Next", "References"]
    numbered = sections[:-4]
    lesson = int(path.name[:2])
    assert [heading.split()[0] for heading in numbered] == [f"{lesson}.{n}" for n in range(1, len(numbered) + 1)]
    assert 4 <= len(numbered) <= 7
    goals = re.search(r"^\| You will be able to \|(.*)$", first, re.MULTILINE)[1]
    assert 3 <= goals.count("**") // 2 <= 5
    for goal in goals.split(" · "):
        named = re.findall(rf"\b{lesson}\.\d\b", goal)
        assert named and set(named) <= {heading.split()[0] for heading in numbered}, goal


@every_lesson
def test_setup_cell_is_the_same_everywhere(path):
    cells = code_cells(path)
    assert cells[0].source == code_cells(lessons()[0])[0].source
    assert sum(bool(line.strip()) for line in cells[0].source.splitlines()) <= 15
    assert "inside_bert.start()" in cells[0].source


@every_lesson
def test_addresses_are_the_one_of_pyproject(path):
    slug = publish.current_slug(ROOT)
    assert BADGE.format(slug=slug, name=path.name) in read(path).cells[0].source
    assert f'REPOSITORY = "https://github.com/{slug}"' in code_cells(path)[0].source
    found = set(re.findall(r"research\.google\.com/github/([\w.-]+/[\w.-]+)/blob", path.read_text("utf-8")))
    assert found == {slug}


@every_lesson
def test_claims_are_checked(path):
    checking = [
        cell for cell in code_cells(path) if re.search(r"\bcheck(_shape|_exercise)?\(|expect_error", cell.source)
    ]
    assert len(checking) >= len(code_cells(path)) // 2


def test_recorded_address_is_known_to_the_installed_package():
    from inside_bert.data import repository_address

    assert repository_address() == f"https://github.com/{publish.current_slug(ROOT)}"


# Is the comparison real? -------------------------------------------------------------------------------------------
def up_to_first_number(path, kind):
    """Return the lesson cut off behind the first compared output of a kind with a number in it, and that output."""
    notebook = read(path)
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or tags(cell) & SKIPS:
            continue
        for output in cell.outputs:
            shown = output if kind == "text" else output.get("data", {})
            if re.search(r"\d", shown.get(kind, "")):
                notebook.cells = notebook.cells[: place + 1]
                return notebook, shown
    raise AssertionError(f"{path} stores no number in {kind} that is compared")


def run_suite_on(notebook, folder):
    """Run the project's own pytest configuration on one notebook."""
    target = folder / "lesson.ipynb"
    nbformat.write(notebook, target)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    command += ["-q", "-p", "no:cacheprovider", "--color", "no", str(target)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@every_lesson
@pytest.mark.parametrize("kind", ["text", "text/plain"])
def test_one_number_changed_by_hand_fails(path, kind, tmp_path):
    notebook, shown = up_to_first_number(path, kind)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    if kind == "text":
        untouched = run_suite_on(notebook, tmp_path)
        assert untouched.returncode == 0 and f"{cells} passed" in untouched.stdout, untouched.stdout
    place = [digit.start() for digit in re.finditer(r"\d(?=[^\d]*$)", shown[kind])][-1]
    shown[kind] = shown[kind][:place] + str((int(shown[kind][place]) + 1) % 10) + shown[kind][place + 1 :]
    edited = run_suite_on(notebook, tmp_path)
    assert edited.returncode == 1
    assert f"1 failed, {cells - 1} passed" in edited.stdout and "Cell outputs differ" in edited.stdout, edited.stdout
