"""Evaluation and its statistics."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref, c_double, c_uint64
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from . import _ffi
from ._ffi import lib
from ._handle import Context, Handle, filled
from .model import T5
from .text import Tokenizer

_PARSERS = ("strict", "lenient", "reference")


@dataclass(frozen=True)
class Score:
    """Figures of one evaluation: see rsd_score. Perplexities that were not measured are None."""

    n: int
    correct: int
    no_answer: int
    accuracy: float
    low: float
    high: float
    mean_tokens: float
    seconds: float
    outputs: int
    lenient_correct: int
    lenient_no_answer: int
    lenient_accuracy: float
    lenient_low: float
    lenient_high: float
    reference_correct: int
    reference_accuracy: float
    answer_perplexity: float | None
    rationale_perplexity: float | None
    maj: dict[int, float]
    lenient_maj: dict[int, float]
    reused: bool


class Evaluator(Handle):
    """Final-answer accuracy. Options: those of rsd_evaluator_options, by name; format by its name ("zs-cot"), maj as a list of ks."""

    _close = lib.rsd_evaluator_close

    def __init__(self, context: Context, model: T5, tokenizer: Tokenizer, format: str = "zs-cot", maj: Sequence[int] = (), **options: object) -> None:
        super().__init__(context, model, tokenizer)
        number = lib.rsd_format_parse(format.encode(), len(format.encode()))
        if number < 0:
            raise ValueError(f"there is no format {format!r}: zs-ao, zs-cot, ic-ao, ic-cot")
        if len(maj) > 8 or any(int(k) < 1 for k in maj):
            raise ValueError("maj takes up to 8 numbers from 1")
        o = filled(_ffi.EvaluatorOptions, lib.rsd_evaluator_options_init, {"format": number, **options})
        self._maj = [int(k) for k in maj]
        o.maj[:len(self._maj)] = self._maj
        self.check(lib.rsd_evaluator_open(context.pointer, model.pointer, tokenizer.pointer, byref(o), byref(self._p)))

    def file(self, task: str, data: str | Path, out: str | Path | None = None) -> Score:
        s = _ffi.Score(size=ctypes.sizeof(_ffi.Score))
        self.check(lib.rsd_evaluator_file(self.pointer, task.encode(), str(data).encode(), str(out).encode() if out else None,
                                          _ffi.ProgressFn(), None, byref(s)))
        plain = {name: getattr(s, name) for name in Score.__dataclass_fields__ if hasattr(s, name)}
        plain["maj"], plain["lenient_maj"] = ({k: v for k, v in zip(self._maj, values)} for values in (s.maj, s.lenient_maj))
        plain["answer_perplexity"], plain["rationale_perplexity"] = s.answer_perplexity or None, s.rationale_perplexity or None
        return Score(**{**plain, "reused": bool(s.reused)})


@dataclass(frozen=True)
class Paired:
    """Two models on the same items: see rsd_paired."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    chi2: float
    p_chi2: float
    difference: float
    low: float
    high: float


def _paired(p: _ffi.Paired) -> Paired:
    return Paired(*(getattr(p, name) for name in Paired.__dataclass_fields__))


def compare_files(context: Context, a: str | Path, b: str | Path, parser: str = "strict") -> tuple[Paired, list[tuple[str, bool]]]:
    """Two files of Evaluator.file item by item: the test, and the items on which they differ as (id, a is right)."""
    if parser not in _PARSERS:
        raise ValueError(f"there is no parser {parser!r}: {', '.join(_PARSERS)}")
    different: list[tuple[str, bool]] = []

    def note(_user: object, name: int, length: int, a_right: int, _b_right: int) -> int:
        different.append((_ffi.borrowed(name, length).decode("utf-8", "replace"), bool(a_right)))
        return 0

    p = _ffi.Paired(size=ctypes.sizeof(_ffi.Paired))
    Handle.check(context, lib.rsd_compare_files(context.pointer, str(a).encode(), str(b).encode(), _PARSERS.index(parser), _ffi.DifferFn(note), None, byref(p)))
    return _paired(p), different


def mcnemar(both: int, only_a: int, only_b: int, neither: int) -> Paired:
    """McNemar's exact test and Newcombe's interval from the four counts."""
    p = _ffi.Paired(size=ctypes.sizeof(_ffi.Paired))
    if min(both, only_a, only_b, neither) < 0 or lib.rsd_mcnemar(both, only_a, only_b, neither, byref(p)):
        raise ValueError("no item, or a negative count")
    return _paired(p)


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of k successes in n."""
    if not 0 <= k <= n:
        raise ValueError(f"{k} successes in {n}")
    low, high = c_double(), c_double()
    lib.rsd_wilson(k, n, byref(low), byref(high))
    return low.value, high.value


def log_odds(k: int, n: int) -> float:
    """log((k + 1/2) / (n - k + 1/2))."""
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"{k} successes in {n}")
    return lib.rsd_log_odds(k, n)


def maj_at_k(context: Context, votes: Sequence[int], right: int | None, k: int, silent: int = 0) -> float:
    """Unbiased probability that the majority of k of the samples is right; votes for each answer, `right` the index of the right one."""
    array = (c_uint64 * max(1, len(votes)))(*votes)
    out = c_double()
    Handle.check(context, lib.rsd_maj_at_k(context.pointer, array, len(votes), len(votes) if right is None else right, silent, k, byref(out)))
    return out.value


class Grid(Handle):
    """Many models on many sets: the checkpoints of a run, a sweep, models of your own. Options: those of rsd_grid_options, by name; parser by its name.

        with Grid(ctx, id=["gsm8k:zs-cot:dev.jsonl"], ood=["svamp:zs-cot:svamp.jsonl"]) as grid:
            grid.run("run")
            print(grid.text(), grid.choose("best-mean-ood"))
    """

    _close = lib.rsd_grid_close
    RULES = ("last", "best-id", "best-mean-ood", "pareto")

    def __init__(self, context: Context, id: Sequence[str] = (), ood: Sequence[str] = (), test: Sequence[str] = (), parser: str = "strict",
                 **options: object) -> None:
        super().__init__(context)
        if parser not in _PARSERS:
            raise ValueError(f"there is no parser {parser!r}: {', '.join(_PARSERS)}")
        o = filled(_ffi.GridOptions, lib.rsd_grid_options_init, {"parser": _PARSERS.index(parser), **options})
        self.check(lib.rsd_grid_open(context.pointer, byref(o), byref(self._p)))
        for role, sets in enumerate((id, ood, test)):
            for text in sets:
                self.check(lib.rsd_grid_parse_set(self.pointer, text.encode(), role))

    def model(self, name: str, x: float, model: T5, tokenizer: Tokenizer) -> None:
        """Evaluates a model on every set, as the next row."""
        self.check(lib.rsd_grid_model(self.pointer, name.encode(), x, model.pointer, tokenizer.pointer, _ffi.ProgressFn(), None))

    def run(self, directory: str | Path) -> None:
        """A row for each checkpoint of a run. A grid without sets takes those that the run itself has evaluated ("eval" of its run.json)."""
        if not lib.rsd_grid_sets(self.pointer):
            self.check(lib.rsd_grid_run_sets(self.pointer, str(directory).encode(), None))
        self.check(lib.rsd_grid_run(self.pointer, str(directory).encode(), _ffi.ProgressFn(), None))

    def sweep(self, base: str | Path, tuned: Sequence[str | Path], alphas: Sequence[float], weights: Sequence[float] | None = None,
              save: str | Path | None = None) -> None:
        """A row for each alpha: base + alpha * (mean of the tuned - base)."""
        if weights is not None and len(weights) != len(tuned):
            raise ValueError(f"{len(weights)} weights for {len(tuned)} models")
        names = (ctypes.c_char_p * len(tuned))(*(str(t).encode() for t in tuned))
        s = _ffi.Sweep(size=ctypes.sizeof(_ffi.Sweep), base=str(base).encode(), tuned=names, n_tuned=len(tuned),
                       weights=(c_double * len(tuned))(*weights) if weights is not None else None, alphas=(c_double * len(alphas))(*alphas),
                       n_alphas=len(alphas), save=str(save).encode() if save else None)
        self.check(lib.rsd_grid_sweep(self.pointer, byref(s), _ffi.ProgressFn(), None))

    def choose(self, rule: str) -> str | None:
        """The name of the row that a rule chooses; None where it lacks rows or sets."""
        row = ctypes.c_size_t()
        if rule not in self.RULES:
            raise ValueError(f"there is no rule {rule!r}: {', '.join(self.RULES)}")
        if self.check(lib.rsd_grid_choose(self.pointer, self.RULES.index(rule), byref(row))) == _ffi.END:
            return None
        return lib.rsd_grid_row_name(self.pointer, row.value).decode()

    def text(self) -> str:
        """The table for a terminal."""
        out = ctypes.c_char_p()
        self.check(lib.rsd_grid_text(self.pointer, byref(out)))
        return (out.value or b"").decode()

    def figures(self) -> dict:
        """Sets, rows with their scores, and what each rule chooses."""
        out = ctypes.c_char_p()
        self.check(lib.rsd_grid_json(self.pointer, byref(out)))
        return json.loads(out.value or b"{}")


@dataclass(frozen=True)
class Fit:
    """A line through points: see rsd_fit."""

    n: int
    slope: float
    intercept: float
    slope_low: float
    slope_high: float
    r2: float
    error: float


def fit_line(x: ArrayLike, y: ArrayLike) -> Fit:
    """Least squares with the 95 % interval of the slope by Student's t."""
    xs, ys = (np.ascontiguousarray(v, np.float64).ravel() for v in (x, y))
    f = _ffi.Fit(size=ctypes.sizeof(_ffi.Fit))
    if len(xs) != len(ys) or lib.rsd_fit_line(xs.ctypes.data_as(ctypes.POINTER(c_double)), ys.ctypes.data_as(ctypes.POINTER(c_double)), len(xs), byref(f)):
        raise ValueError("two points or more with finite numbers and different x are needed, as many y as x")
    return Fit(*(getattr(f, name) for name in Fit.__dataclass_fields__))


def bootstrap(values: ArrayLike, statistic: Callable[[np.ndarray], float] = np.mean, draws: int = 4000, level: float = 0.95,
              seed: int = 1) -> tuple[float, float]:
    """Percentile interval of a statistic of `values` [seeds, items] (or [items]): 1 and 0 for right and wrong, or differences of such.

    Seeds and items are drawn anew each time, both with replacement and independently, as runs are compared on the same items: the
    "pigeonhole bootstrap" of crossed factors (Owen 2007), which errs on the wide side. The interval is of the statistic over seeds and
    items like these; with one row it is over items alone.
    """
    v = np.atleast_2d(np.asarray(values, np.float64))
    if v.ndim != 2 or not v.size or not np.isfinite(v).all():
        raise ValueError("values must be [seeds, items] and finite")
    if not 0 < level < 1 or draws < 1:
        raise ValueError("level must be between 0 and 1, draws at least 1")
    random = np.random.default_rng(seed)
    rows, columns = v.shape
    drawn = np.empty(draws)
    for i in range(draws):
        drawn[i] = statistic(v[np.ix_(random.integers(rows, size=rows), random.integers(columns, size=columns))])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
