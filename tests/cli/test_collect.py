"""What collect asks for, shows and says while it runs, and how it is stopped; and what it makes of stores."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from conftest import COMMAND, World

TOOLS = Path(__file__).resolve().parent.parent / "tools"
PRICED = ["--price-prompt", "1000", "--price-completion", "2000"]  # an answer: 10 and 5 tokens, 0.02


class Endpoint:
    """A fault_server, or another one of tests/tools."""

    def __init__(self, log: Path, *script: str | Path, tool: str = "fault_server.py", scheme: str = "http") -> None:
        self.log = log
        self.process = subprocess.Popen([sys.executable, TOOLS / tool, log, *script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"{scheme}://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def seen(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def requests(self) -> int:
        return len(self.seen())


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Endpoint]:
    e = Endpoint(tmp_path / "log", "ok", "400", *["slow:0.5"] * 100)
    yield e
    e.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    """Starts servers that end with the test."""
    started: list[Endpoint] = []

    def start(*script: str | Path, **how: str) -> Endpoint:
        started.append(Endpoint(tmp_path / f"log{len(started)}", *script, **how))
        return started[-1]

    yield start
    for e in started:
        e.close()


def few(world: World, n: int) -> str:
    """A file of short questions."""
    world.write("few.jsonl", "".join(json.dumps({"id": f"q{i}", "question": f"{i}+1?", "answer": str(i + 1)}) + "\n" for i in range(n)))
    return "few.jsonl"


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


def test_check_asks_a_few_questions_of_its_own(world: World, serve: Callable[..., Endpoint]) -> None:
    endpoint = serve()
    said = world.done("collect", "--check", "--teacher", endpoint.url, "--model", "m", "--top-logprobs", 2)
    assert re.search(r"^interface +completions$.*^replies +3, 15 tokens$.*^verdict +distribution matching is possible$", said, re.M | re.S), said
    assert len({json.loads(r["body"])["prompt"] for r in endpoint.seen()}) == endpoint.requests() == 3


# ---- what is set at the command ----

def test_a_chat_request_holds_what_was_set(world: World, serve: Callable[..., Endpoint]) -> None:
    endpoint = serve()
    for name, content in [("shots", "Q: 1+1?\nA: 2\n\n"), ("system", "Be brief."), ("headers", "X-Team: reasoning\n"), ("key", "sk-file\n")]:
        world.write(name, content)
    world.done("collect", "--questions", few(world, 1), "--teacher", endpoint.url, "--model", "m", "--api", "chat", "--prompt", "shots",
               "--system", "system", "--template", "Q: {question}\nA:", "--samples", 5, "--per-request", 2, "--concurrency", 1, "--temperature", 0.25,
               "--top-p", 0.75, "--top-logprobs", 2, "--max-tokens", 77, "--stop", "\n\n", "--seed", 11, "--extra", '{"user":{"name":"me"}}',
               "--headers", "headers", "--api-key-file", "key", "--key-header", "api-key", "--out", "chat.jsonl")
    bodies = [json.loads(r["body"]) for r in endpoint.seen()]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q: 1+1?\nA: 2\n\nQ: 0+1?\nA:"}]
    same = {"model": "m", "messages": messages, "logprobs": True, "top_logprobs": 2, "temperature": 0.25, "top_p": 0.75, "max_tokens": 77,
            "stop": "\n\n", "user": {"name": "me"}}
    assert bodies == [{**same, "seed": 11, "n": 2}, {**same, "seed": 13, "n": 2}, {**same, "seed": 15, "n": 1}]
    for r in endpoint.seen():
        assert r["path"] == "/v1/chat/completions" and r["headers"]["X-Team"] == "reasoning" and r["headers"]["api-key"] == "sk-file" and r["key"] == ""
    assert len(world.read("chat.jsonl").splitlines()) == 5


def test_a_completion_request_holds_what_was_set(world: World, serve: Callable[..., Endpoint]) -> None:
    endpoint = serve()
    world.done("collect", "--questions", few(world, 1), "--teacher", endpoint.url, "--model", "m", "--api", "completions", "--stop", '["a","b"]',
               "--extra", '{"max_tokens":null,"n_predict":9}', "--api-key-env", "KEY_OF_A_TEST", "--out", "completion.jsonl",
               env={**os.environ, "KEY_OF_A_TEST": "sk-env"})
    [r] = endpoint.seen()
    assert json.loads(r["body"]) == {"model": "m", "prompt": "Question: 0+1?\nLet's think step by step\n", "logprobs": 5, "temperature": 0.5,
                                     "stop": ["a", "b"], "n_predict": 9, "n": 1}
    assert r["path"] == "/v1/completions" and r["key"] == "Bearer sk-env"


@pytest.mark.parametrize(("api", "k", "asked"), [
    ("chat", 0, {"logprobs": True}), ("chat", 20, {"logprobs": True, "top_logprobs": 20}), ("completions", 0, {"logprobs": 0}), ("completions", 20, {"logprobs": 20}),
])
def test_alternatives_are_asked_for_in_the_words_of_the_interface(world: World, serve: Callable[..., Endpoint], api: str, k: int, asked: dict) -> None:
    endpoint = serve()
    (world.folder / "k.jsonl").unlink(missing_ok=True)
    command = ["collect", "--questions", few(world, 1), "--teacher", endpoint.url, "--model", "m", "--api", api, "--out", "k.jsonl", "--top-logprobs"]
    assert world.run(*command, 21).returncode == 2
    world.done(*command, k)
    [r] = endpoint.seen()
    assert {key: v for key, v in json.loads(r["body"]).items() if "logprobs" in key} == asked


BUDGET = ["--max-tokens", "20", "--concurrency", "2"]


@pytest.mark.parametrize(("script", "flags", "says", "rows"), [
    ([], [*BUDGET, "--budget-tokens", "400"], "the budget holds no further request", range(1, 40)),
    ([], [*BUDGET, "--price-prompt", "1000", "--price-completion", "1000", "--budget", "0.4"], "the budget holds no further request", range(1, 40)),
    (["429:3600"], ["--max-wait", "2"], "the endpoint asked for a longer wait than --max-wait", range(40)),
    (["slow:30"], ["--first-byte-timeout", "2", "--retries", "0"], "no answer began within 2 seconds", [39]),
    (["slow:30"], ["--timeout", "2", "--retries", "0"], "timed out", [39]),
    (["503", "503"], ["--retries", "1", "--concurrency", "1"], "after 2 tries", [39]),
    (["large"], ["--max-body", "65536"], "more than 65536 bytes", [39]),
    (["nologprobs"], [], "no token log-probabilities", [39]),
], ids=["tokens", "money", "long wait", "first byte", "timeout", "retries", "size", "no logprobs"])
def test_limits_of_a_run_are_kept(world: World, serve: Callable[..., Endpoint], script: list[str], flags: list[str], says: str, rows: Sequence[int]) -> None:
    (world.folder / "limited.jsonl").unlink(missing_ok=True)
    result = world.run(*ask(serve(*script).url, "limited.jsonl")[1:], *flags)
    assert result.returncode == 1 and says in result.stderr.decode(), result.stderr
    assert len(world.read("limited.jsonl").splitlines()) in rows, result.stderr


@pytest.mark.parametrize(("flags", "seconds"), [
    (["--requests-per-minute", "90"], 0.9),  # one and a half a second, the first seven at once
    (["--max-tokens", "20", "--tokens-per-minute", "1200"], 1.5),  # 20 a second, the first 100 at once; an answer takes 15
], ids=["requests", "tokens"])
def test_limits_a_minute_are_kept(world: World, serve: Callable[..., Endpoint], flags: list[str], seconds: float) -> None:
    (world.folder / "paced.jsonl").unlink(missing_ok=True)
    command = ["collect", "--questions", few(world, 9), "--teacher", serve().url, "--model", "m", "--api", "completions", "--concurrency", 1,
               "--out", "paced.jsonl", *flags]
    begun = time.monotonic()
    world.done(*command)
    assert time.monotonic() - begun >= seconds and len(world.read("paced.jsonl").splitlines()) == 9


def test_replies_without_log_probabilities_are_kept_where_text_is_enough(world: World, serve: Callable[..., Endpoint]) -> None:
    world.done("collect", "--questions", few(world, 2), "--teacher", serve(*["nologprobs"] * 2).url, "--model", "m", "--api", "completions",
               "--text-too", "--out", "text_too.jsonl")
    assert [json.loads(line)["logprobs"] for line in world.read("text_too.jsonl").splitlines()] == [None, None]


def test_certificates_and_versions_are_chosen_at_the_command(world: World, serve: Callable[..., Endpoint], tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command")
    pem, key = tmp_path / "s.pem", tmp_path / "s.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", pem, "-days", "3650",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    plain, h2 = serve(pem, key, tool="tls_server.py", scheme="https"), serve(pem, key, "h2:1", tool="tls_server.py", scheme="https")

    def one(endpoint: Endpoint, *flags: str | Path) -> tuple[int, str]:
        (world.folder / "tls.jsonl").unlink(missing_ok=True)
        result = world.run("collect", "--questions", few(world, 1), "--teacher", endpoint.url, "--model", "m", "--api", "completions",
                           "--retries", 0, "--out", "tls.jsonl", *flags)
        return result.returncode, result.stderr.decode()

    status, said = one(plain)
    assert status == 1 and re.search("certificate|SSL", said), said
    assert one(plain, "--insecure")[0] == one(plain, "--ca-file", pem)[0] == one(h2, "--insecure")[0] == 0
    assert one(h2, "--insecure", "--http1")[0] == 1  # this one speaks HTTP/2 only


# ---- stores ----

def rows_of(*texts: tuple[str, bool]) -> str:
    return "".join(json.dumps({"id": "a", "sample": i, "question": "3+4?", "text": t, "tokens": None, "correct": c}) + "\n"
                   for i, (t, c) in enumerate(texts))


def test_a_store_is_checked_and_mended(world: World) -> None:
    good = rows_of(("The answer is 7", True), ("The answer is 8", False))
    world.write("double.jsonl", good + good.splitlines()[0] + "\n")
    result = world.run("collect", "--out", "double.jsonl", "--verify")
    said = result.stderr.decode()
    assert result.returncode == 1 and "double.jsonl, line 3: a second row for question a, sample 0" in said, said
    assert "2 rows of 1 questions, 1 of 2 labelled rows correct" in said and "1 duplicates" in said, said
    world.done("collect", "--out", "double.jsonl", "--compact")
    assert world.read("double.jsonl") == good.encode()
    world.done("collect", "--out", "double.jsonl", "--verify")


@pytest.mark.parametrize(("parser", "majority", "votes", "right"), [("strict", "8", 1, False), ("lenient", "so 7", 2, True)])
def test_replies_to_a_question_are_counted_and_vote(world: World, parser: str, majority: str, votes: int, right: bool) -> None:
    world.write("votes.jsonl", rows_of(("The answer is 8", False), ("so 7", True), ("#### 7.0", True)))
    result = world.run("collect", "--out", "votes.jsonl", "--stats", "--parser", parser)
    assert result.returncode == 0, result.stderr
    [line] = [json.loads(x) for x in result.stdout.splitlines()]
    assert abs(line.pop("accuracy") - 2 / 3) < 1e-9
    assert line == {"id": "a", "total": 3, "kept": 2, "majority": majority, "votes": votes, "majority_correct": right}
    assert f"kept 2 of 3, single accuracy 66.7 %, majority accuracy {100.0 * right:.1f} % ({int(right)} of 1 questions)" in result.stderr.decode()


@pytest.mark.parametrize(("parser", "correct"), [("strict", 0), ("lenient", 1)])
def test_labels_are_those_of_the_parser(world: World, parser: str, correct: int) -> None:
    world.write("short.jsonl", json.dumps({"id": "r", "question": "0+1?", "choices": [{"text": "so 1", "logprobs": None}]}) + "\n")
    (world.folder / "labels.jsonl").unlink(missing_ok=True)
    result = world.run("collect", "--questions", few(world, 1), "--teacher", "replay:short.jsonl", "--text-too", "--parser", parser, "--out", "labels.jsonl")
    assert result.returncode == 0 and f": {correct} correct," in result.stderr.decode(), result.stderr
    assert [json.loads(line)["correct"] for line in world.read("labels.jsonl").splitlines()] == [bool(correct)]
