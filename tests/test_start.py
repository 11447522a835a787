"""The start of a lesson: which way it picks, that it never hangs, what it silences, and what it says when it cannot."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from lesson_runs import lessons, read

import inside_bert
from inside_bert import HubUnavailableError, data, runtime

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "ways"))
import hub  # noqa: E402

# `start` in a process of its own, because the libraries read the hub's address when they are imported.
REPORT = """
import json, time
import inside_bert
from transformers import AutoConfig  # the time of imports is not the hub's
begun = time.perf_counter()
answers, reason = inside_bert.runtime.hub_answers()
seconds = time.perf_counter() - begun
run = inside_bert.start()
print(json.dumps({"way": run.way, "why": run.why, "probe": seconds,
                  "checkpoint": run.checkpoint, "text": str(run)}))
"""


OURS = ("INSIDE_BERT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_HUB_DISABLE_TELEMETRY")


@pytest.fixture(autouse=True, scope="module")
def cache_of_its_own(tmp_path_factory):
    """What the user has cached must not decide a test."""
    before = os.environ.get("HF_HOME")
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HF_HOME") if before is None else os.environ.update(HF_HOME=before)


def python(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    kept |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, timeout=120)


def start_with(**environment):
    return python(REPORT, **environment)


def report(**environment):
    result = start_with(**environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.fixture
def server_that_never_answers():
    """Accepts every connection and sends nothing."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as plug:
        threading.Thread(target=_accept, args=(plug, taken), daemon=True).start()
        yield f"http://127.0.0.1:{plug.getsockname()[1]}", taken


def _accept(plug, taken):
    while True:
        try:
            taken.append(plug.accept()[0])
        except OSError:
            return


@pytest.fixture(scope="module")
def stand_in_hub(tmp_path_factory):
    folder = hub.build(tmp_path_factory.mktemp("hub"))
    with hub.serve(folder) as (address, server):
        yield address, server


# which way ---------------------------------------------------------------------------------------------------------
def test_hub_that_never_answers(server_that_never_answers):
    address, taken = server_that_never_answers
    found = report(HF_ENDPOINT=address)
    assert found["way"] == "embedded"
    assert "within 3 s" in found["why"] or "Timeout" in found["why"]
    assert taken, "the hub was not asked"
    assert found["probe"] < runtime.PROBE_SECONDS + 1


def test_name_server_that_hangs(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(runtime, "_ask_hub", lambda seconds: time.sleep(60))
    begun = time.perf_counter()
    assert runtime.hub_answers(0.2) == (False, "the Hugging Face hub did not answer within 0.2 s")
    assert time.perf_counter() - begun < 5


def test_refused_connection():
    with socket.create_server(("127.0.0.1", 0)) as plug:
        closed = plug.getsockname()[1]
    found = report(HF_ENDPOINT=f"http://127.0.0.1:{closed}")
    assert (found["way"], found["why"]) == ("embedded", "the Hugging Face hub cannot be reached (ConnectError)")


def test_portal_that_answers_everything_with_a_page(tmp_path):
    """A hotel's login page says 200 to all; it is no hub."""
    import http.server

    class Portal(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(b"login")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = report(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert found["way"] == "embedded"
    assert found["why"] == "something answers in place of the Hugging Face hub (a login page of this network?)"


def test_hub_that_stops_answering_after_the_first_question():
    """It says that the file is there, and never sends it."""
    import http.server

    class Stuck(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            for name, value in {"X-Repo-Commit": hub.COMMIT, "ETag": '"1"', "Content-Length": "10"}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self):
            time.sleep(60)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stuck)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = report(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    assert (found["way"], found["why"]) == ("embedded", "the Hugging Face hub did not answer within 3 s")


def test_the_next_start_asks_again(stand_in_hub, tmp_path):
    """The hub was away, and comes back: no new session is needed."""
    address, _ = stand_in_hub
    code = """
import os, inside_bert, huggingface_hub, datasets
from inside_bert import runtime
real, runtime._ask_hub = runtime._ask_hub, lambda seconds: (None, "away")
first = inside_bert.start()
assert datasets.config.HF_HUB_OFFLINE and huggingface_hub.constants.HF_HUB_OFFLINE and os.environ["HF_HUB_OFFLINE"]
second = inside_bert.start()
runtime._ask_hub = real
third = inside_bert.start()
assert not datasets.config.HF_HUB_OFFLINE and "HF_HUB_OFFLINE" not in os.environ
print([(run.way, run.why) for run in (first, second, third)])
"""
    result = python(code, **hub.environment(address, tmp_path / "cache"))
    expected = [("embedded", "away"), ("embedded", "away"), ("full", "the Hugging Face hub answers")]
    assert result.stdout.strip() == str(expected), result.stderr


@pytest.mark.parametrize("version, allowed", [("5.15.0", True), ("99.0", True), ("4.57.6", False), (None, False)])
def test_library_that_is_too_old_or_missing(version, allowed, monkeypatch):
    real = runtime._installed_version
    monkeypatch.setattr(runtime, "_installed_version", lambda name: version if name == "transformers" else real(name))
    if allowed:
        runtime._check_versions()
    else:
        said = f"needs transformers<6,>=5.15, and {version or 'no version'} of it is installed. Run `make lab`"
        with pytest.raises(RuntimeError, match=said):
            runtime._check_versions()


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_is_respected(server_that_never_answers, name):
    address, taken = server_that_never_answers
    found = report(HF_ENDPOINT=address, **{name: "1"})
    assert (found["way"], found["why"]) == ("embedded", f"{name} is set")
    assert not taken, "the hub was asked"


def test_embedded_can_be_forced_without_asking(server_that_never_answers):
    address, taken = server_that_never_answers
    code = "import inside_bert; run = inside_bert.start(); print(run.way, run.why)"
    result = python(code, INSIDE_BERT="embedded", HF_ENDPOINT=address)
    assert result.stdout == "embedded INSIDE_BERT=embedded is set\n", result.stderr
    assert not taken


def test_full_way_when_the_hub_answers_and_from_its_cache_afterwards(stand_in_hub, tmp_path):
    address, _ = stand_in_hub
    environment = hub.environment(address, tmp_path / "cache")
    found = report(**environment)
    assert (found["way"], found["checkpoint"]) == ("full", "google-bert/bert-base-uncased")
    assert hub.STAND_IN in found["text"]
    load = "from transformers import AutoTokenizer, BertModel; name = 'google-bert/bert-base-uncased';"
    load += "AutoTokenizer.from_pretrained(name); BertModel.from_pretrained(name)"
    subprocess.run([sys.executable, "-c", load], env={**os.environ, **environment}, check=True, capture_output=True)
    cached = report(**{**environment, "HF_HUB_OFFLINE": "1", "INSIDE_BERT": "full"})
    assert cached["way"] == "full"
    assert cached["why"] == "INSIDE_BERT=full is set; HF_HUB_OFFLINE is set, so the local cache serves"


def test_full_way_that_is_not_to_be_had(tmp_path, monkeypatch):
    result = start_with(INSIDE_BERT="full", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "inside_bert.runtime.HubUnavailableError: INSIDE_BERT=full is set, but HF_HUB_OFFLINE is set"
    )
    assert "Unset INSIDE_BERT" in last
    assert issubclass(HubUnavailableError, RuntimeError)


def test_a_way_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("INSIDE_BERT", "fast")
    with pytest.raises(ValueError, match="INSIDE_BERT='fast' is not a way to run; set it to 'embedded' or 'full'"):
        inside_bert.start()


def test_when_the_hub_is_away_later_calls_fail_at_once(server_that_never_answers):
    address, taken = server_that_never_answers
    code = """
import inside_bert
inside_bert.start()
import huggingface_hub, transformers, datasets
from transformers import AutoTokenizer
for call in (lambda: AutoTokenizer.from_pretrained("google-bert/bert-base-uncased"),
             lambda: datasets.load_dataset("stanfordnlp/imdb")):
    try:
        call()
    except Exception as error:
        print(type(error).__name__)
"""
    result = python(code, HF_ENDPOINT=address)
    asked = len(taken)
    assert asked == 1, "only the probe may ask"
    assert result.stdout.split() == ["OSError", "ConnectionError"], result.stderr


def test_data_sets_of_the_hub_load_with_their_schema(stand_in_hub, tmp_path):
    address, _ = stand_in_hub
    code = """
from datasets import load_dataset
imdb, squad = load_dataset("stanfordnlp/imdb"), load_dataset("rajpurkar/squad")
print(sorted(imdb), imdb["train"].features["label"].names, sorted(squad), sorted(squad["train"][0]))
"""
    environment = {**os.environ, **hub.environment(address, tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert printed.stdout.strip() == (
        "['test', 'train', 'unsupervised'] ['neg', 'pos'] ['train', 'validation'] "
        "['answers', 'context', 'id', 'question', 'title']"
    ), printed.stderr


# what it carries ---------------------------------------------------------------------------------------------------
@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("INSIDE_BERT", "embedded")
    return inside_bert.start()


def test_run_in_the_embedded_way(run):
    assert (run.way, run.layers, run.hidden_size, run.heads, run.stand_in) == ("embedded", 6, 384, 12, None)
    assert Path(run.checkpoint).is_dir()
    assert run.pick(embedded=1, full=2) == 1
    text = str(run)
    for part in ("embedded way: INSIDE_BERT=embedded is set", "torch", "transformers", "cores", "data/models/embedded"):
        assert part in text
    assert run.checkpoint not in text, "no local path in a stored output"


def test_start_seeds_everything(run):
    import random

    import numpy

    def draw():
        return random.random(), numpy.random.rand(), torch.rand(1).item()

    inside_bert.start()
    first = draw()
    inside_bert.start()
    assert draw() == first


def test_only_the_notices_named_are_silenced(run, capsys):
    import transformers

    log = transformers.utils.logging.get_logger("transformers.modeling_utils")
    handler = logging.getLogger("transformers").handlers[0]
    texts = ("BertModel LOAD REPORT from: x", "Token indices sequence length is longer than 512", "something else")
    kept = [handler.filter(log.makeRecord("x", logging.WARNING, "f", 1, text, (), None)) for text in texts]
    assert [bool(result) for result in kept] == [False, False, True]
    inside_bert.start()
    assert len(handler.filters) == 1, "starting twice adds no second filter"


def test_importing_the_package_loads_no_torch_and_opens_no_connection():
    code = """
import sys
sys.addaudithook(lambda event, args: event.startswith("socket.") and sys.exit(f"opened: {event} {args}"))
import inside_bert
print("torch" in sys.modules, "transformers" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "False False\n"), result.stderr


def test_installed_versions_are_within_the_ranges_of_requirements():
    from importlib.metadata import requires, version

    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in requires("inside-bert")]
    assert {requirement.name for requirement in needed if not requirement.marker} >= {
        "torch",
        "transformers",
        "datasets",
    }
    for requirement in needed:
        if "browser" in str(requirement.marker):  # only `make test-browser` installs it
            continue
        assert requirement.specifier.contains(version(requirement.name), prereleases=True), requirement


# where nothing is installed ----------------------------------------------------------------------------------------
def test_a_lesson_opened_without_the_package_says_what_to_run():
    setup = next(cell.source for cell in read(lessons()[0]).cells if cell.cell_type == "code")
    result = subprocess.run([sys.executable, "-I", "-S", "-c", setup], capture_output=True, text=True)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: The course is not installed here. Run `make lab`")


# bad input: a damaged checkpoint, a folder that cannot be written ----------------------------------------------------
@pytest.fixture
def copy_of_data(tmp_path, monkeypatch):
    """A data folder of its own, in which single files can be replaced."""
    for path in data.data_folder().rglob("*"):
        target = tmp_path / "data" / path.relative_to(data.data_folder())
        if path.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    monkeypatch.setenv("INSIDE_BERT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("INSIDE_BERT", "embedded")
    return tmp_path / "data"


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def test_whole_checkpoint(copy_of_data):
    assert inside_bert.start().checkpoint == str(copy_of_data / "models" / "embedded-bert")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "SHA256SUMS"])
def test_missing_file_of_the_checkpoint(copy_of_data, name):
    path = copy_of_data / "models" / "embedded-bert" / name
    path.unlink()
    with pytest.raises(inside_bert.DamagedDataError) as told:
        inside_bert.start()
    assert f"{path} is missing." in str(told.value)
    shipped = "data/models/embedded-bert" + ("" if name == "SHA256SUMS" else f"/{name}")
    assert str(told.value).endswith(data.remedy(shipped))


@pytest.mark.parametrize("content", ["", "nonsense\n", "0" * 64 + "  config.json\n"])
def test_sums_that_do_not_list_the_weights(copy_of_data, content):
    (copy_of_data / "models" / "embedded-bert" / "model.safetensors").unlink()
    replace(copy_of_data / "models" / "embedded-bert" / "SHA256SUMS", content.encode())
    with pytest.raises(inside_bert.DamagedDataError, match="SHA256SUMS is damaged: it does not list every file"):
        inside_bert.start()


def test_truncated_weights(copy_of_data):
    path = copy_of_data / "models" / "embedded-bert" / "model.safetensors"
    replace(path, path.read_bytes()[:20_000_000])
    with pytest.raises(inside_bert.DamagedDataError) as told:
        inside_bert.start()
    assert f"{path} is damaged: 20,000,000 bytes that are not the ones shipped." in str(told.value)
    assert str(told.value).endswith(data.remedy("data/models/embedded-bert/model.safetensors"))


def test_one_byte_changed(copy_of_data):
    path = copy_of_data / "models" / "embedded-bert" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 1
    replace(path, bytes(content))
    with pytest.raises(inside_bert.DamagedDataError, match="is damaged"):
        inside_bert.start()


def test_no_data_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIDE_BERT_DATA", str(tmp_path))
    with pytest.raises(inside_bert.DamagedDataError, match="data folder is missing .looked in"):
        inside_bert.data_folder()


def test_remedy_of_a_checkout(monkeypatch, tmp_path):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(data, "__file__", str(tmp_path / "src" / "inside_bert" / "data.py"))
    assert data.remedy("data/x").startswith("Run `git checkout -- data/x` in the course's folder")


def test_remedy_of_an_installed_package(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "__file__", str(tmp_path / "site-packages" / "inside_bert" / "data.py"))
    assert "pip install --force-reinstall --no-deps git+https://github.com/" in data.remedy("data/x")


READ_ONLY = """
import inside_bert
from transformers import BertModel
run = inside_bert.start()
BertModel.from_pretrained(run.checkpoint)
inside_bert.read_texts()
inside_bert.check_exercise("1.1", [0] * 7 + [1] * 3)
try:
    inside_bert.progress("progress.json")
except OSError as error:
    print(error)
inside_bert.progress()
"""


def test_a_working_folder_that_cannot_be_written(tmp_path):
    """A read-only mount, because root may write where permissions forbid it."""
    mount = "mount --bind . . && mount -o remount,ro,bind . && cd . || exit 77; touch probe 2>/dev/null && exit 77; "
    command = ["unshare", "-rm", "sh", "-c", mount + 'exec "$0" -c "$1"', sys.executable, READ_ONLY]
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine cannot make a mount namespace (unshare -rm)")
    environment = {**os.environ, "INSIDE_BERT": "embedded"}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    if result.returncode == 77:
        pytest.skip("this machine cannot make a read-only mount")
    assert result.returncode == 0, result.stderr
    assert "progress.json cannot be written (Read-only file system); name a file in a folder of yours." in result.stdout
    assert "1 of 5 solved" in result.stdout, "what was solved is not lost"


def test_make_lab_serves_the_lessons():
    """Without a browser, as on a server; the address that it prints opens lesson 00."""
    import re
    import signal
    import urllib.request

    if not shutil.which("make") or not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("needs make, and the environment that make has set up")
    process = subprocess.Popen(
        ["make", "lab", "BROWSER=none"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    watchdog = threading.Timer(90, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/lab/tree/00_setup\.ipynb\?token=\w+", line):
                break
        else:
            pytest.fail("".join(printed))
        no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        port = int(re.search(r":(\d+)/", found[0])[1])
        while socket.socket().connect_ex(("127.0.0.1", port)):  # it prints its address just before it listens
            time.sleep(0.1)
        with no_proxy.open(found[0], timeout=30) as page:
            assert page.status == 200 and "JupyterLab" in page.read().decode()
        listing = found[0].replace("/lab/tree/00_setup.ipynb", "/api/contents")
        with no_proxy.open(listing, timeout=30) as answer:
            names = {entry["name"] for entry in json.load(answer)["content"]}
        assert {path.name for path in lessons()} <= names
    finally:
        watchdog.cancel()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
