"""Tokenizer, replies, teacher, aligner."""

from __future__ import annotations

import ctypes
import json
import os
from ctypes import POINTER, byref, c_double, c_int, c_int32, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from . import _ffi
from ._ffi import borrowed, lib
from ._handle import Context, Handle, filled, whole


def _copy(pointer: object, n: int, dtype: type) -> NDArray:
    """A NumPy copy of n borrowed values."""
    return np.ctypeslib.as_array(pointer, (n,)).astype(dtype, copy=True) if n else np.empty(0, dtype)


class Tokenizer(Handle):
    """SentencePiece unigram from spiece.model, tokenizer.json or a model directory; byte pairs from .tiktoken, vocab.bpe or tokenizer.json, where
    `pattern` ("gpt2", "cl100k", "llama3", "o200k") says how text is cut if the file does not."""

    _close = lib.rsd_tokenizer_close

    def __init__(self, context: Context, path: str | Path, pattern: str | None = None) -> None:
        super().__init__(context)
        self.check(lib.rsd_tokenizer_open_pattern(context.pointer, str(path).encode(), pattern.encode() if pattern else None, byref(self._p)))

    def encode(self, text: str | bytes) -> NDArray[np.int32]:
        """Ids of a text, without an end token."""
        data = text.encode() if isinstance(text, str) else text
        ids, n = POINTER(c_int32)(), c_size_t()
        self.check(lib.rsd_tokenizer_encode(self.pointer, data, len(data), byref(ids), byref(n)))
        return _copy(ids, n.value, np.int32)

    def spans(self, text: str | bytes) -> tuple[NDArray[np.int32], NDArray[np.uint32], NDArray[np.uint32]]:
        """Ids, and for each the bytes begin..end of the text that it came from."""
        ids = self.encode(text)
        begin, end = POINTER(c_uint32)(), POINTER(c_uint32)()
        self.check(lib.rsd_tokenizer_spans(self.pointer, byref(begin), byref(end)))
        return ids, _copy(begin, len(ids), np.uint32), _copy(end, len(ids), np.uint32)

    def decode(self, ids: NDArray[np.int32] | list[int]) -> str:
        a = whole(ids)
        text, n = c_void_p(), c_size_t()
        self.check(lib.rsd_tokenizer_decode(self.pointer, a.ctypes.data_as(POINTER(c_int32)), a.size, byref(text), byref(n)))
        return borrowed(text.value, n.value).decode("utf-8", "replace")

    def piece(self, id: int) -> str:
        text, n = c_void_p(), c_size_t()
        self.check(lib.rsd_tokenizer_piece(self.pointer, int(whole(id)), byref(text), byref(n)))
        return borrowed(text.value, n.value).decode("utf-8", "replace")

    def __len__(self) -> int:
        return lib.rsd_tokenizer_size(self.pointer)

    @property
    def eos(self) -> int:
        return lib.rsd_tokenizer_eos(self.pointer)

    @property
    def pattern(self) -> str:
        """How text is cut before byte pairs are joined; "" without byte pairs."""
        return lib.rsd_tokenizer_pattern(self.pointer).decode()

    @property
    def hash(self) -> str:
        return lib.rsd_tokenizer_hash(self.pointer).decode()


class Reply(Handle):
    """One answer of a teacher, from a line of a store or a bare response body."""

    _close = lib.rsd_reply_close

    def __init__(self, context: Context, line: str | bytes, choice: int = 0, need_logprobs: bool = True) -> None:
        super().__init__(context)
        data = line.encode() if isinstance(line, str) else line
        status = self.check(lib.rsd_reply_parse(context.pointer, data, len(data), choice, need_logprobs, byref(self._p)))
        if status == _ffi.END:
            raise IndexError(f"the reply has no choice {choice}")

    def _text(self, function: object) -> str:
        n = c_size_t()
        address = function(self.pointer, byref(n))  # type: ignore[operator]
        return borrowed(address, n.value).decode("utf-8", "replace")

    @property
    def id(self) -> str:
        return self._text(lib.rsd_reply_id)

    @property
    def question(self) -> str:
        return self._text(lib.rsd_reply_question)

    @property
    def text(self) -> str:
        return self._text(lib.rsd_reply_text)

    @property
    def correct(self) -> bool | None:
        c = lib.rsd_reply_correct(self.pointer)
        return None if c < 0 else bool(c)

    def tokens(self) -> list[tuple[bytes, float]]:
        """Tokens as bytes, with their log-probabilities (NaN: not given)."""
        out = []
        for i in range(lib.rsd_reply_tokens(self.pointer)):
            p, n, x = c_void_p(), c_size_t(), c_double()
            self.check(lib.rsd_reply_token(self.pointer, i, byref(p), byref(n), byref(x)))
            out.append((borrowed(p.value, n.value), x.value))
        return out

    def top(self, i: int) -> list[tuple[bytes, float]]:
        """The alternatives at token i."""
        out = []
        for j in range(lib.rsd_reply_tops(self.pointer, i)):
            p, n, x = c_void_p(), c_size_t(), c_double()
            self.check(lib.rsd_reply_top(self.pointer, i, j, byref(p), byref(n), byref(x)))
            out.append((borrowed(p.value, n.value), x.value))
        return out


@dataclass(frozen=True)
class Collected:
    """What rsd_teacher_poll handed out."""

    id: str
    sample: int
    text: str
    correct: bool | None


def _parser(name: object) -> int:
    """How the final answers of replies are found: RSD_PARSER_STRICT, RSD_PARSER_LENIENT."""
    parsers = ("strict", "lenient")
    if name not in parsers:
        raise ValueError(f"there is no parser {name!r} of replies: {', '.join(parsers)}")
    return parsers.index(str(name))


class Teacher(Handle):
    """A teacher behind an URL, or `replay:FILE`. Options: those of rsd_teacher_options, by name; parser by its name ("strict", "lenient")."""

    _close = lib.rsd_teacher_close

    def __init__(self, context: Context, url: str, **options: object) -> None:
        super().__init__(context)
        for name in ("prompt", "system"):
            text = options.get(name)
            if isinstance(text, str):
                options[f"{name}_len"] = len(text.encode())
        if "parser" in options:
            options["parser"] = _parser(options["parser"])
        self.finished = False
        self._options = filled(_ffi.TeacherOptions, lib.rsd_teacher_options_init, {"url": url, **options})
        self.check(lib.rsd_teacher_open(context.pointer, byref(self._options), byref(self._p)))

    def submit(self, id: str, question: str, answer: str | None = None) -> None:
        i, q, a = id.encode(), question.encode(), answer.encode() if answer is not None else None
        self.check(lib.rsd_teacher_submit(self.pointer, byref(_ffi.Question(i, len(i), q, len(q), a, len(a) if a else 0))))

    def poll(self, wait_ms: int = 0) -> Collected | None:
        """The next reply that arrives within the time, else None. Raises Error for a request that finally failed: call again for the
        others. `finished` says that nothing is queued or in flight."""
        reply = c_void_p()
        status = self.check(lib.rsd_teacher_poll(self.pointer, wait_ms, byref(reply)))
        self.finished = status == _ffi.END
        if status != _ffi.OK:
            return None
        n = c_size_t()
        id = borrowed(lib.rsd_reply_id(reply, byref(n)), n.value).decode()
        text = borrowed(lib.rsd_reply_text(reply, byref(n)), n.value).decode("utf-8", "replace")
        correct = lib.rsd_reply_correct(reply)
        return Collected(id, lib.rsd_reply_sample(reply), text, None if correct < 0 else bool(correct))

    def replies(self, wait_ms: int = 1000) -> Iterator[Collected]:
        """Works until nothing is queued or in flight."""
        while True:
            reply = self.poll(wait_ms)
            if reply:
                yield reply
            elif self.finished:
                return

    def wait_fds(self) -> tuple[list[tuple[int, int]], float]:
        """For an event loop of the host's: (descriptor, selectors.EVENT_READ | EVENT_WRITE) of the requests in flight, and the seconds
        to wait at most. Then, or when one is ready, or after submit: poll() until it gives None. See rsd_teacher_wait_fds."""
        room = 64
        while True:
            fds, n, ms = (_ffi.Fd * room)(), c_size_t(), c_int()
            self.check(lib.rsd_teacher_wait_fds(self.pointer, fds, room, byref(n), byref(ms)))
            if n.value <= room:
                return [(f.fd, f.events) for f in fds[:n.value]], ms.value / 1000
            room = n.value

    def stop(self) -> None:
        """Starts no further request; what is in flight still comes."""
        self.check(lib.rsd_teacher_stop(self.pointer))

    def stats(self) -> dict[str, int | float]:
        s = _ffi.TeacherStats(size=ctypes.sizeof(_ffi.TeacherStats))
        self.check(lib.rsd_teacher_stats_get(self.pointer, byref(s)))
        return {name: getattr(s, name) for name, _ in s._fields_ if name != "size"}


def _report(r: _ffi.StoreReport) -> dict[str, int]:
    return {name: int(getattr(r, name)) for name, *_ in r._fields_ if name != "size"}


def _new_report() -> _ffi.StoreReport:
    return _ffi.StoreReport(size=ctypes.sizeof(_ffi.StoreReport))


def verify_store(context: Context, path: str | Path) -> tuple[dict[str, int], str | None]:
    """Counts of a store's rows, and what is wrong with it first: None where nothing is. Changes nothing."""
    r = _new_report()
    status = lib.rsd_store_verify(context.pointer, os.fsencode(path), byref(r))
    if status not in (_ffi.OK, _ffi.EFORMAT):
        context.check(status)
    return _report(r), None if status == _ffi.OK else lib.rsd_ctx_error(context.pointer).decode("utf-8", "replace")


def compact_store(context: Context, path: str | Path, gzip_to: str | Path | None = None) -> dict[str, int]:
    """Rewrites a store without second rows and a torn end; with gzip_to into that file, compressed, and the store stays. Bad lines go
    to a file beside, `.rejected`."""
    r = _new_report()
    if gzip_to is None:
        context.check(lib.rsd_store_compact(context.pointer, os.fsencode(path), byref(r)))
    else:
        context.check(lib.rsd_store_gzip(context.pointer, os.fsencode(path), os.fsencode(gzip_to), byref(r)))
    return _report(r)


@dataclass(frozen=True)
class QuestionStats:
    """What the replies to one question came to. majority: the answer that most state, "" if none does."""

    id: str
    total: int
    labelled: int
    kept: int
    majority: str
    votes: int
    majority_correct: bool | None


def store_stats(context: Context, path: str | Path, parser: str = "strict") -> tuple[list[QuestionStats], dict[str, int]]:
    """Per question, in the order of the store, and the counts of all. parser: how the answers that vote are found, "strict" or "lenient"."""
    found: list[QuestionStats] = []

    def take(_user: object, p: Any) -> int:
        q = p.contents
        found.append(QuestionStats(borrowed(q.id, q.id_len).decode(), q.total, q.labelled, q.kept,
                                   borrowed(q.majority, q.majority_len).decode("utf-8", "replace"), q.votes,
                                   None if q.majority_correct < 0 else bool(q.majority_correct)))
        return 0

    r = _new_report()
    context.check(lib.rsd_store_stats(context.pointer, os.fsencode(path), _parser(parser), _ffi.QuestionStatsFn(take), None, byref(r)))
    return found, _report(r)


KINDS = [lib.rsd_kind_name(k).decode() for k in range(7)]  # in the order of rsd_kind


@dataclass(frozen=True)
class Alignment:
    """S student pieces with their target rows: row s is row_ids[row_offsets[s]:row_offsets[s+1]] with row_probs."""

    text: str
    student_ids: NDArray[np.int32]
    map_offsets: NDArray[np.uint32]
    map: NDArray[np.uint32]
    row_offsets: NDArray[np.uint32]
    row_ids: NDArray[np.int32]
    row_probs: NDArray[np.float32]
    placed: NDArray[np.float32]
    given: NDArray[np.float32]
    kinds: list[str]
    tails: NDArray[np.float32]
    weights: NDArray[np.float32]


class Aligner(Handle):
    """Carries teacher tokens over to student pieces. method: "span" or "dtw". weights: what positions of a kind weigh in losses.
    top_logprobs: alternatives a token that the teacher was asked for; replies with others are bad (0: any)."""

    _close = lib.rsd_aligner_close

    def __init__(self, context: Context, tokenizer: Tokenizer, method: str = "span", cut_after_answer: bool = True,
                 weights: Mapping[str, float] | None = None, top_logprobs: int = 0) -> None:
        super().__init__(context, tokenizer)
        if method not in ("span", "dtw"):
            raise ValueError(f"method is 'span' or 'dtw', not {method!r}")
        o = filled(_ffi.AlignerOptions, lib.rsd_aligner_options_init, {"method": int(method == "dtw"), "cut_after_answer": int(cut_after_answer),
                                                                              "top_logprobs": top_logprobs})
        for kind, weight in (weights or {}).items():
            if kind not in KINDS:
                raise ValueError(f"there is no kind {kind!r}; known: {', '.join(KINDS)}")
            o.kind_weights[KINDS.index(kind)] = weight
        self.check(lib.rsd_aligner_open(context.pointer, tokenizer.pointer, byref(o), byref(self._p)))

    def align(self, reply: Reply, text: str | None = None) -> Alignment:
        """Of the reply's own text, or of one that is not quite its own: cut, cleaned, written anew in places (rsd_aligner_align_text)."""
        p = POINTER(_ffi.Alignment)()
        if text is None:
            self.check(lib.rsd_aligner_align(self.pointer, reply.pointer, byref(p)))
        else:
            data = text.encode()
            self.check(lib.rsd_aligner_align_text(self.pointer, reply.pointer, data, len(data), byref(p)))
        a = p.contents
        s = a.n_student
        map_offsets, row_offsets = _copy(a.map_offsets, s + 1, np.uint32), _copy(a.row_offsets, s + 1, np.uint32)
        rows = int(row_offsets[-1]) if s else 0
        return Alignment(borrowed(a.text, a.text_len).decode("utf-8", "replace"), _copy(a.student_ids, s, np.int32), map_offsets,
                         _copy(a.map, int(map_offsets[-1]) if s else 0, np.uint32), row_offsets, _copy(a.row_ids, rows, np.int32),
                         _copy(a.row_probs, rows, np.float32), _copy(a.placed, s, np.float32), _copy(a.given, s, np.float32),
                         [KINDS[int(k)] for k in _copy(a.kinds, s, np.uint8)], _copy(a.tails, s, np.float32), _copy(a.weights, s, np.float32))

    def json(self) -> dict:
        """The last alignment as a line of `align --json`."""
        p, n = c_void_p(), c_size_t()
        self.check(lib.rsd_aligner_json(self.pointer, byref(p), byref(n)))
        return json.loads(borrowed(p.value, n.value))

    def heatmap(self) -> dict:
        """Where the mass of the last alignment comes from: tokens, pieces, kinds, cells [[token, piece, mass], ...]. The reply must still be
        open. See rsd_aligner_heatmap."""
        p, n = c_void_p(), c_size_t()
        self.check(lib.rsd_aligner_heatmap(self.pointer, byref(p), byref(n)))
        return json.loads(borrowed(p.value, n.value))

    def align_file(self, source: str | Path, out: str | Path, skip_bad: bool = False) -> dict[str, object]:
        """Every reply of a file into an aligned shard."""
        r = _ffi.AlignReport(size=ctypes.sizeof(_ffi.AlignReport))
        self.check(lib.rsd_aligner_file(self.pointer, str(source).encode(), str(out).encode(), skip_bad, byref(r)))
        kinds = {name: int(r.kinds[k]) for k, name in enumerate(KINDS)}
        return {"replies": r.replies, "skipped": r.skipped, "positions": r.positions, "kinds": kinds, "placed": r.placed, "given": r.given,
                "kind_placed": dict(zip(KINDS, r.kind_placed)), "kind_given": dict(zip(KINDS, r.kind_given))}
