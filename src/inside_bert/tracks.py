"""Tracks: what lesson 07 builds from the boxes of one person, and a BERT that reads them as it reads words.

Linking by overlap, resampling to even steps, features in metres and seconds, and a classifier over `inputs_embeds`.
Changes the weights of the model it is given. Writes only to the folder that it is given; touches no network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from inside_bert.finetuning import Recipe, digest, evaluating, train_epochs
from inside_bert.movement import Detection

if TYPE_CHECKING:
    import numpy
    import torch

    from inside_bert.training import Watch

STATURE = 1.7  # m: the height that every person is taken to have
STEP = 0.2  # s between two steps of a sequence
CLS = 101  # number of [CLS] in the vocabulary of bert-base-uncased
FEATURES = ("x", "y", "height", "aspect", "vx", "vy", "growth", "speed", "seen")


def by_track(detections: Iterable[Detection]) -> dict[int, list[Detection]]:
    """Return the detections of each track, in the order of their frames; those without a track are left out."""
    found: dict[int, list[Detection]] = {}
    for one in detections:
        if one.track is not None:
            found.setdefault(one.track, []).append(one)
    return {track: sorted(rows, key=lambda one: one.frame) for track, rows in sorted(found.items())}


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the area that two boxes ``(x1, y1, x2, y2)`` share, as a part of the area that they cover together."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def link(detections: Iterable[Detection], overlap: float = 0.3, patience: int = 5) -> list[Detection]:
    """Return the detections with a track each, numbered from 1: boxes that overlap from frame to frame are one person.

    In each frame the pairs of a track's last box and a new box are taken by falling intersection over union, down to
    `overlap`; a box that is left over begins a track, and a track without a box for more than `patience` frames ends
    (the IoU tracker of Bochinski et al. 2017, with a patience). Tracks that the detections have are replaced. Frames
    may come in any order. Raises `ValueError` for an `overlap` outside 0..1 or a negative `patience`.
    """
    if not 0 < overlap <= 1 or patience < 0:
        raise ValueError(f"overlap is {overlap} and patience {patience}; give 0 < overlap <= 1 and patience >= 0.")
    frames: dict[int, list[Detection]] = {}
    for one in detections:
        frames.setdefault(one.frame, []).append(one)
    linked, last = [], {}  # last: the last detection of each track that has not ended
    count = 0
    for frame in sorted(frames):
        last = {track: one for track, one in last.items() if frame - one.frame <= patience + 1}
        new = frames[frame]
        pairs = [(iou(old[3:7], one[3:7]), track, n) for track, old in last.items() for n, one in enumerate(new)]
        given: dict[int, int] = {}
        for share, track, n in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
            if share >= overlap and n not in given and track not in given.values():
                given[n] = track
        for n, one in enumerate(new):
            if n not in given:
                count += 1
                given[n] = count
            last[given[n]] = one._replace(track=given[n])
            linked.append(last[given[n]])
    return linked


def to_steps(track: Sequence[Detection], rate: float, step: float = STEP) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return boxes at even steps of `step` seconds, ``(T, 4)``, and for each step whether a box was seen, ``(T,)``.

    A step holds the mean of the boxes that fall into it; where none does, it is interpolated between its neighbours.
    Beyond the middle of the boxes of the first and the last step nothing is known, and nothing is guessed: a track that
    ends early in its last step seems to slow down there.
    `rate` is in frames per second. Raises `ValueError` for a track that spans fewer than two steps, or a `rate` or
    `step` that is not positive.
    """
    import numpy as np

    if not (rate > 0 and step > 0):
        raise ValueError(f"rate is {rate} and step {step}; give frames per second, and seconds above 0.")
    frames = np.array([one.frame for one in track])
    boxes = np.array([one[3:7] for one in track], dtype=float).reshape(-1, 4)
    seconds = (frames - frames[:1]) / rate
    number = np.floor(seconds / step + 1e-6).astype(int)
    if not len(track) or number[-1] < 1:
        raise ValueError(f"a track of {len(track)} boxes spans no two steps of {step:g} s; there is no speed to tell.")
    counts = np.bincount(number)
    seen = counts > 0
    means = [np.bincount(number, values)[seen] / counts[seen] for values in (seconds, *boxes.T)]
    middles = (np.arange(len(counts)) + 0.5) * step
    return np.stack([np.interp(middles, means[0], edge) for edge in means[1:]], axis=1), seen


def motion(boxes: numpy.ndarray, seen: numpy.ndarray, width: float, height: float,
           step: float = STEP) -> numpy.ndarray:  # fmt: skip
    """Return what each step tells, ``(T, 9)`` in the order of `FEATURES`, for boxes ``(T, 4)`` in pixels.

    x, y: middle and foot of the box as parts of the picture, from its middle; height: logarithm of the box's part of
    the picture's height; aspect: width over height; vx, vy: velocity of the foot across and down the picture in m/s,
    if the person is `STATURE` m tall; growth: of the box, in 1/s (above 0: it comes nearer); speed: of vx and vy
    together, in m/s; seen: 1, or 0 for a step that is interpolated.
    """
    import numpy as np

    x, foot = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]
    tall, wide = boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]
    metres = STATURE / tall  # per pixel, at this distance
    vx, vy = np.gradient(x, step) * metres, np.gradient(foot, step) * metres
    growth = np.gradient(np.log(tall), step)
    rows = [x / width - 0.5, foot / height - 0.5, np.log(tall / height), wide / tall, vx, vy, growth, np.hypot(vx, vy)]
    return np.stack([*rows, seen], axis=1).astype(np.float32)


def new_track_model(checkpoint: str, labels: int, *, features: int = len(FEATURES), pretrained: bool = True,
                    seed: int = 0, attention: str = "eager") -> Any:  # fmt: skip
    """Return a `BertForSequenceClassification` with one layer more, `projection`, from ``features`` to its width.

    Projection and head start at random, from `seed`; the rest is the checkpoint's, or random too without
    `pretrained`. No dropout: the runs are short. Embeddings of words are frozen, because no words are read.
    """
    import torch
    from transformers import AutoConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    given = {"num_labels": labels, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
             "attn_implementation": attention}  # fmt: skip
    if pretrained:
        model = BertForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32, **given)
    else:
        model = BertForSequenceClassification(AutoConfig.from_pretrained(checkpoint, **given))
    words = model.bert.embeddings.word_embeddings.requires_grad_(False)
    model.projection = torch.nn.Linear(features, model.config.hidden_size)
    torch.nn.init.normal_(model.projection.weight, std=words.weight.std().item() / features**0.5)
    torch.nn.init.zeros_(model.projection.bias)
    return model.eval()


def embed(model: Any, sequences: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return `inputs_embeds` ``(B, 1 + T, D)`` and `attention_mask` ``(B, 1 + T)`` for sequences ``(T_i, features)``.

    Each step is projected to a vector of the width of a word's; the vector of ``[CLS]`` goes before the first one.
    Raises `ValueError` for no sequences, an empty one, one with other features, one beyond BERT's positions, or values
    that are not finite.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sequences = _sequences(sequences, model)
    lengths = torch.tensor([len(one) for one in sequences])
    steps = model.projection(pad_sequence(sequences, batch_first=True).to(model.device))
    cls = model.bert.embeddings.word_embeddings.weight[CLS]
    inputs = torch.cat([cls.expand(len(lengths), 1, -1), steps], dim=1)
    mask = (torch.arange(inputs.shape[1]) <= lengths[:, None]).long()
    return {"inputs_embeds": inputs, "attention_mask": mask.to(model.device)}


def predict_tracks(model: Any, sequences: Sequence[torch.Tensor], *, dtype: torch.dtype | None = None,
                   batch_size: int = 64, **more: Any) -> torch.Tensor:  # fmt: skip
    """Return the logits for sequences ``(T_i, features)``: ``(n, labels)`` in float32 on the CPU, in the order given.

    `more` goes to the model, such as `position_ids`. Raises `ValueError` as `embed` does, before it predicts.
    """
    import torch

    sequences = _sequences(sequences, model)
    order = sorted(range(len(sequences)), key=lambda n: len(sequences[n]))
    logits = torch.zeros(len(sequences), model.config.num_labels)
    with evaluating(model, dtype):
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            logits[some] = model(**embed(model, [sequences[n] for n in some]), **more).logits.float().cpu()
    return logits


def fine_tune_tracks(model: Any, train: tuple, validation: tuple | None = None, recipe: Recipe = Recipe(), *,
                     dtype: torch.dtype | None = None, folder: str | os.PathLike | None = None,
                     watch: Watch | None = None, **more: Any) -> list[dict]:  # fmt: skip
    """Fine-tune a model of `new_track_model` on ``(sequences, labels)``; return one row an epoch.

    `inside_bert.finetuning.fine_tune` says the rest: early stopping with `validation`, resuming in `folder`, what is
    random, what is raised. `more` goes to the model in every batch, such as `position_ids`.
    """
    import torch

    sequences, labels = _checked(train, model)
    validation = _checked(validation, model) if validation is not None else None

    def batch_of(some: list[int]) -> dict:
        return {**embed(model, [sequences[n] for n in some]), "labels": labels[some], **more}

    def judge() -> dict:
        logits, truth = predict_tracks(model, validation[0], dtype=dtype, **more), validation[1]
        return {
            "validation_loss": float(torch.nn.functional.cross_entropy(logits, truth)),
            "validation_accuracy": float((logits.argmax(dim=-1) == truth).float().mean()),
        }

    beside = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in sorted(more.items())}
    plain = [([one.tolist() for one in part[0]], part[1].tolist())
             for part in filter(None, ((sequences, labels), validation))]  # fmt: skip
    return train_epochs(
        model, [len(one) for one in sequences], batch_of, recipe,
        task={"set of sequences or labels": digest(plain), "input beside them": digest(beside)},
        judge=judge if validation else None, dtype=dtype, folder=folder, watch=watch,
    )  # fmt: skip


def _checked(part: tuple, model: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    import torch

    sequences, labels = _sequences(part[0], model), list(part[1])
    if len(sequences) != len(labels):
        raise ValueError(f"{len(sequences)} sequences and {len(labels)} labels were given; each one needs one label.")
    if wrong := sorted({str(label) for label in labels if label not in range(model.config.num_labels)}):
        raise ValueError(
            f"labels are whole numbers from 0 to {model.config.num_labels - 1} in this model, and {wrong[:5]} were given."
        )
    return sequences, torch.tensor([int(label) for label in labels])


def _sequences(sequences: Sequence[Any], model: Any) -> list[torch.Tensor]:
    """Return the sequences as tensors of float32, or raise `ValueError` that says which one is of no use, and why."""
    import torch

    most, wide = model.config.max_position_embeddings - 1, model.projection.in_features
    found = [torch.as_tensor(one, dtype=torch.float32) for one in sequences]
    if not found:
        raise ValueError("there are no sequences; give at least one, of the shape (steps, features).")
    for number, one in enumerate(found):
        if one.dim() != 2 or one.shape[1] != wide:
            raise ValueError(f"sequence {number} has the shape {tuple(one.shape)}; it has to be (steps, {wide}), as the "
                             f"model was made for {wide} features.")  # fmt: skip
        if not 1 <= len(one) <= most:
            raise ValueError(
                f"sequence {number} has {len(one)} steps; this model takes 1 to {most}. Cut it into parts."
            )
        if not bool(one.isfinite().all()):
            raise ValueError(f"sequence {number} holds a value that is not finite; look for a division by 0 in its "
                             "features.")  # fmt: skip
    return found
