"""Reads what a report is made from. Each input is told by what it holds, and a file that cannot be read says where and why.

Nothing is computed again: figures are those that the library wrote.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Sequence

Json = dict[str, Any]


class ReportError(Exception):
    """An input that cannot be read: file, line, what was expected."""


@dataclass
class Run:
    directory: Path
    config: Json
    metrics: list[Json]
    before: list[Json] = field(default_factory=list)  # evaluations of the model that training started from
    after: list[Json] = field(default_factory=list)  # of the trained one
    during: list[tuple[int, str, Json]] = field(default_factory=list)  # step, set, evaluation

    @property
    def name(self) -> str:
        return self.directory.name or str(self.directory)


@dataclass
class Material:
    runs: list[Run] = field(default_factory=list)
    papers: list[tuple[Path, Json]] = field(default_factory=list)
    evaluations: list[tuple[Path, Json]] = field(default_factory=list)
    grids: list[tuple[Path, Json]] = field(default_factory=list)  # models by sets: checkpoints, or points of a line through weight space
    fits: list[tuple[Path, Json]] = field(default_factory=list)
    heat_maps: list[Json] = field(default_factory=list)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise ReportError(f"{path}: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise ReportError(f"{path}: byte {e.start} is not UTF-8") from e


def _parse(text: str, place: str) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ReportError(f"{place}: no JSON: {e}") from e
    if not isinstance(value, dict):
        raise ReportError(f"{place}: expected an object, found {type(value).__name__}")
    return value


def read_json(path: Path) -> Json:
    return _parse(_read_text(path), str(path))


def read_lines(path: Path) -> list[Json]:
    """JSON Lines. A run may be writing: a last line without its end is left out."""
    lines = _read_text(path).split("\n")
    return [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines[:-1], 1) if line.strip()]


def _evaluation(path: Path) -> Json:
    value = read_json(path)
    if not is_evaluation(value):
        raise ReportError(f"{path}: no evaluation: expected \"task\", \"n\", \"accuracy\" and \"items\", as `reasondistill eval --out` writes them")
    return value


def is_evaluation(v: Json) -> bool:
    return (isinstance(v.get("task"), str) and isinstance(v.get("items"), list) and all(isinstance(i, dict) for i in v["items"])
            and all(isinstance(v.get(k), (int, float)) for k in ("n", "accuracy", "low", "high")))


def what(v: Json) -> tuple[str, str, str]:
    """What an evaluation tests: the same for two models on the same items."""
    return str(v["task"]), Path(str(v.get("data"))).name, str(v.get("format"))


def label(v: Json) -> str:
    task, data, form = what(v)
    return f"{Path(data).stem if task == 'jsonl' else task} {form}"


def read_run(directory: Path) -> Run:
    run = Run(directory, read_json(directory / "run.json"), read_lines(directory / "metrics.jsonl"))
    for path in sorted((directory / "eval").glob("*.json")):
        step = re.fullmatch(r"step-(\d+)-(.+)", path.stem)
        if step:
            run.during.append((int(step[1]), step[2], _evaluation(path)))
        else:
            run.after.append(_evaluation(path))
    run.after += [_evaluation(path) for path in sorted((directory / "eval" / "after").glob("*.json"))]
    run.before = [_evaluation(path) for path in sorted((directory / "eval" / "before").glob("*.json"))]
    run.during.sort(key=lambda d: d[0])
    return run


def _add_file(m: Material, path: Path) -> None:
    text = _read_text(path)
    first, _, rest = text.partition("\n")
    if rest.strip() and first.strip().startswith("{") and first.strip().endswith("}"):
        values = [_parse(line, f"{path}, line {i}") for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    else:
        values = [_parse(text, str(path))]
    for v in values:
        if is_evaluation(v):
            m.evaluations.append((path, v))
        elif isinstance(v.get("entries"), list):
            m.papers.append((path, v))
        elif isinstance(v.get("sets"), list) and isinstance(v.get("rows"), list):
            m.grids.append((path, v))
        elif isinstance(v.get("fits"), list):
            m.fits.append((path, v))
        elif isinstance(v.get("cells"), list) and isinstance(v.get("pieces"), list):
            m.heat_maps.append(v)
        else:
            raise ReportError(f"{path}: cannot tell what this is: expected paper.json, or what eval, select, sweep, scaling or align --heatmap writes; "
                              f"it has the keys {', '.join(list(v)[:8]) or '(none)'}")


def read_material(inputs: Sequence[Path]) -> Material:
    m = Material()
    for path in inputs:
        if path.is_dir():
            if not (path / "run.json").is_file():
                raise ReportError(f"{path}: no run directory: it has no run.json")
            m.runs.append(read_run(path))
        else:
            _add_file(m, path)
    return m
