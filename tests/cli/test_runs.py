"""Runs and stores that were stopped, killed, damaged, or opened twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from conftest import COMMAND, World


def figures(world: World, run: str) -> list[dict]:
    """metrics.jsonl without the times."""
    lines = world.read(f"{run}/metrics.jsonl").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def configure(world: World, out: str, **more: object) -> str:
    config = json.loads(world.read("run.json"))
    config.update({"out": out, "steps": 40, "save_every": 5, "keep": 2, **more})
    world.write(f"{out}.json", config)
    return f"{out}.json"


@pytest.fixture(scope="module")
def whole(world: World) -> World:
    world.done("train", configure(world, "whole"))
    return world


def last_model(world: World, run: str) -> bytes:
    return world.read(f"{run}/checkpoints/step-40/model.safetensors")


def start(world: World, *args: str) -> subprocess.Popen[bytes]:
    # a shell's background job ignores SIGINT, and a child inherits that
    return subprocess.Popen([COMMAND, *args], cwd=world.folder, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_stopped_run_goes_on_to_the_same_bits(whole: World, number: signal.Signals) -> None:
    shutil.rmtree(whole.folder / "stopped", ignore_errors=True)
    config = configure(whole, "stopped")
    child = start(whole, "train", config)
    while not (whole.folder / "stopped/checkpoints/step-5").exists() and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(number)
    text = child.communicate()[1].decode()
    if child.returncode != 0:  # it may have been quicker than the signal
        assert child.returncode == (-number if number == signal.SIGKILL else 1)
        go_on = "stopped and saved in stopped: go on with: reasondistill train stopped.json --resume"
        assert number == signal.SIGKILL or go_on in text
    whole.done("train", config, "--resume")
    assert figures(whole, "stopped") == figures(whole, "whole")
    assert last_model(whole, "stopped") == last_model(whole, "whole")
    assert sorted(os.listdir(whole.folder / "stopped/checkpoints"))[-1] == "step-40"


@pytest.fixture
def copy(whole: World) -> Iterator[World]:
    config = configure(whole, "copy")
    shutil.copytree(whole.folder / "whole", whole.folder / "copy")
    run = json.loads(whole.read("copy/run.json"))
    whole.write("copy/run.json", {**run, "out": "copy"})
    assert config == "copy.json"
    yield whole
    shutil.rmtree(whole.folder / "copy")


def flip(data: bytes) -> bytes:
    return data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1:]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.safetensors", "trainer.json", "config.json", "spiece.model"])
@pytest.mark.parametrize("damage", [flip, lambda d: d[:len(d) // 2], lambda d: b"", None],
                         ids=["flipped", "cut", "empty", "missing"])
def test_a_damaged_checkpoint_is_passed_over(copy: World, name: str, damage: Callable[[bytes], bytes] | None) -> None:
    path = copy.folder / "copy/checkpoints/step-40" / name
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    result = copy.run("train", "copy.json", "--resume")
    assert result.returncode == 0 and b"checkpoint step-40 is damaged and passed over: copy/checkpoints/step-40/" in result.stderr
    assert figures(copy, "copy") == figures(copy, "whole")
    assert last_model(copy, "copy") == last_model(copy, "whole")


def test_a_run_is_not_begun_twice(whole: World) -> None:
    before = whole.read("whole/metrics.jsonl")
    result = whole.run("train", "whole.json")
    assert result.returncode == 1
    assert result.stderr == b'reasondistill: whole: holds a run: go on with --resume, or choose another "out"\n'
    assert whole.read("whole/metrics.jsonl") == before


def test_another_configuration_does_not_go_on_with_a_run(copy: World) -> None:
    configure(copy, "copy", lr=5e-4)
    result = copy.run("train", "copy.json", "--resume")
    assert result.returncode == 1 and b'key "lr" was 0.001 when the run was started and is 0.0005 now' in result.stderr


def test_one_process_at_a_time_writes_a_run_or_a_store(whole: World) -> None:
    collect = ["collect", "--questions", "train.jsonl", "--teacher", "replay:replies.jsonl", "--out", "locked.jsonl"]
    for name, command in [("copy/metrics.jsonl", ["train", "copy.json", "--resume"]), ("locked.jsonl", collect)]:
        if name.startswith("copy"):
            configure(whole, "copy", steps=1000000)
        else:
            os.mkfifo(whole.folder / "questions")
            command[2] = "questions"  # never answers: the store stays open
        child = start(whole, *command)
        try:
            limit = time.monotonic() + 60
            while not (whole.folder / name).exists() and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(0.2)
            second = whole.run(*[c if c != "questions" else "train.jsonl" for c in command])
            assert second.returncode == 1 and f"{name}: is being written by another process" in second.stderr.decode()
        finally:
            child.kill()
            child.communicate()
    shutil.rmtree(whole.folder / "copy")


@pytest.mark.parametrize(("tail", "rows"), [
    (lambda d: d[:-100], 39), (lambda d: d + b'{"id":"x', 40), (lambda d: d[:-50] + b"\0" * 50, 39), (lambda d: b"", 0),
], ids=["torn", "begun", "zeroed", "empty"])
def test_a_torn_store_is_repaired_and_asked_for_what_it_lacks(world: World, tail: Callable[[bytes], bytes], rows: int) -> None:
    world.write("torn.jsonl", tail(world.read("teacher.jsonl")))
    result = world.run("collect", "--questions", "train.jsonl", "--teacher", "replay:replies.jsonl", "--out", "torn.jsonl")
    text = result.stderr.decode()
    assert result.returncode == 0 and f"collected {40 - rows} replies to 40 questions ({rows} were there already)" in text
    assert world.read("torn.jsonl") == world.read("teacher.jsonl")


def test_an_unreachable_host_is_named(world: World) -> None:
    result = world.run("collect", "--questions", "train.jsonl", "--teacher", "http://127.0.0.1:9/v1", "--model", "m",
                       "--retries", 0, "--out", "none.jsonl")
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1 and len(lines) == 2, lines
    assert "http://127.0.0.1:9/v1" in lines[0] and "40 failed" in lines[1]
    assert world.read("none.jsonl") == b""
