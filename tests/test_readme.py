"""The README says what is there: its commands exist, its links lead somewhere, its lessons are all of them."""

from __future__ import annotations

import re
from pathlib import Path

from lesson_runs import lessons

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_make_command_is_a_target():
    named = set(re.findall(r"make ((?:lab|test|lock|outputs|clean)[a-z-]*)", README))
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert {"lab", "test"} <= named <= targets


def test_ci_runs_what_the_readme_names():
    commands = re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands[0] == "test"
    assert all(f"`make {command}`" in README for command in commands)


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_lesson_is_listed_with_its_question():
    for path in lessons():
        assert f"(notebooks/{path.name})" in README
        question = re.search(r"\*\*(.+?\?)\*\*", path.read_text(encoding="utf-8"))[1]
        assert question in README


def test_lock_holds_every_requirement():
    from packaging.requirements import Requirement

    locked = [
        Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1] not in "# "
    ]
    wanted = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1] not in "#"]
    names = {requirement.name.lower().replace("_", "-") for requirement in locked}
    for requirement in wanted:
        name = requirement.name.lower().replace("_", "-")
        assert name in names
        for pin in (pin for pin in locked if pin.name.lower().replace("_", "-") == name):
            (version,) = (clause.version for clause in pin.specifier)
            assert requirement.specifier.contains(version), f"{pin} is outside {requirement}"


def test_versions_of_colab_are_within_the_ranges():
    from packaging.requirements import Requirement

    lines = (ROOT / "tests" / "ways" / "colab-versions.txt").read_text().splitlines()
    colab = {line.split("==")[0]: line.split("==")[1] for line in lines if "==" in line}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#") and (requirement := Requirement(line)).name in colab:
            assert requirement.specifier.contains(colab[requirement.name]), line
            if requirement.name == "torch":
                assert requirement.specifier.contains("2.11.0"), "Colab's own torch"
