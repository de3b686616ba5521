"""Batches, the T5 engine, losses, optimisers: a training step by hand."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_double, c_float, c_int8, c_int32, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from . import _ffi
from ._ffi import lib
from ._handle import Context, Handle, filled, whole

_TYPES = {"enc_ids": (np.int32, c_int32), "enc_offsets": (np.uint32, c_uint32), "dec_ids": (np.int32, c_int32),
          "dec_offsets": (np.uint32, c_uint32), "row_offsets": (np.uint32, c_uint32), "row_ids": (np.int32, c_int32),
          "row_probs": (np.float32, c_float), "tails": (np.float32, c_float), "kinds": (np.uint8, c_uint8),
          "weights": (np.float32, c_float), "formats": (np.uint8, c_uint8), "seq_weights": (np.float32, c_float),
          "signs": (np.int8, c_int8), "loss_slots": (np.uint8, c_uint8), "chunk_begin": (np.uint32, c_uint32),
          "chunk_end": (np.uint32, c_uint32), "chunk_logprobs": (np.float32, c_float), "top_probs": (np.float32, c_float)}

_MODES, _EARLY = ("greedy", "sample", "beam"), ("heuristic", "first", "never")


class Batch:
    """Sequences laid end to end. Arrays of the right type are used where they lie, without a copy; others are converted.

    Batch.pack makes one from lists of ids; the constructor takes the arrays of rsd_batch by name.
    """

    def __init__(self, **arrays: NDArray) -> None:
        self.arrays: dict[str, NDArray] = {}
        self.struct = _ffi.Batch(size=ctypes.sizeof(_ffi.Batch))
        for name, values in arrays.items():
            if name not in _TYPES:
                raise TypeError(f"a batch has no array {name!r}; known: {', '.join(_TYPES)}")
            dtype, ctype = _TYPES[name]
            a = self.arrays[name] = np.ascontiguousarray(values, dtype) if np.dtype(dtype).kind == "f" else whole(values, dtype)
            if a.ndim != 1 and name.startswith(("enc_", "dec_")):
                raise ValueError(f"{name} needs one dimension, not {a.ndim}")
            setattr(self.struct, name, a.ctypes.data_as(POINTER(ctype)))
        for name in ("enc_ids", "enc_offsets", "dec_ids", "dec_offsets"):
            if name not in self.arrays:
                raise TypeError(f"a batch needs {name}")
        n = len(self.arrays["enc_offsets"]) - 1
        if len(self.arrays["dec_offsets"]) != n + 1 or n < 1:
            raise ValueError("enc_offsets and dec_offsets need one entry for each sequence, and one more")
        for side in ("enc", "dec"):  # the library trusts the last offset for the length of the arrays
            if int(self.arrays[f"{side}_offsets"][-1]) != len(self.arrays[f"{side}_ids"]):
                raise ValueError(f"{side}_offsets must end with the length of {side}_ids")
        self._check_lengths(n, len(self.arrays["dec_ids"]))
        self.struct.n = n

    def _check_lengths(self, n: int, t: int) -> None:
        rows = self.arrays.get("row_offsets")
        if rows is not None and (len(rows) != t + 1 or "row_ids" not in self.arrays or "row_probs" not in self.arrays):
            raise ValueError(f"row_offsets needs {t + 1} entries, and row_ids and row_probs beside it")
        want = {"tails": t, "kinds": t, "weights": t, "formats": n, "seq_weights": n, "signs": n, "loss_slots": n}
        chunks = self.arrays.get("chunk_begin")
        if chunks is not None:
            if "chunk_end" not in self.arrays or "chunk_logprobs" not in self.arrays:
                raise ValueError("chunk_begin needs chunk_end and chunk_logprobs beside it")
            self.struct.n_chunks = want["chunk_end"] = want["chunk_logprobs"] = len(chunks)
        if "top_probs" in self.arrays:  # [positions, top_k]
            self.struct.top_k = self.arrays["top_probs"].size // t
            if self.arrays["top_probs"].shape != (t, self.struct.top_k):
                raise ValueError(f"top_probs needs {t} rows of equal length")
        if rows is not None:
            want["row_ids"] = want["row_probs"] = int(rows[-1])
        for name, length in want.items():
            if name in self.arrays and len(self.arrays[name]) != length:
                raise ValueError(f"{name} needs {length} entries, not {len(self.arrays[name])}")

    @classmethod
    def pack(cls, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], **arrays: NDArray) -> "Batch":
        """From id lists, end tokens included."""
        if not inputs or not targets:
            raise ValueError("a batch needs a sequence")

        def ends(lists: Sequence[Sequence[int]]) -> NDArray:
            return np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.uint32)

        return cls(enc_ids=np.concatenate([whole(x) for x in inputs]), enc_offsets=ends(inputs),
                   dec_ids=np.concatenate([whole(x) for x in targets]), dec_offsets=ends(targets), **arrays)

    @property
    def positions(self) -> int:
        return len(self.arrays["dec_ids"])

    @property
    def weight(self) -> float:
        return lib.rsd_loss_weight(byref(self.struct))


class T5(Handle):
    """A T5 model: T5(ctx, directory), or T5.create(ctx, config, seed) with random weights; dtype: of the weights in memory,
    fp32, bf16, stored (as the files have them), or int8 (linear layers in 8 bits, for inference alone)."""

    _close = lib.rsd_t5_close
    _dtypes = {"fp32": 0, "fp16": 1, "bf16": 2, "stored": 3, "int8": 4}

    def __init__(self, context: Context, directory: str | Path | None, _config: str | Path | None = None, _seed: int = 1,
                 dtype: str = "fp32") -> None:
        super().__init__(context)
        width = self._dtype(dtype)
        self._batch: Batch | None = None  # borrowed by the library between forward and backward
        if directory is not None:
            self.check(lib.rsd_t5_open_as(context.pointer, str(directory).encode(), width, byref(self._p)))
        else:
            self.check(lib.rsd_t5_create_as(context.pointer, str(_config).encode(), _seed, width, byref(self._p)))

    @classmethod
    def create(cls, context: Context, config: str | Path, seed: int = 1, dtype: str = "fp32") -> "T5":
        return cls(context, None, config, seed, dtype)

    @classmethod
    def _dtype(cls, name: str) -> int:
        if name not in cls._dtypes:
            raise ValueError(f"dtype is one of {', '.join(cls._dtypes)}, not {name!r}")
        return cls._dtypes[name]

    def save(self, directory: str | Path, dtype: str = "fp32", tokenizer: str | Path | None = None) -> None:
        self.check(lib.rsd_t5_save(self.pointer, str(directory).encode(), self._dtype(dtype), str(tokenizer).encode() if tokenizer else None))

    def forward(self, batch: Batch, train: bool = False) -> None:
        self._batch = batch
        self.check(lib.rsd_t5_forward(self.pointer, byref(batch.struct), int(train)))

    def backward(self) -> None:
        self.check(lib.rsd_t5_backward(self.pointer))

    def freeze(self, pattern: str, frozen: bool = True) -> int:
        """Freezes or thaws the parameters whose name fits (* stands for anything); how many fit."""
        n = c_size_t()
        self.check(lib.rsd_t5_freeze(self.pointer, pattern.encode(), int(frozen), byref(n)))
        return n.value

    def recompute(self, on: bool = True) -> None:
        """Whether training computes activations again instead of keeping them."""
        self.check(lib.rsd_t5_set_recompute(self.pointer, int(on)))

    def zero_grad(self) -> None:
        self.check(lib.rsd_t5_zero_grad(self.pointer))

    def logits(self) -> NDArray[np.float32]:
        """[positions, vocabulary] of the last forward."""
        if self._batch is None:
            raise ValueError("call forward first")
        out = np.empty((self._batch.positions, self.info()["vocab"]), np.float32)
        self.check(lib.rsd_t5_logits(self.pointer, out.ctypes.data_as(POINTER(c_float)), out.size))
        return out

    def logprobs(self) -> NDArray[np.float32]:
        """Log-probability of each target id of the last forward."""
        if self._batch is None:
            raise ValueError("call forward first")
        out = np.empty(self._batch.positions, np.float32)
        self.check(lib.rsd_t5_logprobs(self.pointer, out.ctypes.data_as(POINTER(c_float)), out.size))
        return out

    def params(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, in order."""
        out = {}
        for i in range(lib.rsd_t5_params(self.pointer)):
            p = _ffi.Param(size=ctypes.sizeof(_ffi.Param))
            self.check(lib.rsd_t5_param(self.pointer, i, byref(p)))
            out[p.name.decode()] = tuple(p.shape[: p.ndim])
        return out

    def _find(self, name: str) -> tuple[int, NDArray[np.float32]]:
        i = c_size_t()
        if lib.rsd_t5_param_find(self.pointer, name.encode(), byref(i)) < 0:
            raise KeyError(name)
        p = _ffi.Param(size=ctypes.sizeof(_ffi.Param))
        self.check(lib.rsd_t5_param(self.pointer, i.value, byref(p)))
        return i.value, np.empty(tuple(p.shape[: p.ndim]), np.float32)

    def param(self, name: str) -> NDArray[np.float32]:
        i, out = self._find(name)
        self.check(lib.rsd_t5_param_read(self.pointer, i, out.ctypes.data_as(POINTER(c_float)), out.size))
        return out

    def set_param(self, name: str, values: NDArray) -> None:
        i, like = self._find(name)
        a = np.ascontiguousarray(values, np.float32)
        if a.shape != like.shape:
            raise ValueError(f"{name} has shape {like.shape}, not {a.shape}")
        self.check(lib.rsd_t5_param_write(self.pointer, i, a.ctypes.data_as(POINTER(c_float)), a.size))

    def grad(self, name: str) -> NDArray[np.float32]:
        i, out = self._find(name)
        self.check(lib.rsd_t5_grad_read(self.pointer, i, out.ctypes.data_as(POINTER(c_float)), out.size))
        return out

    def merge(self, other: "T5", alpha: float) -> None:
        """self = (1 - alpha) self + alpha other."""
        self.check(lib.rsd_t5_merge(self.pointer, other.pointer, alpha))

    def combine(self, models: Sequence["T5"], weights: Sequence[float]) -> None:
        """Becomes the sum of weights[i] * models[i]: a soup, base + task vectors, an interpolation; see rsd_t5_combine."""
        if len(models) != len(weights):
            raise ValueError(f"{len(weights)} weights for {len(models)} models")
        pointers = (c_void_p * len(models))(*(m.pointer.value for m in models))
        self.check(lib.rsd_t5_combine(self.pointer, pointers, (c_double * len(weights))(*weights), len(models)))

    def info(self) -> dict[str, int | float]:
        i = _ffi.T5Info(size=ctypes.sizeof(_ffi.T5Info))
        self.check(lib.rsd_t5_info_get(self.pointer, byref(i)))
        return {name: getattr(i, name) for name, _ in i._fields_ if name not in ("size", "reserved")}

    def generate(self, inputs: Iterable[Sequence[int]], max_tokens: int = 256, batch: int = 32, *, n: int | None = None,
                 stop: Callable[[NDArray[np.int32]], bool] | None = None, logprobs: bool = False, **options: object) -> list:
        """Outputs, without end token, for inputs that end with theirs: an array of ids each, or a list of n arrays where n is given.

        mode: "greedy" (default), "sample" or "beam"; the other options are those of rsd_generate_options by name: temperature, top_k,
        top_p, seed, beams, length_penalty, early_stopping ("heuristic", "first", "never"), repeat_stop, vocab. stop is asked with the ids
        so far and ends an output by saying True. With logprobs each output is a pair (ids, log-probabilities), and the latter have
        one more for the end token.
        """
        lists = [whole(x) for x in inputs]
        if not lists:
            return []
        ids = np.concatenate(lists)
        offsets = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.uint32)
        out: list[list[tuple[list[int], list[float]]]] = [[([], []) for _ in range(n or 1)] for _ in lists]
        raised: list[BaseException] = []  # in a callback: ctypes would print and forget it

        def on_token(_user: object, i: int, sample: int, id: int, logprob: float, finish: int) -> int:
            if finish != 1:  # RSD_FINISH_STOP: the end token
                out[i][sample][0].append(id)
            out[i][sample][1].append(logprob)
            return 0

        def on_stop(_user: object, _i: int, p: Any, length: int) -> int:
            try:
                return int(bool(stop(np.ctypeslib.as_array(p, (length,)).copy())))
            except BaseException as e:
                raised.append(e)
                return 2

        names = {"mode": _MODES, "early_stopping": _EARLY}
        given: dict[str, object] = {"max_tokens": max_tokens, "batch": batch, "n": n or 1, **options}
        for key, known in names.items():
            if isinstance(given.get(key), str):
                if given[key] not in known:
                    raise ValueError(f"{key} is one of {', '.join(known)}, not {given[key]!r}")
                given[key] = known.index(given[key])
        o = filled(_ffi.GenerateOptions, lib.rsd_generate_options_init, given)
        if stop is not None:
            o.stop = _ffi.StopFn(on_stop)
        status = lib.rsd_t5_generate(self.pointer, ids.ctypes.data_as(POINTER(c_int32)), offsets.ctypes.data_as(POINTER(c_uint32)), len(lists),
                                     byref(o), _ffi.TokenFn(on_token), None)
        if raised:
            raise raised[0]
        self.check(status)
        arrays = [[(np.asarray(i, np.int32), np.asarray(p, np.float32)) if logprobs else np.asarray(i, np.int32) for i, p in x] for x in out]
        return [x[0] for x in arrays] if n is None else arrays


def _names(name_of: Callable[[int], bytes | None]) -> dict[str, int]:
    """What the library calls its kinds of a thing."""
    names: dict[str, int] = {}
    while (name := name_of(len(names))) is not None:
        names[name.decode()] = len(names)
    return names


def _loss_options(kind: str, options: dict[str, Any]) -> _ffi.LossOptions:
    kinds, tails = _names(lib.rsd_loss_kind_name), _names(lib.rsd_tail_name)
    values = dict(options, kind=kinds.get(kind), tail=tails.get(options.get("tail", "drop")))
    if values["kind"] is None:
        raise ValueError(f"a loss is one of {', '.join(kinds)}, not {kind!r}")
    if values["tail"] is None:
        raise ValueError(f"a tail is one of {', '.join(tails)}, not {options['tail']!r}")
    return filled(_ffi.LossOptions, lib.rsd_loss_options_init, values)


class Loss(Handle):
    """kind: "ce", "kl", "reverse_kl", "js", "alm" or "uld". Options: those of rsd_loss_options, by name; tail "drop", "renormalise" or
    "bucket"."""

    _close = lib.rsd_loss_close

    def __init__(self, context: Context, kind: str = "kl", **options: Any) -> None:
        super().__init__(context)
        o = _loss_options(kind, options)
        self.check(lib.rsd_loss_open(context.pointer, byref(o), byref(self._p)))

    def set_format(self, name: str, kind: str = "kl", **options: Any) -> None:
        """Other options for the sequences of one format ("zs-cot", ...)."""
        raw = name.encode()
        self.check(lib.rsd_loss_set_format(self.pointer, lib.rsd_format_parse(raw, len(raw)), byref(_loss_options(kind, options))))

    def apply(self, model: T5, batch: Batch, scale: float | None = None) -> float:
        """Head and loss for the model's last forward; gradients are left for model.backward(). scale: default 1 / batch.weight."""
        if scale is None:
            weight = batch.weight
            if not weight > 0:
                raise ValueError("no position of the batch has a weight above 0")
            scale = 1.0 / weight
        self.check(lib.rsd_loss_begin(self.pointer, byref(batch.struct), scale))
        self.check(lib.rsd_t5_head(model.pointer, ctypes.cast(lib.rsd_loss_tile, c_void_p), self.pointer))
        r = _ffi.LossResult(size=ctypes.sizeof(_ffi.LossResult))
        self.check(lib.rsd_loss_result_get(self.pointer, byref(r)))
        return r.loss


class Optimizer(Handle):
    """AdamW (kind ADAMW) or Adafactor (ADAFACTOR). Options: those of rsd_optimizer_options, by name."""

    ADAMW, ADAFACTOR = 0, 1

    _close = lib.rsd_optimizer_close

    def __init__(self, context: Context, model: T5, **options: object) -> None:
        super().__init__(context, model)
        o = filled(_ffi.OptimizerOptions, lib.rsd_optimizer_options_init, options)
        self.check(lib.rsd_optimizer_open(context.pointer, model.pointer, byref(o), byref(self._p)))

    def step(self, lr: float) -> float:
        """Clips, updates, zeroes the gradients; the norm before clipping."""
        norm = c_double()
        self.check(lib.rsd_optimizer_step(self.pointer, lr, byref(norm)))
        return norm.value

    def backward(self, lr: float) -> float:
        """The model's backward and step in one, fused if the option says so; the norm before clipping."""
        norm = c_double()
        self.check(lib.rsd_optimizer_backward(self.pointer, lr, byref(norm)))
        return norm.value
