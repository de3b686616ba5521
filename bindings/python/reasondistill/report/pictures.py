"""Blocks as SVG by matplotlib. Text stays text in size and becomes outlines in the file, so that a page looks the same everywhere; nothing in a picture depends on the
day it was made."""

from __future__ import annotations

import io
import math
from typing import Sequence

from .blocks import Curves, HeatMap, Intervals, Line, Share

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as e:  # said where a page is asked for, not where the package is imported
    raise ImportError("report.html needs matplotlib: pip install matplotlib, or apt install python3-matplotlib; --text does without") from e

# Okabe and Ito's colours, which people with any colour vision can tell apart, in another order of lines after the eighth.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999933")
DASHES = ("-", "--", ":", "-.")
SETTINGS = {"font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
            "grid.linewidth": 0.6, "legend.frameon": False, "svg.hashsalt": "report", "svg.fonttype": "path", "axes.titlesize": 10}


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg"):]


def _finite(line: Line) -> list[int]:
    return [i for i, (x, y) in enumerate(zip(line.x, line.y)) if math.isfinite(x) and math.isfinite(y)]


def _legend(axes: Axes, n: int) -> None:
    if n > 1:
        axes.legend(fontsize=8, ncol=1 if n <= 8 else 2, **({} if n <= 6 else {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}))


def curves(b: Curves) -> str:
    figure = Figure(figsize=(6.4, 3.4))
    axes = figure.add_subplot()
    for k, line in enumerate(b.lines):
        at = _finite(line)
        x, y = [line.x[i] for i in at], [line.y[i] for i in at]
        colour = COLOURS[k % len(COLOURS)]
        style = {"linestyle": DASHES[k // len(COLOURS) % len(DASHES)] if line.joined else "none", "marker": "o" if len(at) <= 30 else None}
        axes.plot(x, y, color=colour, linewidth=1.3, markersize=3.5, label=line.name, **style)
        if line.low:
            axes.fill_between(x, [line.low[i] for i in at], [line.high[i] for i in at], color=colour, alpha=0.12, linewidth=0)
    if b.log_y and all(line.y[i] > 0 for line in b.lines for i in _finite(line)):
        axes.set_yscale("log")
    axes.set(title=b.title, xlabel=b.x_title, ylabel=b.y_title)
    _legend(axes, len(b.lines))
    return _svg(figure)


def _spread(values: Sequence[Share | None]) -> tuple[list[int], list[float], list[list[float]]]:
    at = [i for i, v in enumerate(values) if v is not None and all(map(math.isfinite, (v.value, v.low, v.high)))]
    shares = [values[i] for i in at]
    return at, [100 * s.value for s in shares], [[100 * max(0, s.value - s.low) for s in shares], [100 * max(0, s.high - s.value) for s in shares]]


def intervals(b: Intervals) -> str:
    figure = Figure(figsize=(6.4, 0.9 + 0.13 * len(b.groups) + 0.2 * len(b.labels) * (1 + len(b.groups)) / 2))
    axes = figure.add_subplot()
    step = 0.7 / max(1, len(b.groups))
    for k, (name, values) in enumerate(b.groups):
        at, x, error = _spread(values)
        y = [i + (k - (len(b.groups) - 1) / 2) * step for i in at]
        axes.errorbar(x, y, xerr=error, fmt="os^Dv<>p"[k % 8], color=COLOURS[k % len(COLOURS)], markersize=4, linewidth=1.2, capsize=2, label=name)
    axes.set_yticks(range(len(b.labels)), labels=b.labels)
    axes.invert_yaxis()
    axes.set(title=b.title, xlabel=b.x_title)
    _legend(axes, len(b.groups))
    return _svg(figure)


def heat_map(b: HeatMap) -> str:
    grid = [[0.0] * len(b.columns) for _ in b.rows]
    for row, column, mass in b.cells:
        grid[row][column] += mass
    figure = Figure(figsize=(max(4, 0.26 * len(b.columns) + 1.5), max(2.5, 0.2 * len(b.rows) + 1.2)))
    axes = figure.add_subplot()
    image = axes.imshow(grid, cmap="viridis_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    shown = [f"{c}  {n}" if n != "exact" else c for c, n in zip(b.columns, b.notes)]
    axes.set_xticks(range(len(b.columns)), labels=shown, rotation=90, fontsize=7)
    axes.set_yticks(range(len(b.rows)), labels=b.rows, fontsize=7)
    axes.grid(False)
    axes.set(title=b.title, xlabel="student pieces", ylabel="teacher tokens")
    figure.colorbar(image, ax=axes, label="probability placed", fraction=0.04)
    return _svg(figure)


def draw(b: Curves | Intervals | HeatMap) -> str:
    with matplotlib.rc_context(SETTINGS):
        return curves(b) if isinstance(b, Curves) else intervals(b) if isinstance(b, Intervals) else heat_map(b)
