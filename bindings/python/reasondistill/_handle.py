"""Handles and errors: what all classes of the package share."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_void_p
from typing import Any, Callable

from ._ffi import CtxOptions, LogFn, lib


class Error(RuntimeError):
    """A call failed. `status` is the negative status code, the text the library's own message."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text or lib.rsd_strerror(status).decode())
        self.status = status


class Handle:
    """A handle of the library: a context manager that closes itself, and its context after it."""

    _close: Callable[[Any], None]

    def __init__(self, context: "Context | None") -> None:
        self._context = context
        self._p = c_void_p()

    @property
    def pointer(self) -> c_void_p:
        if not self._p:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._p

    def check(self, status: int) -> int:
        """Raises Error with the context's message for a negative status, else hands it back."""
        if status < 0:
            context = self._context or self
            raise Error(status, lib.rsd_ctx_error(context._p).decode("utf-8", "replace") if context._p else "")
        return status

    def close(self) -> None:
        if self._p:
            type(self)._close(self._p)
            self._p = c_void_p()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            if getattr(self, "_p", None):
                self.close()
        except Exception:  # interpreter shutdown
            pass


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
    return o


class Context(Handle):
    """Allocator, threads, seed, log. Belongs to one thread at a time.

    threads 0: one per CPU. own_blas: the BLAS is set to one thread, process-wide, and the library threads itself; results then have
    the same bits for any number of threads. log: called with (level, text).
    """

    _close = lib.rsd_ctx_close

    def __init__(self, threads: int = 0, seed: int = 1, own_blas: bool = True, log: Callable[[int, str], None] | None = None) -> None:
        super().__init__(None)
        o = filled(CtxOptions, lib.rsd_ctx_options_init, {"threads": threads, "seed": seed, "blas": int(own_blas)})
        if log:
            self._log = LogFn(lambda _user, level, text: log(level, text.decode("utf-8", "replace")))
            o.log = self._log
        status = lib.rsd_ctx_open(byref(o), byref(self._p))
        if status < 0:
            raise Error(status, "")

    @property
    def threads(self) -> int:
        return lib.rsd_ctx_threads(self.pointer)

    @property
    def backend(self) -> str:
        return lib.rsd_ctx_backend(self.pointer).decode()
