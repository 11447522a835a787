"""Training that can be watched: a bar and a curve that grow while it runs, and leave nothing behind.

Writes to the notebook's output only. With ``INSIDE_BERT_LIVE=no`` in the environment (the tests set it, because a
picture that changes cannot be compared with a stored one) nothing is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from types import TracebackType

from IPython.display import clear_output, display

PAUSE = 2.0  # seconds between two pictures


class Watch:
    """Show how a training run gets on: share done, time left, the last values, and a curve for the first of them.

    Use it as a context, and call it once a step: ``with Watch(600) as watch: … watch(loss=float(loss))``. `levels` are
    horizontal lines by name, such as baselines. `history` keeps every value by name, in order. When the block ends,
    the live picture is taken away: what is to stay, the lesson draws itself.
    """

    def __init__(self, steps: int, *, levels: Mapping[str, float] | None = None, pause: float = PAUSE) -> None:
        if steps < 1:
            raise ValueError(f"a run of {steps} steps cannot be watched; give the number of steps, at least 1.")
        self.steps, self.levels, self.pause = steps, dict(levels or {}), pause
        self.history: dict[str, list[float]] = {}
        self.done = 0
        self.live = os.environ.get("INSIDE_BERT_LIVE", "").strip().lower() not in ("no", "0", "off", "false")
        self._began = self._drawn = time.monotonic()
        self._drew = False

    def __enter__(self) -> Watch:
        self._began = self._drawn = time.monotonic()
        return self

    def __call__(self, **values: float) -> None:
        """Note the values of one step; draw them if the last picture is old enough."""
        for name, value in values.items():
            self.history.setdefault(name, []).append(float(value))
        self.done += 1
        if self.live and time.monotonic() - self._drawn >= self.pause:
            self._draw()
            self._drawn = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drew and kind is None:  # after an error or an interruption the last picture stays to be looked at
            clear_output()

    def line(self) -> str:
        """Return share done, seconds left and the last values as one line of text."""
        share = min(1.0, self.done / self.steps)
        filled = round(30 * share)
        left = (time.monotonic() - self._began) * (1 - share) / max(share, 1e-9) if self.done else float("nan")
        last = "  ".join(f"{name} {values[-1]:.3f}" for name, values in self.history.items())
        return f"{'█' * filled}{'░' * (30 - filled)} {share:4.0%}  {left:.0f} s left  {last}"

    def _draw(self) -> None:
        import matplotlib.pyplot as plt

        self._drew = True
        clear_output(wait=True)  # also what the cell printed before
        print(self.line())
        if self.history:
            name, values = next(iter(self.history.items()))
            figure, panel = plt.subplots(figsize=(6, 2.4))
            panel.plot(range(1, len(values) + 1), values, linewidth=1)
            for level, height in self.levels.items():
                panel.axhline(height, color="gray", linestyle="--", linewidth=1)
                panel.text(self.steps, height, level, ha="right", va="bottom", fontsize="small")
            panel.set(xlim=(0, self.steps), xlabel="step", ylabel=name)
            display(figure)
            plt.close(figure)
