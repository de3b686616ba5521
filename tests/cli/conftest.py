"""A small world for the command: word problems, a teacher's replies, a student, and everything the verbs make of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

COMMAND = os.environ["REASONDISTILL"]


class World:
    """A folder in which the command is run; names are relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *args: object, stdin: bytes = b"", timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[bytes]:
        more.setdefault("stdout", subprocess.PIPE)
        command = [COMMAND, *map(str, args)]
        return subprocess.run(command, input=stdin, stderr=subprocess.PIPE, cwd=self.folder, timeout=timeout, check=False, **more)

    def done(self, *args: object, **more: Any) -> str:
        result = self.run(*args, **more)
        assert result.returncode == 0, result.stderr
        return result.stdout.decode()

    def lines(self, *args: object, stdin: bytes, status: int = 0) -> list[dict[str, Any]]:
        result = self.run(*args, stdin=stdin)
        assert result.returncode == status, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    def write(self, name: str, content: bytes | str | dict[str, Any]) -> Path:
        path = self.folder / name
        if isinstance(content, dict):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("cli")
    made = [os.environ["WORDPROBLEMS"], "--out", folder, "--problems", "40", "--heldout", "10"]
    subprocess.run(made, check=True, capture_output=True)
    w = World(folder)
    w.done("init", "--config", "config.json", "--tokenizer", "spiece.model", "--out", "student")
    w.done("collect", "--questions", "train.jsonl", "--teacher", "replay:replies.jsonl", "--out", "teacher.jsonl")
    w.done("align", "--tokenizer", "spiece.model", "--in", "teacher.jsonl", "--out", "aligned.rsd")
    w.done("build", "--questions", "train.jsonl", "--in", "aligned.rsd", "--out", "data")
    w.write("run.json", {"model": "student", "data": "data", "out": "run", "formats": {"zs-cot": 1}, "steps": 4,
                         "batch_tokens": 256, "lr": 1e-3, "save_every": 2, "log_every": 1, "threads": 1})
    (folder / "folder").mkdir()
    (folder / "folder" / "kept").touch()
    w.write("empty", "")
    w.write("text", "hello\n")
    return w
