"""Run every lesson as Google Colab opens it: `make test-colab`.

Each lesson starts from its `.ipynb` alone, in an empty folder, in an environment with Colab's versions and without
the course, with a stand-in `google.colab`. Its setup cell has to install the course from the repository's address (a
git clone of this working tree answers for it) and to change nothing else. Outputs are compared as strictly as in
`make test`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from inside_bert import publish

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "colab-stand-in"


def working_tree_as_repository(target: Path) -> None:
    """Commit all files of this working tree that git would track into a new repository in `target`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "working tree"]):
        subprocess.run(["git", *command], cwd=target, check=True)


def write_stand_in(folder: Path) -> None:
    """Make a module `google.colab` that is imported when Python starts, as in Colab's kernel."""
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").write_text("")
    called = "def register_callback(function_name, callback):\n    callback()\n"  # what a view's frame may ask for
    (folder / "google" / "colab" / "output.py").write_text(called)
    (folder / "sitecustomize.py").write_text("import google.colab\n")


def write_kernel(folder: Path, python: Path, environment: dict[str, str]) -> None:
    (folder / "kernels" / KERNEL).mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": KERNEL, "language": "python", "env": environment}
    (folder / "kernels" / KERNEL / "kernel.json").write_text(json.dumps(spec))


def installed(python: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    return json.loads(subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout)


def official_scores_are_stored(python: Path, path: Path) -> bool:
    """Score the 30 cases of lesson 06 by the official rules, which Colab's transformers still carries."""
    subprocess.run([python, ROOT / "tools" / "score_answer_cases.py", "--out", path], check=True)
    same = path.read_bytes() == (ROOT / "data" / "qa" / "cases.csv").read_bytes()
    print(f"exact match and F1 by SQuAD's own rules: {'as stored' if same else 'NOT as stored in data/qa/cases.csv'}")
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, required=True, help="a virtual environment with Colab's versions")
    python = parser.parse_args().environment.resolve() / "bin" / "python"
    passed = failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("repository", "site", "jupyter"):
            (folder / name).mkdir()
        working_tree_as_repository(folder / "repository")
        write_stand_in(folder / "site")
        address = f"https://github.com/{publish.current_slug(ROOT)}"
        write_kernel(
            folder / "jupyter",
            python,
            {
                "PYTHONPATH": str(folder / "site"),
                "INSIDE_BERT": "embedded",
                "CUDA_VISIBLE_DEVICES": "",
                "GIT_CONFIG_COUNT": "1",  # git asks the local repository in place of the public address
                "GIT_CONFIG_KEY_0": f"url.file://{folder / 'repository'}.insteadOf",
                "GIT_CONFIG_VALUE_0": address,
            },
        )
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "inside-bert"], check=True)
            before = installed(python)
            alone = folder / "content"
            shutil.rmtree(alone, ignore_errors=True)
            alone.mkdir()
            shutil.copy(path, alone)
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-c",
                str(ROOT / "pyproject.toml"),
                "-q",
                "--rootdir",
                str(alone),
            ]
            command += [
                "-o",
                "addopts=-p lesson_runs --nbval --nbval-cell-timeout 300",
                "-o",
                f"pythonpath={ROOT / 'tests'}",
            ]
            command += ["--nbval-kernel-name", KERNEL, "-p", "no:cacheprovider", str(alone / path.name)]
            result = subprocess.run(command, cwd=alone, env={**os.environ, "JUPYTER_PATH": str(folder / "jupyter")})
            after = installed(python)
            changed = sorted(set(after.items()) ^ set(before.items()))
            only_the_course = [name for name, _ in changed] == ["inside-bert"] and "inside-bert" in after
            left = sorted(item.name for item in alone.iterdir() if item.name != path.name)
            print(f"{path.stem}: installed by the setup cell: {changed}; files left behind: {left}")
            good = result.returncode == 0 and only_the_course and not left
            passed, failed = passed + good, failed + (not good)
        good = official_scores_are_stored(python, folder / "cases.csv")
        passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
