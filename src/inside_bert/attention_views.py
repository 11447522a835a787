"""BertViz's three views of attention, drawn without a network: head view, model view and neuron view.

BertViz draws; this room hands it its scripts from `data/scripts` and its numbers in a short form. Reads `data/`, runs
the model that it is given, and returns what the notebook shows; `load_view_scripts` writes to its output.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.display import display

from inside_bert.data import verify

if TYPE_CHECKING:
    import numpy
    import torch

SCRIPTS = "attention_views.js.gz"
LINES = 60_000  # in one drawing: Chromium takes a second for them and half a second per click, for 240,000 five and two
BYTES = 300_000  # numbers stored with one view, one byte each
COLAB_CALL = "inside_bert.view_scripts"


@dataclass(frozen=True)
class View:
    """An interactive view; as the last expression of a cell it is shown. `html` is what the notebook stores."""

    html: str
    summary: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.summary}

    def __repr__(self) -> str:
        return self.summary


def load_view_scripts() -> None:
    """Put the scripts that draw the views into this cell's output; every notebook with views needs it once.

    They are BertViz's own, with jQuery and d3 (`data/scripts`), and ask no network for anything. In Colab, where each
    output is a page of its own, the views of a running notebook ask this session for them. Raises `DamagedDataError`
    when they are missing or damaged.
    """
    script = _loader()
    if "google.colab" in sys.modules:
        from google.colab import output
        from IPython.display import JSON

        output.register_callback(COLAB_CALL, lambda: JSON({"script": script}))
    note = "Scripts for the attention views: BertViz with d3 and jQuery, from this course."
    markup = f'<p style="color: gray">{note}</p><script>{script}</script>'
    display({"text/html": markup, "text/plain": note}, raw=True)


def head_view(
    attention: Sequence[torch.Tensor],
    tokens: Sequence[str],
    sentence_b_start: int | None = None,
    *,
    layer: int | None = None,
    heads: Sequence[int] | None = None,
    include_layers: Sequence[int] | None = None,
) -> View:
    """Return BertViz's head view: lines between tokens for one layer, a colour per head.

    Arguments are named as in BertViz (Vig 2019). `attention` is what a model returns: L tensors of shape
    ``(1, H, T, T)``; `tokens` are the T tokens. `sentence_b_start` is the place of the second text's first token.
    `layer` and `heads` are what is shown first, `include_layers` what can be chosen at all, counted from 0. Weights
    are rounded to 256 steps.

    Raises `ValueError` for attention that is empty, not finite, of several texts or of another length than `tokens`,
    for a layer or head that does not exist, and for a view that is too large for a browser.
    """
    weights, layers = _chosen(attention, tokens, include_layers)
    _check_places("heads", heads, weights.shape[1])
    layer = _one_of("layer", layer, layers)
    _refuse_too_large("head view", weights[0].size, {"attention": weights}, layers)
    options = {"layer": layer, "heads": _plain(heads), "include_layers": layers}
    return _view("head_view", tokens, sentence_b_start, {"attention": weights}, options, layers)


def model_view(
    attention: Sequence[torch.Tensor],
    tokens: Sequence[str],
    sentence_b_start: int | None = None,
    *,
    display_mode: str = "light",
    include_layers: Sequence[int] | None = None,
    include_heads: Sequence[int] | None = None,
) -> View:
    """Return BertViz's model view: every layer and head at a glance, one of them enlarged by a click.

    Arguments are those of `head_view`; `include_heads` picks columns, `display_mode` is "light" or "dark". Raises
    `ValueError` as `head_view` does.
    """
    weights, layers = _chosen(attention, tokens, include_layers)
    total = weights.shape[1]
    _check_places("include_heads", include_heads, total)
    heads = list(range(total)) if include_heads is None else _plain(include_heads)
    weights = weights[:, heads]
    _check_mode(display_mode)
    _refuse_too_large("model view", weights.size, {"attention": weights}, layers, draws_all_layers=True)
    options = {
        "display_mode": display_mode,
        "include_layers": layers,
        "include_heads": heads,
        "total_heads": total,
    }
    return _view("model_view", tokens, sentence_b_start, {"attention": weights}, options, layers)


def neuron_view(
    model: Any,
    tokenizer: Any,
    sentence_a: str,
    sentence_b: str | None = None,
    *,
    display_mode: str = "light",
    layer: int | None = None,
    head: int | None = None,
    include_layers: Sequence[int] | None = None,
) -> View:
    """Return BertViz's neuron view: how a head's queries and keys make its weights, element by element.

    `model` is the library's own BERT (with any head on top), in eval mode and loaded with
    ``attn_implementation="eager"``; its queries and keys are read where it computes them. `layer` and `head`, counted
    from 0, are what is shown first. Queries and keys are rounded to 255 steps of the largest. Raises `ValueError` for
    empty text, a model in training mode or without attention weights, and as `head_view` does.
    """
    from inside_bert.inputs import encode

    texts = [text for text in (sentence_a, sentence_b) if text is not None]
    encode(tokenizer, texts, truncation=True)  # refuses what is no text
    batch = tokenizer([sentence_a], None if sentence_b is None else [sentence_b], return_tensors="pt", verbose=False)
    ids = batch["input_ids"][0]
    if len(ids) > tokenizer.model_max_length:
        raise ValueError(f"the text has {len(ids)} tokens, and the model reads at most {tokenizer.model_max_length}.")
    tokens = tokenizer.convert_ids_to_tokens(ids)
    attention, queries, keys = _inner_workings(model, batch)
    weights, layers = _chosen(attention, tokens, include_layers)
    layer = _one_of("layer", layer, layers)
    head = _one_of("head", head, list(range(weights.shape[1])))
    _check_mode(display_mode)
    arrays = {"attention": weights, "queries": queries[layers], "keys": keys[layers]}
    elements = arrays["queries"].shape[-1]
    _refuse_too_large("neuron view", len(tokens) * (3 * len(tokens) + 4 * elements), arrays, layers)
    options = {
        "bidirectional": True,
        "display_mode": display_mode,
        "layer": None if layer is None else layers.index(layer),
        "head": head,
    }
    second = None if sentence_b is None else int(batch["token_type_ids"][0].argmax())
    return _view("neuron_view", tokens, second, arrays, options, layers)


def _loader() -> str:
    """Return the script that unpacks the library and draws what waits for it."""
    packed = base64.b64encode((verify("scripts", required=[SCRIPTS]) / SCRIPTS).read_bytes()).decode("ascii")
    source = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    function = source[source.index("function (packed)") :].strip()
    return f'({function})("{packed}");'


def _chosen(
    attention: Sequence[torch.Tensor], tokens: Sequence[str], include_layers: Sequence[int] | None
) -> tuple[numpy.ndarray, list[int]]:
    """Return the weights of the chosen layers, ``(L, H, T, T)``, and the layers' numbers."""
    import numpy

    if attention is None or len(attention) == 0 or any(layer is None for layer in attention):
        raise ValueError(
            "there are no attention weights. Load the model with attn_implementation='eager' and call it with "
            "output_attentions=True: the default, 'sdpa', never forms them."
        )
    shapes = {tuple(layer.shape) for layer in attention}
    if any(len(shape) != 4 for shape in shapes) or len(shapes) > 1:
        raise ValueError(f"expected one tensor of shape (1, H, T, T) per layer, got {sorted(shapes)}.")
    (shape,) = shapes
    if shape[0] != 1:
        raise ValueError(f"a view shows one text, and this is a batch of {shape[0]}: pass [w[:1] for w in attention].")
    if not shape[2] == shape[3] == len(tokens):
        raise ValueError(f"attention over {shape[2]} x {shape[3]} positions does not fit {len(tokens)} tokens.")
    _check_places("include_layers", include_layers, len(attention))
    layers = list(range(len(attention))) if include_layers is None else _plain(include_layers)
    weights = numpy.stack([attention[layer][0].detach().float().cpu().numpy() for layer in layers])
    if not numpy.isfinite(weights).all():
        raise ValueError("the attention weights hold NaN or infinity: was a row masked altogether? (lesson 02)")
    if weights.min() < -1e-6 or weights.max() > 1 + 1e-6:
        raise ValueError(
            "attention weights lie between 0 and 1, and these do not: are they scores before softmax, "
            "or from a model in training mode, where dropout scales them?"
        )
    return weights, layers


def _inner_workings(model: Any, batch: Any) -> tuple[Sequence[torch.Tensor], numpy.ndarray, numpy.ndarray]:
    """Run `model` on one text; return its attention, and queries and keys of shape ``(L, H, T, d)``."""
    import numpy
    import torch

    encoder = model.base_model
    if encoder.training:
        raise ValueError("the model is in training mode, so dropout would change the weights: call model.eval().")
    found: dict[str, list] = {"query": [], "key": []}
    hooks = [
        getattr(block.attention.self, name).register_forward_hook(
            lambda module, inputs, output, name=name: found[name].append(output)
        )
        for block in encoder.encoder.layer
        for name in found
    ]
    try:
        with torch.no_grad():
            inputs = {name: tensor.to(encoder.device) for name, tensor in batch.items()}
            if encoder.config._attn_implementation != "eager":
                return (), numpy.zeros(0), numpy.zeros(0)
            attention = encoder(**inputs, output_attentions=True).attentions
    finally:
        for hook in hooks:
            hook.remove()
    heads = encoder.config.num_attention_heads

    def by_head(name: str) -> numpy.ndarray:
        stacked = torch.cat(found[name])  # (L, T, D)
        return stacked.unflatten(-1, (heads, -1)).transpose(1, 2).float().cpu().numpy()

    return attention, by_head("query"), by_head("key")


def _check_places(name: str, places: Sequence[int] | None, count: int) -> None:
    if places is None:
        return
    wrong = [place for place in places if not 0 <= place < count]
    if wrong or not len(places):
        raise ValueError(f"{name}={_plain(places)}: choose from 0 to {count - 1}.")


def _one_of(name: str, place: int | None, places: list[int]) -> int | None:
    if place is None:
        return None
    if place not in places:
        raise ValueError(f"{name}={place} is not among the {name}s of this view, {places}.")
    return int(place)


def _check_mode(display_mode: str) -> None:
    if display_mode not in ("light", "dark"):
        raise ValueError(f"display_mode={display_mode!r}: choose 'light' or 'dark'.")


def _refuse_too_large(
    name: str, lines: int, arrays: dict[str, numpy.ndarray], layers: list[int], *, draws_all_layers: bool = False
) -> None:
    """Raise `ValueError` for what would stop a browser for long or fill the notebook."""
    stored = sum(array.size for array in arrays.values())
    if lines > LINES:
        fault = f"would draw {lines:,} lines at once; above {LINES:,} a browser reacts late, or not at all"
        fits = LINES * len(layers) // lines if draws_all_layers else 0  # of the others, one layer is on show anyway
    elif stored > BYTES:
        fault = f"would store {stored:,} numbers in the notebook, more than {BYTES:,}"
        fits = BYTES * len(layers) // stored
    else:
        return
    fewer = f", or {fits} of the {_count(layers, 'layer')} (include_layers={layers[:fits]})" if fits else ""
    raise ValueError(f"this {name} {fault}. Show a shorter text{fewer}.")


def _packed(name: str, array: numpy.ndarray) -> dict[str, Any]:
    """Return `array` as one byte a number: fractions of its largest (attention: of 1), for JavaScript to unpack."""
    import numpy

    signed = name != "attention"
    step = (float(abs(array).max()) or 1.0) / 127 if signed else 1 / 255
    steps = numpy.rint(array / step).astype(numpy.int8 if signed else numpy.uint8)
    data = base64.b64encode(steps.tobytes()).decode("ascii")
    return {"shape": list(array.shape), "step": float(f"{step:.6g}"), "signed": signed, "bytes": data}


def _view(
    kind: str,
    tokens: Sequence[str],
    split: int | None,
    arrays: dict[str, numpy.ndarray],
    options: dict[str, Any],
    layers: list[int],
) -> View:
    if split is not None and not 0 < split < len(tokens):
        last = len(tokens) - 1
        raise ValueError(f"sentence_b_start={split}: the second text has to begin at a place from 1 to {last}.")
    content = {
        "kind": kind,
        "tokens": [str(token) for token in tokens],
        "split": None if split is None else int(split),
        "layers": layers,
        "options": options,
        "arrays": {name: _packed(name, array) for name, array in arrays.items()},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    name = f"{kind.replace('_', '-')}-{digest[:12]}"
    data = json.dumps({"id": name, **content}, separators=(",", ":"))
    for character in "<>&":  # nothing in a token can end the script or begin a tag
        data = data.replace(character, f"\\u{ord(character):04x}")
    heads = arrays["attention"].shape[1]
    shown = f"{kind.replace('_', ' ')}: {len(tokens)} tokens, {_count(layers, 'layer')}, {heads} heads"
    waiting = (
        f"Interactive {shown}. It is drawn by a script: run the cell with load_view_scripts(), then this one, "
        "in a notebook that is trusted."
    )
    ask_colab = (
        "if(!window.insideBertViews&&window.google&&google.colab&&google.colab.kernel)"
        f'google.colab.kernel.invokeFunction("{COLAB_CALL}",[],{{}}).then(r=>{{'
        'const s=document.createElement("script");s.textContent=r.data["application/json"].script;'
        "document.head.append(s)});"
    )
    style = "background: white; color: black; padding: 8px; overflow-x: auto; font-family: Helvetica, Arial, sans-serif"
    markup = (
        f'<div data-view="{name}" style="{style}">{html.escape(waiting)}</div>'
        f"<script>{ask_colab}(window.insideBertViews=window.insideBertViews||[]).push({data});</script>"
    )
    return View(markup, f"[{shown}]")


def _count(items: Sequence[int], noun: str) -> str:
    return f"{noun} {items[0]}" if len(items) == 1 else f"{len(items)} {noun}s"


def _plain(places: Sequence[int] | None) -> list[int] | None:
    return None if places is None else [int(place) for place in places]
