"""One address, written everywhere by one command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inside_bert import publish

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path):
    for path in publish.carriers(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_writes_the_address_into_every_file_that_carries_it(checkout, capsys):
    old = publish.current_slug(checkout)
    assert publish.main(["ada-l/bert.course_2", "--root", str(checkout)]) == 0
    assert publish.current_slug(checkout) == "ada-l/bert.course_2"
    for path in publish.carriers(checkout):
        text = path.read_text(encoding="utf-8")
        assert old not in text and "ada-l/bert.course_2" in text
    assert f"{len(publish.carriers(checkout))} files now carry ada-l/bert.course_2" in capsys.readouterr().out


def test_there_and_back_again_changes_nothing(checkout):
    before = {path: path.read_bytes() for path in publish.carriers(checkout)}
    old = publish.current_slug(checkout)
    publish.publish(checkout, "a/b")
    publish.publish(checkout, old)
    assert {path: path.read_bytes() for path in publish.carriers(checkout)} == before
    assert publish.publish(checkout, old) == []


@pytest.mark.parametrize(
    "slug", ["", "name", "a/b/c", "https://github.com/a/b", "a b/c", 'a/"b', "-a/b", "a/b\n", "a/..", "a/."]
)
def test_refuses_what_is_no_owner_and_name(checkout, slug, capsys):
    before = (checkout / "pyproject.toml").read_bytes()
    assert publish.main(["--root", str(checkout), "--", slug]) == 2
    assert "is not of the form OWNER/NAME" in capsys.readouterr().err
    assert (checkout / "pyproject.toml").read_bytes() == before


def test_nothing_is_written_when_a_file_is_missing(checkout, capsys):
    (checkout / "README.md").unlink()
    before = (checkout / "pyproject.toml").read_bytes()
    assert publish.main(["a/b", "--root", str(checkout)]) == 2
    assert "README.md" in capsys.readouterr().err
    assert (checkout / "pyproject.toml").read_bytes() == before


def test_outside_a_checkout(tmp_path, capsys):
    assert publish.main(["a/b", "--root", str(tmp_path)]) == 2
    assert "run this in the checkout" in capsys.readouterr().err
