"""A report as one HTML file: style and pictures are inside, nothing is fetched."""

from __future__ import annotations

import base64
import html
import os
import tempfile
from pathlib import Path
from typing import Sequence

from .blocks import Block, Cell, Outputs, Picture, Section, Settings, Share, Table
from .text import cell_text

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top; } th { font-weight: 600; }
td.number { text-align: right; white-space: nowrap; } td small { color: #666; }
figure { margin: 1rem 0; } figure img { max-width: 100%; }
.right, .wrong { border-left: 4px solid #009e73; padding: .1rem .8rem; margin: .8rem 0; } .wrong { border-color: #d55e00; }
.right pre, .wrong pre { white-space: pre-wrap; margin: .2rem 0; font-size: .85rem; }
nav ol { columns: 2; }
@media print { body { max-width: none; margin: 0; font-size: 10pt; } h2 { break-after: avoid; } figure, tr, .right, .wrong { break-inside: avoid; } nav { display: none; }
               table { display: table; } figure img { max-height: 22cm; } }
"""


def _cell(c: Cell) -> str:
    if isinstance(c, Share) and c.low != c.high:
        whole = cell_text(c)
        value, _, interval = whole.partition(" [")
        return f'<td class="number">{html.escape(value)} <small>[{html.escape(interval)}</small></td>'
    number = isinstance(c, (Share, int, float)) and not isinstance(c, bool)
    return f"{'<td class=number>' if number else '<td>'}{html.escape(cell_text(c))}</td>"


def _table(columns: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


WIDEST = 7  # columns that a printed page has room for


def _rows(b: Table) -> str:
    """Side by side, or, where that is too wide, with a row for each column."""
    if len(b.columns) <= WIDEST or len(b.rows) >= len(b.columns):
        return _table(b.columns, ["<tr>" + "".join(map(_cell, r)) + "</tr>" for r in b.rows])
    heads, *rest = zip(b.columns, *b.rows)
    return _table([cell_text(c) for c in heads], [f"<tr><th>{html.escape(r[0])}</th>" + "".join(map(_cell, r[1:])) + "</tr>" for r in rest])


def _block(b: Block) -> str:
    if isinstance(b, Picture):
        from .pictures import draw  # matplotlib is loaded for pages alone

        data = base64.b64encode(draw(b).encode()).decode()
        return f'<figure><img alt="{html.escape(b.title)}" src="data:image/svg+xml;base64,{data}"></figure>'
    title = f"<h3>{html.escape(b.title)}</h3>"
    if isinstance(b, Table):
        return title + _rows(b)
    if isinstance(b, Settings):
        return title + _table(("key", "value"), [f"<tr><td>{html.escape(k)}</td><td><code>{html.escape(v)}</code></td></tr>" for k, v in b.values])
    assert isinstance(b, Outputs)
    return title + "".join(
        f'<div class="{"right" if o.right else "wrong"}"><strong>{html.escape(o.question)}</strong><pre>{html.escape(o.output)}</pre>'
        f"<small>{'right' if o.right else 'wrong'}: gold {html.escape(o.gold)}, read {'nothing' if o.answer is None else html.escape(o.answer)}</small></div>" for o in b.outputs)


def as_page(title: str, sections: Sequence[Section]) -> str:
    parts = [f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
             f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>']
    if len(sections) > 3:
        parts.append("<nav><ol>" + "".join(f'<li><a href="#s{i}">{html.escape(s.title)}</a></li>' for i, s in enumerate(sections)) + "</ol></nav>")
    for i, s in enumerate(sections):
        parts.append(f'<section id="s{i}"><h2>{html.escape(s.title)}</h2>' + "".join(f"<p>{html.escape(t)}</p>" for t in s.text))
        parts += [_block(b) for b in s.blocks]
        parts.append("</section>")
    return "\n".join([*parts, "</body></html>\n"])


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """The whole page, or what was there before."""
    page = as_page(title, sections).encode()
    handle, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(page)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
