"""What collect shows and says while it runs, and how it is stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from conftest import COMMAND, World

SERVER = Path(__file__).resolve().parent.parent / "tools" / "fault_server.py"
PRICED = ["--price-prompt", "1000", "--price-completion", "2000"]  # an answer: 10 and 5 tokens, 0.02


class Endpoint:
    """A fault_server."""

    def __init__(self, log: Path, *script: str) -> None:
        self.log = log
        self.process = subprocess.Popen([sys.executable, SERVER, log, *script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def requests(self) -> int:
        return len(self.log.read_text().splitlines())


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Endpoint]:
    e = Endpoint(tmp_path / "log", "ok", "400", *["slow:0.5"] * 100)
    yield e
    e.close()


def ask(url: str, out: str, *more: str) -> list[str]:
    return [COMMAND, "collect", "--questions", "train.jsonl", "--teacher", url, "--model", "m", "--api", "completions", "--concurrency", "2",
            "--out", out, *more]


def free_of_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and a child inherits that


def on_terminal(world: World, command: list[str], columns: int, until: str) -> str:
    """What the command draws until a part of it matches; then Ctrl-C and what follows, without that the command writes."""
    here, there = pty.openpty()
    ioctl(there, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(command, cwd=world.folder, stderr=there, preexec_fn=free_of_interrupts)
    os.close(there)
    drawn = ""
    try:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            try:
                drawn += os.read(here, 4096).decode()
            except OSError:  # the other end is closed
                break
            if until and re.search(until, drawn):
                child.send_signal(signal.SIGINT)
                until = ""
        assert child.wait(30) == 1, drawn
    finally:
        child.kill()
        child.wait()
        os.close(here)
    return drawn


def test_a_terminal_shows_how_far_the_run_is_and_ctrl_c_stores_what_is_in_flight(world: World, slow: Endpoint) -> None:
    drawn = on_terminal(world, ask(slow.url, "shown.jsonl", *PRICED), 200, r" [2-9]/40 replies")
    lines = re.findall(r"\[[#-]{20}\] +(\d+) %  (\d+)/40 replies, (\d+) correct, (\d+) failed, (\d+) tokens, cost ([0-9.]+), \d+s left", drawn)
    assert lines, drawn
    for share, done, correct, failed, tokens, cost in lines:
        stored = int(done) - int(failed)
        assert abs(int(share) - 2.5 * int(done)) <= 0.5 and int(correct) <= stored and int(tokens) == 15 * stored, drawn
        assert abs(float(cost) - 0.02 * stored) < 1e-9, drawn
    assert lines[-1][3] == "1", drawn
    assert re.search(r"stopping: [12] replies are in flight", drawn), drawn
    rows = world.read("shown.jsonl").splitlines()
    assert f"collected {len(rows)} replies to 40 questions" in drawn and "the same command goes on where it stopped" in drawn
    # every request but the refused one came back and was stored
    assert slow.requests() == len(rows) + 1 < 20


@pytest.mark.parametrize("columns", [80, 40])
def test_the_line_fits_the_terminal(world: World, slow: Endpoint, columns: int) -> None:
    drawn = on_terminal(world, ask(slow.url, f"narrow{columns}.jsonl", *PRICED), columns, r"[2-9]/40 repl")
    lines = [part for part in drawn.split("stopping")[0].split("\r") if "/40 repl" in part]
    assert lines and all(len(part.split("\n")[0]) < columns for part in lines), lines


def test_check_says_what_recorded_log_probabilities_are_good_for(world: World) -> None:
    check = ["collect", "--check", "--questions", "train.jsonl", "--teacher"]
    replies = [json.loads(line) for line in world.read("replies.jsonl").splitlines()[:3]]

    def answer(name: str, logprobs: bool, *more: object) -> tuple[int, str]:
        for reply in replies:
            told = reply["choices"][0].get("logprobs") or {"tokens": [""]}
            tops = [{t: -0.5, "?": -1.5} for t in told["tokens"]]
            reply["choices"][0]["logprobs"] = {**told, "token_logprobs": [-0.5] * len(tops), "top_logprobs": tops} if logprobs else None
        world.write(name, "".join(json.dumps(r) + "\n" for r in replies))
        result = world.run(*check, f"replay:{name}", *more)
        return result.returncode, result.stdout.decode()

    status, said = answer("both.jsonl", True, "--top-logprobs", 2)
    assert status == 0 and re.search(r"^fewer than asked +0 tokens$.*^verdict +distribution matching is possible$", said, re.M | re.S), said
    status, said = answer("capped.jsonl", True, "--top-logprobs", 5)
    assert status == 0 and "2 at most, 5 asked for: the endpoint caps them" in said, said
    status, said = answer("text_only.jsonl", False)
    assert status == 1 and re.search(r"^logprobs missing +3 replies$.*^verdict +no log-probabilities", said, re.M | re.S), said
