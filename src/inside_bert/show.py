"""Pictures and tables: one way to draw each, with alt text, fixed size and outputs that can be compared.

Writes to the notebook's output only.
"""

from __future__ import annotations

import base64
import html
import io
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from IPython.display import display

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

DPI = 80  # dots per inch; a figure of 9 x 4 inches then stays well under 60 KB


def show_figure(figure: Figure, alt: str) -> None:
    """Display `figure` as one PNG with the alternative text `alt` (a sentence: what is drawn, and what is seen).

    Closes the figure. Raises `ValueError` for an `alt` of fewer than five words.
    """
    import matplotlib.pyplot
    from PIL import Image

    if len(alt.split()) < 5:
        raise ValueError(f"alt text has to say what the picture shows, for somebody who cannot see it; got {alt!r}.")
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight")
    matplotlib.pyplot.close(figure)
    with Image.open(drawn) as full:  # 256 colours: the same to the eye in half the bytes
        full.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    display(
        {"image/png": picture, "text/plain": f"[picture] {alt}"},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )


def show_table(table: pandas.DataFrame | dict | list, *, index: bool = False, digits: int = 3) -> None:
    """Display a small table with `digits` decimals; cell contents are escaped, so markup is shown and not obeyed.

    `table` is a DataFrame, or what makes one: columns by name, or a list of rows by name. `index` shows its labels.
    """
    import pandas

    if not isinstance(table, pandas.DataFrame):
        table = pandas.DataFrame(table)
    columns = [""] * index + [str(column) for column in table.columns]
    rows = [[str(label)] * index + list(row) for label, *row in table.itertuples(name=None)]
    numeric = [bool(rows) and all(isinstance(row[n], Real) for row in rows) for n in range(len(columns))]
    sides = ["right" if right else "left" for right in numeric]
    head = "".join(_cell("th", name, side, digits) for name, side in zip(columns, sides))
    body = "".join(f"<tr>{''.join(_cell('td', v, s, digits) for v, s in zip(row, sides))}</tr>" for row in rows)
    plain = table.to_string(index=index, float_format=f"{{:.{digits}f}}".format)
    display(
        {"text/html": f'<table class="tex2jax_ignore"><tr>{head}</tr>{body}</table>', "text/plain": plain}, raw=True
    )


def _cell(tag: str, value: Any, side: str, digits: int) -> str:
    fraction = isinstance(value, Real) and not isinstance(value, Integral)
    text = f"{value:.{digits}f}" if fraction else str(value)
    return f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'


def show_tokens(tokenizer: Any, batch: Any, *, text: int | None = None) -> None:
    """Display tokens over ids over the mask (and over segments where a pair has two), one block a text.

    `batch` is what the tokenizer returns for several texts, as lists or as tensors of shape ``(B, T)``; `text`
    picks one row of it.
    """
    import pandas

    rows = {name: [_as_list(row) for row in values] for name, values in batch.items()}
    names = ["input_ids", "attention_mask"]
    if any(1 in row for row in rows.get("token_type_ids", [])):
        names.append("token_type_ids")
    longest = max(len(ids) for ids in rows["input_ids"])
    lines, labels = [], []
    for number, ids in enumerate(rows["input_ids"]):
        if text is not None and number != text:
            continue
        block = {"token": tokenizer.convert_ids_to_tokens(ids)}
        block |= {name: rows[name][number] for name in names if name in rows}
        lines += [row + [""] * (longest - len(row)) for row in block.values()]
        labels += [f"{number}: {name}" for name in block]
    show_table(pandas.DataFrame(lines, index=labels), index=True)


def _as_list(row: Any) -> list:
    return row.tolist() if hasattr(row, "tolist") else list(row)
