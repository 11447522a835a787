"""The start of a lesson: one call that seeds, silences, looks at the machine and picks the way to run.

Touches the environment of this process and, for three seconds at most, the Hugging Face hub.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import random
import sys
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from inside_bert.data import EMBEDDED_MODEL, verify

if TYPE_CHECKING:
    import torch

FULL_MODEL = "google-bert/bert-base-uncased"
PROBE_SECONDS = 3.0
SEED = 0
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_switched_off = False  # did `start` switch this session to offline mode?
T = TypeVar("T")

# Notices that a lesson explains itself, and that would otherwise stand as red text above its output.
KNOWN_NOTICES = (
    "LOAD REPORT",  # lesson 00 prints missing_keys
    "Token indices sequence length is longer than",  # lesson 01 shows the 512 limit
    "`sdpa` attention does not support `output_attentions=True`",  # lesson 03 shows what comes of it
)
SHOWN_VERSIONS = ("torch", "transformers", "tokenizers", "datasets", "huggingface_hub", "numpy", "pandas")


class HubUnavailableError(RuntimeError):
    """The full way was asked for, and neither the hub nor its local cache can serve it."""


@dataclass(frozen=True)
class Run:
    """What a lesson has to know about where it runs; `print` it for the report."""

    way: str  # "embedded" or "full"
    why: str  # the reason, in words
    checkpoint: str  # what to give to from_pretrained: a folder, or a name on the hub
    device: torch.device
    layers: int  # L
    hidden_size: int  # D
    heads: int  # H
    batch_size: int  # texts that fit at once on this machine
    stand_in: str | None  # a reason not to judge claims about trained weights; None for real weights

    def pick(self, *, embedded: T, full: T) -> T:
        """Return the value for the way in use, so that a lesson says openly which size differs."""
        return embedded if self.way == "embedded" else full

    def __str__(self) -> str:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in SHOWN_VERSIONS]
        model = f"{self.layers} layers, {self.hidden_size} wide, {self.heads} heads"
        name = self.checkpoint if self.way == "full" else f"data/{EMBEDDED_MODEL}"
        return "\n".join(
            [
                f"Inside BERT {importlib.metadata.version('inside-bert')} · the {self.way} way: {self.why}",
                f"model    {name} ({model}{'; ' + self.stand_in if self.stand_in else ''})",
                f"device   {_describe_device(self.device)}",
                f"python   {platform.python_version()} · " + " · ".join(versions[:3]),
                "         " + " · ".join(versions[3:]),
            ]
        )


def start() -> Run:
    """Prepare this session and return its `Run`; call it once, at the top of a lesson.

    Seeds Python, NumPy and torch; turns off progress bars and the notices named in `KNOWN_NOTICES`; asks the hub
    whether it can be used, for `PROBE_SECONDS` at most; in the embedded way, verifies the embedded model.
    ``INSIDE_BERT=embedded`` or ``=full`` decides instead of the probe. When the hub cannot be used, this session is
    switched to offline mode, so that a later call fails at once instead of waiting; the next `start` asks again.

    Raises `DamagedDataError` for a damaged embedded model, `HubUnavailableError` when the full way is forced and not
    to be had, `ValueError` for another value of ``INSIDE_BERT``, `RuntimeError` for a library that is too old.
    """
    os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")  # public models need no token
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", message="IProgress not found")  # bars are off; has to come before the imports
    _check_versions()
    way, why, config = _choose_way(os.environ.get("INSIDE_BERT", "").strip().lower())
    checkpoint = FULL_MODEL if way == "full" else str(verify(EMBEDDED_MODEL, required=MODEL_FILES))
    _seed(SEED)
    _silence()
    config = config or _read_config(checkpoint)
    device = _pick_device()
    return Run(
        way=way,
        why=why,
        checkpoint=checkpoint,
        device=device,
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        heads=config.num_attention_heads,
        batch_size=32 if device.type == "cuda" or way == "embedded" else 8,
        stand_in=getattr(config, "inside_bert_stand_in", None),
    )


def hub_answers(seconds: float = PROBE_SECONDS) -> tuple[bool, str]:
    """Return whether the hub serves `FULL_MODEL`, and the reason in words, after `seconds` at most.

    A name server, a proxy or a server can hang where no timeout reaches, so the question is asked in a thread that is
    left behind when its time is over.
    """
    config, reason = _probe(seconds)
    return config is not None, reason


def _probe(seconds: float) -> tuple[Any, str]:
    """Return the configuration of `FULL_MODEL` as the hub serves it (else None), and the reason in words."""
    if name := _offline_asked():
        return None, f"{name} is set"
    import huggingface_hub  # noqa: F401  (imports are not part of the time that the hub has)
    from transformers import AutoConfig  # noqa: F401

    answers: list[tuple[Any, str]] = []
    asker = threading.Thread(target=lambda: answers.append(_ask_hub(seconds)), daemon=True)
    asker.start()
    asker.join(seconds)
    return answers[0] if answers else (None, f"the Hugging Face hub did not answer within {seconds:g} s")


def _ask_hub(seconds: float) -> tuple[Any, str]:
    import huggingface_hub

    try:
        url = huggingface_hub.hf_hub_url(FULL_MODEL, "config.json")
        found = huggingface_hub.get_hf_file_metadata(url, token=False, timeout=seconds)
        if not found.commit_hash:
            return None, "something answers in place of the Hugging Face hub (a login page of this network?)"
        return _read_config(FULL_MODEL), "the Hugging Face hub answers"
    except Exception as error:  # no route, a refused proxy, an error of the server: each means "not to be used"
        return None, f"the Hugging Face hub cannot be reached ({type(error).__name__})"


def _choose_way(asked: str) -> tuple[str, str, Any]:
    """Return the way, the reason in words, and the configuration if the hub has sent it."""
    if asked not in ("", "embedded", "full"):
        raise ValueError(f"INSIDE_BERT={asked!r} is not a way to run; set it to 'embedded' or 'full', or unset it.")
    if asked == "embedded":
        return "embedded", "INSIDE_BERT=embedded is set", None
    _set_offline(False)
    config, reason = _probe(PROBE_SECONDS)
    if config is None:
        _set_offline(True)
    if asked == "full":
        if config is None and not _cached(FULL_MODEL):
            raise HubUnavailableError(
                f"INSIDE_BERT=full is set, but {reason}, and {FULL_MODEL} is not in the local cache. "
                "Unset INSIDE_BERT to run on the embedded model, or connect to the hub once."
            )
        return "full", "INSIDE_BERT=full is set" + ("" if config else f"; {reason}, so the local cache serves"), config
    return ("full" if config else "embedded"), reason, config


def _offline_asked() -> str | None:
    """Return the name of the variable by which the user asked for offline mode."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next(
        (name for name in names if os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE")), None
    )


def _set_offline(wanted: bool) -> None:
    """Switch this session to offline mode, or back; what the user switched off stays off."""
    global _switched_off
    if wanted == _switched_off or (wanted and _offline_asked()):
        return
    import huggingface_hub.constants

    if wanted:
        os.environ["HF_HUB_OFFLINE"] = "1"
    else:
        os.environ.pop("HF_HUB_OFFLINE")
    huggingface_hub.constants.HF_HUB_OFFLINE = wanted
    if "datasets" in sys.modules:  # it copied the value when it was imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = wanted
    _switched_off = wanted


def _cached(repository: str) -> bool:
    import huggingface_hub

    found = [huggingface_hub.try_to_load_from_cache(repository, name) for name in MODEL_FILES]
    return all(isinstance(path, str) for path in found)


def _check_versions() -> None:
    """Raise `RuntimeError` for a library that is missing or older than the course needs (an old Colab runtime)."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    for line in importlib.metadata.requires("inside-bert") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        oldest = SpecifierSet(",".join(str(clause) for clause in requirement.specifier if clause.operator == ">="))
        found = _installed_version(requirement.name)
        if found is None or not oldest.contains(found, prereleases=True):
            raise RuntimeError(
                f"The course needs {requirement}, and {found or 'no version'} of it is installed. Run `make lab` in "
                "the course's folder; on Colab choose Runtime > Change runtime type > the latest runtime version."
            )


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read_config(checkpoint: str):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(checkpoint)


def _seed(seed: int) -> None:
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)  # seeds the GPUs too


def _pick_device() -> torch.device:
    """Return an NVIDIA GPU where there is one, else the CPU (also on a Mac: its GPU was never tried here)."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _silence() -> None:
    import datasets
    import huggingface_hub
    import transformers

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    huggingface_hub.utils.disable_progress_bars()
    for handler in logging.getLogger("transformers").handlers:
        if _keep_record not in handler.filters:
            handler.addFilter(_keep_record)


def _keep_record(record: logging.LogRecord) -> bool:
    """Return False, which drops the record, for a notice that a lesson explains itself (`KNOWN_NOTICES`)."""
    return not any(notice in record.getMessage() for notice in KNOWN_NOTICES)


def _describe_device(device: torch.device) -> str:
    import psutil
    import torch

    memory = psutil.virtual_memory().total / 2**30
    machine = f"{len(_cores())} cores, {memory:.0f} GB memory"
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GB), {machine}"
    return f"cpu ({machine}, no GPU)"


def _cores() -> range | set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
