"""Tables and picture of `finetune.json`: fills `README.md`, draws `finetune.png`, and writes `data/runs/speed.csv`
for lesson 05 (then run `tools/write_checksums.py`). Called by ``finetune.py report``, and `write_part` by
``qa_real.py report``; measures nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas

NAMES = {"nothing": "libraries only", "tutorial": "tutorials' recipe", "ours": "ours"}


def write_report(found: dict, folder: Path) -> None:
    """Fill the marked parts of README.md with what `found` holds."""
    for name, part in {"speed": _speed, "ideas": _ideas, "accuracy": _accuracy, "memory": _memory,
                       "generalization": _generalization}.items():  # fmt: skip
        if name in found:
            write_part(folder / "README.md", name, found[name]["machine"], part(found[name]))
    if "speed" in found:
        _draw(found["speed"], folder / "finetune.png")
        _for_the_lesson(found["speed"], folder.parent / "data" / "runs" / "speed.csv")


def write_part(page: Path, name: str, machine: dict, content: str) -> None:
    """Put `content` between the marks ``<!-- name -->`` and ``<!-- /name -->`` of `page`, under the machine's line."""
    line = (f"Measured {machine['date']} on {machine['processor']}, {machine['threads']} threads, "
            f"torch {machine['torch']}.")  # fmt: skip
    text = page.read_text(encoding="utf-8")
    marked = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
    if len(marked.findall(text)) != 1:
        raise ValueError(f"{page} needs one part between <!-- {name} --> and <!-- /{name} -->; put them back.")
    filled = f"<!-- {name} -->\n{line}\n\n{content}\n<!-- /{name} -->"
    page.write_text(marked.sub(lambda _: filled, text), encoding="utf-8", newline="\n")


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _span(value: dict, digits: int = 0, unit: str = "") -> str:
    return f"{value['median']:.{digits}f}{unit} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _share(value: dict) -> str:
    return f"{value['median']:.0%} ({value['low']:.0%} to {value['high']:.0%})"


def _speed(found: dict) -> str:
    parts = []
    for kind in ("short", "long"):
        if kind not in found:
            continue
        rows = [[name, _span(row["examples_per_s"], 1), _span(row["ratio"], 1), _share(row["share_of_peak"]),
                 row["way"]["dtype"] if row["way"]["dtype"] == "float32" else "bfloat16"]
                for name, row in found[kind].items()]  # fmt: skip
        head = [f"{kind} texts", "examples/s", "times the first", "of the machine's matrix products", "in"]
        n = next(iter(found[kind].values()))["rounds"]
        if kind == "short":
            first, last = list(found[kind].values())[0], list(found[kind].values())[-1]
            took = [found["examples_short"] / row["examples_per_s"]["median"] for row in (first, last)]
            parts.append(f"One epoch of {found['examples_short']:,} short reviews: {took[0] / 60:.0f} minutes with the "
                         f"tutorials' recipe, {took[1]:.0f} seconds with ours.")  # fmt: skip
        parts.append(markdown_table(head, rows) + f"\n\nMedian of {n} rounds (lowest to highest).")
    return "\n\n".join(parts)


def _ideas(found: dict) -> str:
    rows = [[name, _span(row["ratio"], 2), _share(row["share_of_peak"])] for name, row in found["short"].items()]
    return markdown_table(["short texts, one change", "times ours", "of the matrix products"], rows)


def _accuracy(found: dict) -> str:
    rows = []
    for kind in ("short", "long"):
        for name in ("tutorial", "ours"):
            if kind in found:
                row = found[kind][name]
                seeds = ", ".join(f"{share:.3f}" for share in row["seeds"])
                mean = f"{row['mean']:.3f} ± {row['spread']:.3f}"
                trained_on = f"{row['trained_on']:,} × {row['epochs']}"
                error = f"{row['standard_error']:.3f}"
                rows.append([f"{kind}, {NAMES[name]}", mean, seeds, error, trained_on, f"{row['n']:,}"])
    head = ["", "accuracy ± standard deviation", "three seeds", "standard error of one", "trained on × epochs", "n"]
    gap = found["padding_changes_nothing"]
    return (
        markdown_table(head, rows)
        + f"\n\nPadding 16 short texts to 512 and not to the longest moves their logits by {gap:.0e}."
    )


def _memory(found: dict) -> str:
    rows = [[name.split()[0] + ", " + NAMES[name.split()[1]], f"{value:,} MB"]
            for name, value in found.items() if name != "machine"]  # fmt: skip
    return markdown_table(["16 texts a batch", "peak of the process"], rows)


def _generalization(found: dict) -> str:
    mean = sum(found["seeds"]) / len(found["seeds"])
    seeds = ", ".join(f"{share:.3f}" for share in found["seeds"])
    rows = [["fine-tuned BERT", f"{mean:.3f}", seeds], ["TF-IDF", f"{found['tfidf']:.3f}", ""]]
    return markdown_table([f"SST-2 dev, n = {found['n']}", "accuracy", "three seeds"], rows)


def _draw(found: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = list(found["short"])
    values = [found["short"][name]["examples_per_s"] for name in names]
    figure, panel = plt.subplots(figsize=(8, 3.4), layout="constrained")
    middle = [value["median"] for value in values]
    error = [[m - v["low"] for m, v in zip(middle, values)], [v["high"] - m for m, v in zip(middle, values)]]
    panel.barh(range(len(names)), middle, xerr=error, color="#0072B2", ecolor="#777777")
    panel.set(yticks=range(len(names)), yticklabels=names, xscale="log", xlabel="examples a second (log scale)",
              title="Fine-tuning on short reviews, one change after another")  # fmt: skip
    panel.invert_yaxis()
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def _for_the_lesson(found: dict, path: Path) -> None:
    rows = [{"recipe": name, "examples a second": round(row["examples_per_s"]["median"], 1),
             "times the first": round(row["ratio"]["median"], 1), "rounds": row["rounds"]}
            for name, row in found["short"].items()]  # fmt: skip
    pandas.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")
