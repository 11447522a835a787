"""The start of a lesson: one call that seeds, silences, looks at the machine and picks the way to run.

Touches the environment of this process and, once and for three seconds at most, the Hugging Face hub.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import random
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from inside_bert.data import EMBEDDED_MODEL, verify

if TYPE_CHECKING:
    import torch

FULL_MODEL = "google-bert/bert-base-uncased"
PROBE_SECONDS = 3.0
SEED = 0
T = TypeVar("T")

# Notices that a lesson explains itself, and that would otherwise stand as red text above its output.
KNOWN_NOTICES = (
    "LOAD REPORT",  # lesson 00 prints missing_keys
    "Token indices sequence length is longer than",  # lesson 01 shows the 512 limit
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

    Seeds Python, NumPy and torch; turns off progress bars and the notices named in `KNOWN_NOTICES`; verifies the
    embedded model; asks the hub whether it can be used, for `PROBE_SECONDS` at most. ``INSIDE_BERT=embedded`` or
    ``=full`` decides instead of the probe. When the hub cannot be used, this session is switched to offline mode, so
    that a later call fails at once instead of waiting.

    Raises `DamagedDataError` for a damaged embedded model, `HubUnavailableError` when the full way is forced and not
    to be had, `ValueError` for another value of ``INSIDE_BERT``.
    """
    os.environ.setdefault("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")  # public models need no token
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", message="IProgress not found")  # bars are off; has to come before the imports
    way, why = _choose_way(os.environ.get("INSIDE_BERT", "").strip().lower())
    checkpoint = FULL_MODEL if way == "full" else str(verify(EMBEDDED_MODEL))
    _seed(SEED)
    _silence()
    config = _read_config(checkpoint)
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
    """Return whether the hub serves `FULL_MODEL` and the reason in words, after `seconds` at most.

    A name server or a proxy can hang where no timeout reaches, so the question is asked in a thread that is left
    behind when its time is over.
    """
    if _offline_asked():
        return False, "HF_HUB_OFFLINE is set"
    answer: list[tuple[bool, str]] = []
    asker = threading.Thread(target=lambda: answer.append(_ask_hub(seconds)), daemon=True)
    asker.start()
    asker.join(seconds)
    return answer[0] if answer else (False, f"the Hugging Face hub did not answer within {seconds:g} s")


def _ask_hub(seconds: float) -> tuple[bool, str]:
    import huggingface_hub

    try:
        url = huggingface_hub.hf_hub_url(FULL_MODEL, "config.json")
        found = huggingface_hub.get_hf_file_metadata(url, token=False, timeout=seconds)
    except Exception as error:  # no route, a refused proxy, an error of the server: each means "not to be used"
        return False, f"the Hugging Face hub cannot be reached ({type(error).__name__})"
    if not found.commit_hash:
        return False, "something answers in place of the Hugging Face hub (a login page of this network?)"
    return True, "the Hugging Face hub answers"


def _choose_way(asked: str) -> tuple[str, str]:
    if asked not in ("", "embedded", "full"):
        raise ValueError(f"INSIDE_BERT={asked!r} is not a way to run; set it to 'embedded' or 'full', or unset it.")
    if asked == "embedded":
        return "embedded", "INSIDE_BERT=embedded is set"
    answers, reason = hub_answers()
    if not answers:
        _go_offline()
    if asked == "full":
        if not answers and not _cached(FULL_MODEL):
            raise HubUnavailableError(
                f"INSIDE_BERT=full is set, but {reason}, and {FULL_MODEL} is not in the local cache. "
                "Unset INSIDE_BERT to run on the embedded model, or connect to the hub once."
            )
        return "full", "INSIDE_BERT=full is set" + ("" if answers else f"; {reason}, so the local cache serves")
    return ("full" if answers else "embedded"), reason


def _offline_asked() -> bool:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE") for name in names)


def _go_offline() -> None:
    import huggingface_hub.constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    huggingface_hub.constants.HF_HUB_OFFLINE = True


def _cached(repository: str) -> bool:
    import huggingface_hub

    weights = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
    return isinstance(weights, str)


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
    import torch

    memory = _memory_in_gib()
    machine = f"{len(_cores())} cores" + (f", {memory:.0f} GB memory" if memory else "")
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GB), {machine}"
    return f"cpu ({machine}, no GPU)"


def _cores() -> range | set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _memory_in_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None
