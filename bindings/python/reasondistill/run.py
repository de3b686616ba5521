"""Data sets and the trainer."""

from __future__ import annotations

import ctypes
import json
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from . import _ffi
from ._ffi import lib
from ._handle import Context, Handle, filled
from .model import Batch
from .text import Tokenizer


def build_dataset(context: Context, questions: str | Path, aligned: str | Path | None, out: str | Path, *,
                  hold_out: Sequence[str | Path] = (), **options: object) -> dict[str, int]:
    """Makes a data set folder. hold_out: files or folders of development and test items, which no question may stand in. Options: those of rsd_build_options, by name."""
    o = filled(_ffi.BuildOptions, lib.rsd_build_options_init,
               {"questions": Path(questions), "aligned": Path(aligned) if aligned else None, "out": Path(out), **options})
    paths = (ctypes.c_char_p * len(hold_out))(*(str(p).encode() for p in hold_out))
    o.hold_out, o.n_hold_out = paths, len(hold_out)
    r = _ffi.BuildReport(size=ctypes.sizeof(_ffi.BuildReport))
    Handle.check(context, lib.rsd_dataset_build(context.pointer, byref(o), byref(r)))
    return {name: getattr(r, name) for name, _ in r._fields_ if name != "size"}


def convert_questions(context: Context, task: str, source: str | Path, out: str | Path) -> int:
    """A benchmark's own file (or a folder of them) as lines {"id","question","answer","rationale"}. How many."""
    n = ctypes.c_uint64()
    Handle.check(context, lib.rsd_dataset_convert(context.pointer, task.encode(), str(source).encode(), str(out).encode(), byref(n)))
    return n.value


def _copied(struct: _ffi.Batch) -> dict[str, NDArray]:
    """The arrays of a batch that the library lends, as copies."""
    t_enc, t_dec = struct.enc_offsets[struct.n], struct.dec_offsets[struct.n]
    rows = struct.row_offsets[t_dec]
    lengths = {"enc_ids": t_enc, "enc_offsets": struct.n + 1, "dec_ids": t_dec, "dec_offsets": struct.n + 1, "row_offsets": t_dec + 1,
               "row_ids": rows, "row_probs": rows, "kinds": t_dec, "formats": struct.n, "signs": struct.n}
    if struct.chunk_begin:
        lengths.update(chunk_begin=struct.n_chunks, chunk_end=struct.n_chunks, chunk_logprobs=struct.n_chunks, top_probs=t_dec * struct.top_k)
    arrays = {name: np.ctypeslib.as_array(getattr(struct, name), (n,)).copy() for name, n in lengths.items()}
    if struct.chunk_begin:
        arrays["top_probs"] = arrays["top_probs"].reshape(t_dec, struct.top_k)
    return arrays


class Dataset(Handle):
    """A data set folder as batches: an endless sequence of epochs, a function of the options and the batch's number. Options: those of
    rsd_dataset_options, by name; weights by format: {"zs-cot": 1, "ic-cot": 2}."""

    _close = lib.rsd_dataset_close

    def __init__(self, context: Context, path: str | Path, tokenizer: Tokenizer, weights: dict[str, float] | None = None,
                 **options: object) -> None:
        super().__init__(context, tokenizer)
        o = filled(_ffi.DatasetOptions, lib.rsd_dataset_options_init, options)
        for name, weight in (weights or {}).items():
            o.weights[self._format(name)] = weight
        self.check(lib.rsd_dataset_open(context.pointer, str(path).encode(), tokenizer.pointer, byref(o), byref(self._p)))

    @staticmethod
    def _format(name: str) -> int:
        number = lib.rsd_format_parse(name.encode(), len(name.encode()))
        if number < 0:
            raise ValueError(f"there is no format {name!r}: zs-ao, zs-cot, ic-ao, ic-cot")
        return number

    @property
    def info(self) -> dict[str, int]:
        """questions, replies, batches of an epoch, left_out (too long)."""
        i = _ffi.DatasetInfo(size=ctypes.sizeof(_ffi.DatasetInfo))
        self.check(lib.rsd_dataset_info_get(self.pointer, byref(i)))
        return {"questions": i.questions, "replies": i.replies, "batches": i.batches, "left_out": i.left_out}

    def batch(self, index: int, formats: Sequence[str] = ("zs-ao", "zs-cot", "ic-ao", "ic-cot")) -> Batch | None:
        """Batch number `index`, or its sequences of some formats: None if it has none of these."""
        b = ctypes.POINTER(_ffi.Batch)()
        bits = sum({1 << self._format(name) for name in formats})
        self.check(lib.rsd_dataset_batch_of(self.pointer, index, bits, byref(b)))
        return Batch(**_copied(b.contents)) if b.contents.n else None

    def disjoint(self, items: str | Path) -> None:
        """Raises Error if a question of the data set stands in a file or folder of items."""
        self.check(lib.rsd_dataset_disjoint(self.pointer, str(items).encode()))


@dataclass(frozen=True)
class Step:
    step: int
    steps: int
    loss: float
    lr: float
    grad_norm: float
    accuracy: float
    seconds: float
    watched: float  # mean accuracy of the watched evaluations after this step, NaN without
    best: float
    best_step: int
    stopped: bool  # early: evaluations no longer got better


@dataclass(frozen=True)
class Share:
    """What a format weighs in a run: its items and target tokens in an epoch, its shares of the summed loss and of the gradient (NaN: not measured)."""

    items: int
    targets: int
    loss: float
    gradient: float


class Trainer(Handle):
    """A run: iterate over it to train; it saves itself as its run.json says."""

    _close = lib.rsd_trainer_close

    def __init__(self, context: Context, run_json: str | Path, resume: bool = False) -> None:
        super().__init__(context)
        self.check(lib.rsd_trainer_open(context.pointer, str(run_json).encode(), int(resume), byref(self._p)))

    def __iter__(self) -> Iterator[Step]:
        s = _ffi.Step(size=ctypes.sizeof(_ffi.Step))
        while self.check(lib.rsd_trainer_step(self.pointer, byref(s))) != _ffi.END:
            yield Step(s.step, s.steps, s.loss, s.lr, s.grad_norm, s.accuracy, s.seconds, s.watched, s.best, s.best_step, bool(s.stopped))

    @property
    def mixture(self) -> dict[str, Share]:
        """By format. The gradient is measured before the first step."""
        m = _ffi.Mixture(size=ctypes.sizeof(_ffi.Mixture))
        self.check(lib.rsd_trainer_mixture(self.pointer, byref(m)))
        return {lib.rsd_format_name(f).decode(): Share(m.items[f], m.targets[f], m.loss[f], m.gradient[f]) for f in range(4) if m.items[f]}

    def save(self) -> None:
        self.check(lib.rsd_trainer_save(self.pointer))

    @property
    def config(self) -> dict:
        return json.loads(lib.rsd_trainer_config(self.pointer))

    @property
    def directory(self) -> Path:
        return Path(lib.rsd_trainer_directory(self.pointer).decode())
