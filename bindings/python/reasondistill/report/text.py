"""A report at a terminal: its text and tables. Pictures are named, since what they show stands in the tables."""

from __future__ import annotations

import math
from typing import Sequence

from .blocks import Block, Cell, Outputs, Section, Settings, Share, Table


def cell_text(c: Cell) -> str:
    if c is None:
        return "-"
    if isinstance(c, Share):
        return percent(c.value) if c.low == c.high else f"{percent(c.value)} [{percent(c.low)}, {percent(c.high)}]"
    if isinstance(c, bool):
        return "yes" if c else "no"
    if isinstance(c, int):
        return f"{c:,}"
    if isinstance(c, float):
        return f"{c:.4g}" if math.isfinite(c) else str(c)
    return c


def percent(v: float) -> str:
    return f"{100 * v:.1f} %"


WIDEST = 150


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; a table that would be too wide lies on its side."""
    widths = [max(len(r[i]) for r in (columns, *rows)) for i in range(len(columns))]
    if sum(widths) + 2 * len(widths) > WIDEST and len(rows) < len(columns):
        columns, *rows = [list(r) for r in zip(columns, *rows)]
        widths = [max(len(r[i]) for r in (columns, *rows)) for i in range(len(columns))]
    lines = ["  ".join(v.ljust(w) for v, w in zip(r, widths)).rstrip() for r in (columns, ["-" * w for w in widths], *rows)]
    return lines


def _block(b: Block) -> list[str]:
    if isinstance(b, Table):
        return [b.title, "", *_table(b.columns, [[cell_text(c) for c in r] for r in b.rows]), ""]
    if isinstance(b, Settings):
        return [b.title, "", *_table(("key", "value"), [list(v) for v in b.values]), ""]
    if isinstance(b, Outputs):
        lines = [b.title, ""]
        for o in b.outputs:
            lines += [f"{'right' if o.right else 'wrong'}: {o.question}", f"    {o.output}", f"    gold {o.gold}, read {'nothing' if o.answer is None else o.answer}"]
        return [*lines, ""]
    return []


def as_text(title: str, sections: Sequence[Section]) -> str:
    lines = [title, "=" * len(title), ""]
    for s in sections:
        lines += [s.title, "-" * len(s.title), "", *s.text, *([""] if s.text else [])]
        for b in s.blocks:
            lines += _block(b)
    return "\n".join(lines).rstrip() + "\n"
