"""Parts of an experiment that are computed once, some at a time, in a folder that survives being killed.

A part has a name, a configuration, and the parts that it needs. Its folder carries a checksum of all three, so a part of another configuration is another
folder and a finished one is never computed again. `part.json` appears last, whole: a folder without it is gone on with. What a part does is to run commands
(`Part.run`) and to return a dictionary of figures; training goes on from its newest checkpoint, an evaluation that has been written is not repeated.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Sequence

ROOM_OF_A_NAME = 12  # hexadecimal digits of the checksum in a folder's name


class Stopped(Exception):
    """The run was told to stop; what is finished is kept."""


class Failed(Exception):
    """A command failed; the message says which and why."""


def write_json(path: Path, value: Any) -> None:
    """The file is there complete or as it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with part.open("w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, allow_nan=False)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def checksum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


_prctl = getattr(ctypes.CDLL(None), "prctl", None) if os.name == "posix" else None


def _die_with_the_parent() -> None:
    """A trainer whose driver was killed would go on and hold its run directory. Linux only; elsewhere it ends by itself."""
    if _prctl:
        _prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def clock(seconds: float) -> str:
    """1:05, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class Part:
    def __init__(self, lab: Lab, name: str, config: dict, needs: Sequence[Part], work: Callable[[Part], dict], cost: float) -> None:
        self.lab, self.name, self.config, self.needs, self.work, self.cost = lab, name, config, list(needs), work, cost
        self.key = checksum([name, config, [n.key for n in needs]])
        self.folder = lab.parts / f"{name}-{self.key[:ROOM_OF_A_NAME]}"
        self._record: dict | None = None

    @property
    def done(self) -> bool:
        return self._record is not None or (self.folder / "part.json").is_file()

    @property
    def record(self) -> dict:
        """What part.json holds: config, seconds, build, figures."""
        if self._record is None:
            self._record = read_json(self.folder / "part.json")
        return self._record

    @property
    def figures(self) -> dict:
        return self.record["figures"]

    def run(self, *command: object) -> str:
        """Runs a command in the part's folder with one thread; its output is returned and kept in log.txt. Failed with the last lines if it fails."""
        return self.lab.command(self.folder, [str(c) for c in command])

    def finish(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        spent = self.folder / "seconds.json"
        before = read_json(spent) if spent.is_file() else 0.0
        begin = time.monotonic()
        try:
            figures = self.work(self)
        finally:
            seconds = before + time.monotonic() - begin
            write_json(spent, seconds)
        self._record = {"name": self.name, "config": self.config, "needs": [n.folder.name for n in self.needs], "seconds": round(seconds, 2),
                        "build": self.lab.build, "figures": figures}
        write_json(self.folder / "part.json", self._record)


class Lab:
    """The folder of an experiment, and what runs in it."""

    def __init__(self, out: Path, workers: int, build: str, say: Callable[[str], None] = print) -> None:
        self.out, self.parts, self.workers, self.build, self.say = out, out / "parts", workers, build, say
        self.all: list[Part] = []
        self._stop = threading.Event()
        self._lock = threading.Condition()
        self._children: set[subprocess.Popen] = set()
        self._alive = None  # a locked file that every command has open

    def part(self, name: str, config: dict, needs: Sequence[Part], work: Callable[[Part], dict], cost: float = 1.0) -> Part:
        """A new part; the same name, configuration and needs give the one that is there. cost: seconds it should take, to tell how long the rest will."""
        new = Part(self, name, config, needs, work, cost)
        for old in self.all:
            if old.folder == new.folder:
                return old
        self.all.append(new)
        return new

    def wait_for_orphans(self) -> None:
        """The commands of a driver that was killed save and end by themselves: nothing begins before they have."""
        if self._alive is None:
            self.out.mkdir(parents=True, exist_ok=True)
            self._alive = (self.out / ".alive").open("a")
        try:
            fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.say("waiting for the last commands of a call that was killed")
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def command(self, folder: Path, command: list[str]) -> str:
        with self._lock:
            if self._stop.is_set():
                raise Stopped
            child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                     encoding="utf-8", errors="replace", env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                                     pass_fds=[self._alive.fileno()] if self._alive else [], preexec_fn=_die_with_the_parent if _prctl else None)
            self._children.add(child)
        output, _ = child.communicate()
        with self._lock:
            self._children.discard(child)
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write("$ " + " ".join(command) + "\n" + output)
        if self._stop.is_set() and child.returncode:
            raise Stopped
        if child.returncode:
            raise Failed(f"{folder}: {' '.join(command)}: exit status {child.returncode}: {output.strip()[-600:]}")
        return output

    def stop(self, *_: object) -> None:
        """Asks for an end: children save and stop, nothing new begins. Usable as a signal handler."""
        self._stop.set()
        for child in list(self._children):
            try:
                child.send_signal(signal.SIGTERM)
            except OSError:
                pass

    def run(self, wanted: Sequence[Part], on_done: Callable[[Part], None] = lambda part: None) -> None:
        """Finishes all parts in the order given, as far as their needs allow, `workers` at a time. Raises what the first failing part raised."""
        waiting = [p for p in wanted if not p.done]
        total, begin = len(wanted), time.monotonic()
        if len(waiting) < total:
            self.say(f"{total - len(waiting)} of {total} parts were finished earlier")
        running: dict[str, float] = {}  # key: cost
        done = 0.0  # cost of what was finished in this call
        trouble: list[BaseException] = []

        def next_part() -> Part | None:
            with self._lock:
                while waiting and not trouble and not self._stop.is_set():
                    for p in waiting:
                        if all(n.done for n in p.needs):
                            waiting.remove(p)
                            running[p.key] = p.cost
                            return p
                    self._lock.wait(1)
            return None

        def left() -> float:
            """Seconds that the rest takes: the costs, corrected by how long the finished ones took, which counts little in the first minute."""
            return (sum(p.cost for p in waiting) + sum(running.values())) * (time.monotonic() - begin + 60) / (done + 60 * self.workers)

        def serve() -> None:
            nonlocal done
            while (p := next_part()) is not None:
                try:
                    p.finish()
                    with self._lock:
                        done += running.pop(p.key)
                        self.say(f"[{total - len(waiting) - len(running):3}/{total} {clock(time.monotonic() - begin)}, {clock(left())} left] {p.name}: {p.record['seconds']:.0f} s")
                        on_done(p)
                except BaseException as error:  # noqa: BLE001: handed to the caller of run
                    trouble.append(error)
                finally:
                    with self._lock:
                        running.pop(p.key, None)
                        self._lock.notify_all()

        if len(waiting) > 1:
            self.say(f"{len(waiting)} parts, about {clock(left())} on quiet cores")
        threads = [threading.Thread(target=serve) for _ in range(self.workers)]
        for t in threads:
            t.start()
        for t in threads:
            while t.is_alive():
                t.join(0.2)  # with a timeout, so that signals are seen
        failures = [e for e in trouble if not isinstance(e, Stopped)]
        if failures and not self._stop.is_set():
            raise failures[0]
        if self._stop.is_set():
            raise Stopped
