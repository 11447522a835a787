"""Pictures and tables: one way to draw each, with alt text, fixed size and outputs that can be compared.

Writes to the notebook's output only.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from IPython.display import display

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

DPI = 80  # keeps a figure of 9 x 4 inches under 60 KB


def show_figure(figure: Figure, alt: str) -> None:
    """Display `figure` as one PNG with the alternative text `alt` (a sentence: what is drawn, and what is seen)."""
    import matplotlib.pyplot

    if len(alt.split()) < 5:
        raise ValueError(f"alt text has to say what the picture shows, for somebody who cannot see it; got {alt!r}.")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    matplotlib.pyplot.close(figure)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    display(
        {"image/png": picture, "text/plain": f"[picture] {alt}"},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )


def show_table(table: pandas.DataFrame, *, index: bool = False, digits: int = 3) -> None:
    """Display a small table with `digits` decimals; cell contents are escaped, so markup is shown and not obeyed."""
    import pandas

    if not isinstance(table, pandas.DataFrame):
        table = pandas.DataFrame(table)
    style = {"index": index, "float_format": f"{{:.{digits}f}}".format}
    with pandas.option_context("display.max_colwidth", None):
        html = table.to_html(border=0, **style)
    display({"text/html": html, "text/plain": table.to_string(**style)}, raw=True)


def show_tokens(tokenizer: Any, batch: Any, *, text: int | None = None) -> None:
    """Display tokens over ids over the mask (and over segments where a pair has two), one block a text.

    `batch` is what the tokenizer returns for several texts, as lists or as tensors of shape ``(B, T)``; `text`
    picks one row of it.
    """
    import pandas

    rows = {name: [_as_list(row) for row in values] for name, values in batch.items()}
    pairs = any(1 in row for row in rows.get("token_type_ids", []))
    lines: dict[tuple[int, str], list] = {}
    for number, ids in enumerate(rows["input_ids"]):
        if text is not None and number != text:
            continue
        lines[number, "token"] = tokenizer.convert_ids_to_tokens(ids)
        lines[number, "input_ids"] = ids
        if "attention_mask" in rows:
            lines[number, "attention_mask"] = rows["attention_mask"][number]
        if pairs:
            lines[number, "token_type_ids"] = rows["token_type_ids"][number]
    table = pandas.DataFrame.from_dict(lines, orient="index")
    table.index = pandas.Index([f"{number}: {name}" for number, name in lines], name="text: row")
    show_table(table.fillna(""), index=True)


def _as_list(row: Any) -> list:
    return row.tolist() if hasattr(row, "tolist") else list(row)
