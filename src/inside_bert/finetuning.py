"""Fine-tuning: the loop that lesson 05 writes by hand, and a text classifier trained with it.

Changes the weights of the model it is given. Writes only to the folder that it is given; touches no network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from inside_bert.training import Watch

STATE = "run.safetensors"


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned. The defaults are those of lesson 05, in the range of Devlin et al. 2019, A.3."""

    rate: float = 5e-5  # highest learning rate
    batch_size: int = 32
    epochs: int = 3
    warmup: float = 0.1  # share of all steps during which the rate rises
    clip: float = 1.0  # largest norm of the gradient
    decay: float = 0.01  # weight decay, of matrices only
    patience: int = 2  # epochs without a lower validation loss after which a run stops
    max_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.epochs, self.patience, self.max_length) < 1 or self.rate <= 0:
            raise ValueError(f"{self}: batch_size, epochs, patience, max_length are at least 1, and rate is above 0.")


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where `device` multiplies such matrices at least 1.5 times as fast as float32, else float32."""
    import torch

    size = 1024 if device.type == "cpu" else 4096  # large enough for a GPU to be busy
    speed = {dtype: matmul_speed(device, dtype, size) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if speed[torch.bfloat16] > 1.5 * speed[torch.float32] else torch.float32


def matmul_speed(device: torch.device, dtype: torch.dtype, size: int = 1024, repeats: int = 5) -> float:
    """Return the floating-point operations per second of a product of ``(size, size)`` matrices, best of `repeats`."""
    import torch

    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        (a @ b).flatten()[0].item()  # `item` waits for a GPU to finish
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Return a context in which matrix products run in `dtype`; one that does nothing for float32 or None."""
    import torch

    if dtype is None or dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@contextlib.contextmanager
def evaluating(model: Any, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Put `model` into evaluation mode, without gradients and in `dtype`; afterwards each part is as it was."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), autocast(model.device, dtype):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def length_groups(lengths: Sequence[int], batch_size: int, chance: random.Random) -> list[list[int]]:
    """Return batches of indices: all texts in random order, like lengths together, batches in random order.

    Shuffled texts are cut into pools of 16 batches, and each pool is sorted by length, so that a batch needs little
    padding and differs from epoch to epoch. The last batch of an epoch may be smaller.
    """
    order = list(range(len(lengths)))
    chance.shuffle(order)
    pool = 16 * batch_size
    order = [n for at in range(0, len(order), pool) for n in sorted(order[at : at + pool], key=lengths.__getitem__)]
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    chance.shuffle(batches)
    return batches


def predict(model: Any, tokenizer: Any, texts: Sequence[str], *, dtype: torch.dtype | None = None, batch_size: int = 64,
            max_length: int = 512) -> torch.Tensor:  # fmt: skip
    """Return the logits of a classifier for `texts`, ``(n, labels)`` in float32 on the CPU, in the order given.

    The model is in evaluation mode while it predicts, and afterwards as it was. Raises `ValueError` for no texts, or
    for one string in place of a list.
    """
    import torch

    if isinstance(texts, str) or not len(texts):
        raise ValueError("one string was given; give a list of texts." if texts else "no texts, nothing to predict.")
    rows = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
    logits = None
    with evaluating(model, dtype):
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            batch = tokenizer.pad({"input_ids": [rows[n] for n in some]}, pad_to_multiple_of=8, return_tensors="pt")
            out = model(**batch.to(model.device)).logits.float().cpu()
            logits = torch.empty(len(rows), out.shape[1]) if logits is None else logits
            logits[some] = out
    return logits


def make_optimizer(model: Any, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW over the parameters that are trained; biases and LayerNorms do not decay (Devlin et al. 2019)."""
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, fused=True)


def fine_tune(model: Any, tokenizer: Any, train: tuple, validation: tuple | None = None, recipe: Recipe = Recipe(), *,
              dtype: torch.dtype | None = None, folder: str | os.PathLike | None = None,
              watch: Watch | None = None) -> list[dict]:  # fmt: skip
    """Fine-tune a classifier on ``(texts, labels)``; return one row an epoch: losses, validation accuracy, seconds.

    AdamW, a rate that rises and falls linearly, clipping, dynamic padding of texts of like length, autocast to `dtype`
    where that is not float32. With `validation`, a run stops after ``recipe.patience`` epochs without a lower
    validation loss, and the weights of the best epoch are put back. With `folder`, the run is written there after each
    epoch and continues from there when it is called again: what is random in an epoch depends on the seed and on its
    number alone, so a cut run ends with the weights of an uncut one (to the bit on one CPU; up to rounding on a GPU).
    A run cut in its first epoch begins again from the model it is given. Weight tensors are changed in place, and
    torch's global seed is set.

    Raises `ValueError` for texts and labels that do not match, for labels the model has no logit for, for a damaged or
    foreign file in `folder` or one of a run with other texts, labels, settings or weights, and `FloatingPointError`
    when loss or gradient is no longer finite (before the weights are changed).
    """
    import torch

    texts, labels = _checked(train, model)
    validation = _checked(validation, model) if validation is not None else None
    rows = tokenizer(texts, truncation=True, max_length=recipe.max_length)["input_ids"]

    def batch_of(some: list[int]) -> dict:
        batch = tokenizer.pad({"input_ids": [rows[n] for n in some]}, pad_to_multiple_of=8, return_tensors="pt")
        return {**batch, "labels": labels[some]}

    def judge() -> dict:
        truth = validation[1]
        logits = predict(model, tokenizer, validation[0], dtype=dtype, max_length=recipe.max_length)
        return {
            "validation_loss": float(torch.nn.functional.cross_entropy(logits, truth)),
            "validation_accuracy": float((logits.argmax(dim=-1) == truth).float().mean()),
        }

    plain = [(some, answers.tolist()) for some, answers in filter(None, ((texts, labels), validation))]
    return train_epochs(
        model, [len(row) for row in rows], batch_of, recipe, task={"set of texts or labels": digest(plain)},
        judge=judge if validation else None, dtype=dtype, folder=folder, watch=watch,
    )  # fmt: skip


def train_epochs(model: Any, lengths: Sequence[int], batch_of: Callable[[list[int]], dict], recipe: Recipe, *,
                 task: dict[str, str], judge: Callable[[], dict] | None = None, dtype: torch.dtype | None = None,
                 folder: str | os.PathLike | None = None, watch: Watch | None = None) -> list[dict]:  # fmt: skip
    """Train a model on examples of `lengths` tokens; return one row an epoch, with what `judge` returned after it.

    ``batch_of(indices)`` makes the tensors of a batch, labels among them, so that the model returns a loss; ``judge()``
    returns at least `validation_loss`. `task` says by name what else than recipe and weights has to be the same for a
    run to be continued in `folder`. `fine_tune` says the rest: what is random, what is kept, what is raised.
    """
    import torch
    from transformers import get_linear_schedule_with_warmup

    steps = -(-len(lengths) // recipe.batch_size) * recipe.epochs
    optimizer = make_optimizer(model, recipe)
    schedule = get_linear_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)
    task = {"recipe": asdict(recipe), "number type": str(dtype or torch.float32), **task}
    run = _Run(model, optimizer, schedule, task, folder)
    history = run.resume()
    for epoch in range(len(history), recipe.epochs):
        if judge and _stop(history, recipe.patience):
            break
        began, losses = time.perf_counter(), []
        torch.manual_seed(1_000 * recipe.seed + epoch)  # dropout
        model.train()
        for some in length_groups(lengths, recipe.batch_size, random.Random(f"{recipe.seed}-{epoch}")):
            batch = {name: tensor.to(model.device) for name, tensor in batch_of(some).items()}
            with autocast(model.device, dtype):
                loss = model(**batch).loss
            losses.append(loss.item())
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip))
            if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                raise FloatingPointError(
                    f"loss {losses[-1]} and gradient {norm} at step {len(losses)} of epoch {epoch + 1}: the learning "
                    f"rate {recipe.rate:g} is probably too high; give a lower one (and another folder, if there is one)."
                )
            optimizer.step(), schedule.step(), optimizer.zero_grad()
            if watch:
                watch(loss=losses[-1])
        row = {"epoch": epoch + 1, "train_loss": sum(losses) / len(losses), "seconds": time.perf_counter() - began}
        history.append(row | (judge() if judge else {}))
        run.keep(history)
    run.restore_best()
    model.eval()
    return history


class _Run:
    """What a run has reached: in `folder` if there is one, so that it can go on there; the best weights in any case."""

    def __init__(self, model: Any, optimizer: Any, schedule: Any, task: dict, folder: Any) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.folder = Path(folder) if folder is not None else None
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.task = task | {"model or frozen part": {name: list(p.shape) for name, p in self.trained.items()}}
        self.best: dict[str, torch.Tensor] | None = None

    def resume(self) -> list[dict]:
        """Put back what the folder holds, and return its history; an empty one if there is nothing."""
        import torch
        from safetensors import SafetensorError, safe_open

        if self.folder is None or not (self.folder / STATE).is_file():
            return []
        path = self.folder / STATE
        try:
            with safe_open(path, "pt") as file:
                progress = json.loads(file.metadata()["progress"])
                kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged, or holds no run of this package ({error}); delete it to begin anew."
            ) from None
        if other := [name for name, value in self.task.items() if progress["task"].get(name) != value]:
            raise ValueError(
                f"{path} holds a run with another {' and another '.join(other)}; call it as it was begun, or give "
                "another folder."
            )
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(kept[f"weight.{name}"])
                if f"step.{name}" in kept:  # a weight that never had a gradient has no averages
                    self.optimizer.state[parameter] = {"step": kept[f"step.{name}"].to(parameter.device, copy=True)} | {
                        key: torch.empty_like(parameter).copy_(kept[f"{key}.{name}"])
                        for key in ("exp_avg", "exp_avg_sq")
                    }
        self.best = {name: kept[f"best.{name}"].clone() for name in self.trained}  # the file may be mapped: copies
        self.schedule.last_epoch = done = progress["steps"]
        for group, rate, share in zip(self.optimizer.param_groups, self.schedule.base_lrs, self.schedule.lr_lambdas):
            group["lr"] = rate * share(done)
        return progress["history"]

    def keep(self, history: list[dict]) -> None:
        """Note the end of an epoch: best weights if it is the best one, and the whole state if there is a folder."""
        from safetensors.torch import save_file

        if _best_epoch(history) == len(history):
            self.best = {name: p.detach().to("cpu", copy=True) for name, p in self.trained.items()}
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {f"best.{name}": tensor for name, tensor in self.best.items()}
        for name, p in self.trained.items():
            found = {"weight": p.detach(), **self.optimizer.state.get(p, {})}
            state |= {f"{key}.{name}": value for key, value in found.items()}
        state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        progress = {"history": history, "task": self.task, "steps": self.schedule.last_epoch}
        save_file(state, self.folder / f"{STATE}.part", metadata={"progress": json.dumps(progress)})
        os.replace(self.folder / f"{STATE}.part", self.folder / STATE)  # a cut leaves the old file whole

    def restore_best(self) -> None:
        """Put back the weights of the best epoch."""
        import torch

        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self.best[name])


def digest(plain: Any) -> str:
    """Return a fingerprint of lists, texts and numbers, so that a run does not go on with others."""
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _best_epoch(history: list[dict]) -> int:
    """Return the epoch with the lowest validation loss, the last one where nothing was validated."""
    if "validation_loss" not in history[-1]:
        return history[-1]["epoch"]
    return min(history, key=lambda row: row["validation_loss"])["epoch"]


def _stop(history: list[dict], patience: int) -> bool:
    return bool(history) and len(history) - _best_epoch(history) >= patience


def _checked(train: tuple, model: Any) -> tuple[list[str], torch.Tensor]:
    import torch

    if isinstance(train[0], str):
        raise ValueError("one string was given; give a list of texts, and a list of labels.")
    texts, labels = (list(part) for part in train)
    if not texts or len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts and {len(labels)} labels were given; each text needs one label.")
    wrong = sorted({label for label in labels if label not in range(model.config.num_labels)}, key=str)
    if wrong:
        raise ValueError(
            f"labels go from 0 to {model.config.num_labels - 1} in this model, and {wrong[:5]} were given."
        )
    return texts, torch.tensor([int(label) for label in labels])
