"""Line charts as SVG, without a drawing library: a picture for each entry of paper.json that has curves. Points that have been fitted keep apart, with the line
through them."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 56, 220, 34, 46
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b8860b", "#4d4d4d", "#d17ba5", "#2a9d8f", "#8d6e63", "#5c6bc0")
DASHES = ("", "6 3", "2 3")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high."""
    raw = (high - low) / about or 1
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, series: list[dict]) -> str:
    """The series share both axes; accuracies are drawn in percent from 0 up."""
    xs = [x for s in series for x in s["x"]]
    ys = [100 * y for s in series for y in s["y"]]
    x0, x1 = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y0, y1 = min(0.0, min(ys)), max(10.0, max(ys))
    across = lambda x: LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    down = lambda y: HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(title)}</text>']
    for y in ticks(y0, y1):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(x0, x1):
        out.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(series[0]["x_title"])}</text>'
               f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(series[0]["y_title"])}, %</text>')
    for i, s in enumerate(series):
        look = f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-dasharray="{DASHES[i // len(COLOURS) % len(DASHES)]}"'
        line = list(zip(s["x"], s["y"], strict=True))
        if "fit" in s:
            line = [(x, s["fit"]["intercept"] + s["fit"]["slope"] * x) for x in (min(s["x"]), max(s["x"]))]
        path = " ".join(f"{across(x):.1f},{down(100 * y):.1f}" for x, y in line)
        out.append(f'<polyline points="{path}" fill="none" stroke-width="1.6" {look}/>')
        out += [f'<circle cx="{across(x):.1f}" cy="{down(100 * y):.1f}" r="2" fill="{COLOURS[i % len(COLOURS)]}"/>' for x, y in zip(s["x"], s["y"], strict=True)]
        at = TOP + 6 + 16 * i
        out.append(f'<line x1="{WIDTH - RIGHT + 12}" x2="{WIDTH - RIGHT + 34}" y1="{at}" y2="{at}" stroke-width="2" {look}/>'
                   f'<text x="{WIDTH - RIGHT + 40}" y="{at + 4}">{escape(s["name"])}</text>')
    return "\n".join(out) + "\n</svg>\n"


def draw(entry: dict, folder: Path) -> Path | None:
    """The entry's picture, written whole; None where it has no curves."""
    series = [s for s in entry.get("series", []) if s["x"]]
    if not series:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entry['id']}-{entry['key']}.svg"
    part = path.with_suffix(".part")
    part.write_text(chart(entry["title"], series), encoding="utf-8")
    part.replace(path)
    return path
