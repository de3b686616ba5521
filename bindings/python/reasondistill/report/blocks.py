"""What a report is made of: sections of text, tables, curves, points with intervals, heat maps, outputs, settings. Nothing here knows how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence, Union


@dataclass(frozen=True)
class Share:
    """A share with the interval it lies in; a single number has low = high = value."""

    value: float
    low: float
    high: float


Cell = Union[None, str, int, float, Share]


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Line:
    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()  # of each point, where it is known
    high: Sequence[float] = ()
    joined: bool = True  # False: points alone


@dataclass(frozen=True)
class Curves:
    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    log_y: bool = False


@dataclass(frozen=True)
class Intervals:
    """A row of points with intervals for each label: groups[g].values[i] belongs to labels[i]."""

    title: str
    x_title: str
    labels: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Share | None]]]


@dataclass(frozen=True)
class HeatMap:
    title: str
    rows: Sequence[str]  # teacher tokens
    columns: Sequence[str]  # student pieces
    notes: Sequence[str]  # of each column: how it was aligned
    cells: Sequence[tuple[int, int, float]]  # row, column, mass


@dataclass(frozen=True)
class Output:
    right: bool
    question: str
    output: str
    gold: str
    answer: str | None


@dataclass(frozen=True)
class Outputs:
    title: str
    outputs: Sequence[Output]


@dataclass(frozen=True)
class Settings:
    title: str
    values: Sequence[tuple[str, str]]


Block = Union[Table, Curves, Intervals, HeatMap, Outputs, Settings]
Picture = (Curves, Intervals, HeatMap)


@dataclass
class Section:
    title: str
    text: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
