"""Handles and errors: what all classes of the package share."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_void_p
from typing import Any, Callable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._ffi import CtxOptions, LogFn, lib


class Error(RuntimeError):
    """A call failed. `status` is the negative status code, the text the library's own message."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or lib.rsd_strerror(status).decode())
        self.status = status


class Handle:
    """A handle of the library, and a context manager that closes it.

    A context that is closed closes what was opened in it, and a handle whose model or tokenizer is closed can no longer be used: no
    order of closing, and none in which the garbage collector comes by, leaves a pointer to freed memory.
    """

    _close: Callable[[Any], None]

    def __init__(self, context: "Context | None", *uses: "Handle") -> None:
        self._context = context
        self._uses = uses
        self._p = c_void_p()
        if context is not None:
            context._opened[id(self._p)] = (type(self)._close, self._p)

    @property
    def pointer(self) -> c_void_p:
        if not self._p:
            raise ValueError(f"{type(self).__name__} is closed")
        for used in self._uses:
            used.pointer
        return self._p

    def check(self, status: int) -> int:
        """Raises Error with the context's message for a negative status, else hands it back."""
        if status < 0:
            context = self._context or self
            raise Error(status, lib.rsd_ctx_error(context._p).decode("utf-8", "replace") if context._p else "")
        return status

    def close(self) -> None:
        if self._context is not None:
            self._context._opened.pop(id(self._p), None)
        if self._p:
            type(self)._close(self._p)
            self._p.value = None

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            if hasattr(self, "_p"):
                self.close()
        except Exception:  # interpreter shutdown
            pass


def whole(values: ArrayLike, dtype: DTypeLike = np.int32) -> NDArray:
    """The values as an array of the type, itself where it is one; fractions and numbers that do not fit are refused."""
    a = np.asarray(values)
    if a.size and a.dtype.kind not in "iub" and not (a.dtype.kind == "f" and (a == np.floor(a)).all()):
        raise TypeError(f"whole numbers were expected, not {a.dtype}")
    limits = np.iinfo(dtype)
    if a.size and (int(a.min()) < limits.min or int(a.max()) > limits.max):
        raise ValueError(f"a number is outside {limits.min} to {limits.max}")
    return np.ascontiguousarray(a, dtype)


def filled(kind: type[ctypes.Structure], init: Callable[..., int], values: dict[str, Any]) -> Any:
    """An options structure with the library's defaults, overlaid with what was given by name."""
    o = kind()
    init(byref(o), ctypes.sizeof(o))
    known = {name for name, *_ in kind._fields_}
    for name, value in values.items():
        if name not in known or name == "size":
            raise TypeError(f"there is no option {name!r}; known: {', '.join(sorted(known - {'size', 'reserved'}))}")
        if isinstance(value, str):
            value = value.encode()
        elif hasattr(value, "__fspath__"):
            value = str(value).encode()
        if value is not None:
            setattr(o, name, value)
            if isinstance(value, int) and isinstance(getattr(o, name), int) and getattr(o, name) != value:
                raise ValueError(f"option {name}: {value} does not fit")
    return o


def kernel_names() -> list[str]:
    """What Context(kernels=...) takes in this build on this CPU, best first."""
    names: list[str] = []
    while (name := lib.rsd_ctx_kernels(len(names))) is not None:
        names.append(name.decode())
    return names


class Context(Handle):
    """Allocator, threads, seed, log. Belongs to one thread at a time.

    threads 0: one per CPU. own_blas: the BLAS is set to one thread, process-wide, and the library threads itself; results then have
    the same bits for any number of threads. log: called with (level, text). kernels: one of kernel_names(), None: the best.
    """

    _close = lib.rsd_ctx_close

    def __init__(self, threads: int = 0, seed: int = 1, own_blas: bool = True, log: Callable[[int, str], None] | None = None,
                 kernels: str | None = None) -> None:
        super().__init__(None)
        self._opened: dict[int, tuple[Callable[[Any], None], c_void_p]] = {}  # pointers, not handles: no reference leads back
        o = filled(CtxOptions, lib.rsd_ctx_options_init, {"threads": threads, "seed": seed, "blas": int(own_blas), "kernels": kernels})
        if log:
            self._log = LogFn(lambda _user, level, text: log(level, text.decode("utf-8", "replace")))
            o.log = self._log
        status = lib.rsd_ctx_open(byref(o), byref(self._p))
        if status < 0:
            known = ["auto", *kernel_names()]
            raise Error(status, "" if kernels is None or kernels in known else f"kernels {kernels!r}: this build and CPU have {', '.join(known)}")

    def close(self) -> None:
        while self._opened:  # the youngest first: it may use an older one
            close, p = self._opened.popitem()[1]
            if p:
                close(p)
                p.value = None
        super().close()

    @property
    def threads(self) -> int:
        return lib.rsd_ctx_threads(self.pointer)

    @property
    def backend(self) -> str:
        return lib.rsd_ctx_backend(self.pointer).decode()
