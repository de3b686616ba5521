"""The three example programs and the command that they go with, on a random model. Needs the standard library and the built programs.

    EXAMPLES=build/examples REASONDISTILL=build/src/cli/reasondistill python3 -m pytest tests/examples
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(os.environ["EXAMPLES"])


def run(*command: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("programs")
    run(EXAMPLES / "wordproblems", "--out", out, "--problems", 20, "--heldout", 5)
    run(os.environ["REASONDISTILL"], "init", "--config", out / "config.json", "--tokenizer", out / "spiece.model", "--out", out / "student")
    return out


def test_train_step_lowers_the_loss(folder: Path) -> None:
    losses = [float(x) for x in re.findall(r"loss (\S+)", run(EXAMPLES / "train_step", folder / "student").stdout)]
    assert len(losses) == 10 and losses[-1] < losses[0] / 2


def test_ask_and_align_prints_a_line_for_each_piece_of_the_reply(folder: Path) -> None:
    reply = json.loads((folder / "replies.jsonl").read_text(encoding="utf-8").split("\n")[0])
    out = run(EXAMPLES / "ask_and_align", f"replay:{folder}/replies.jsonl", folder / "spiece.model", reply["question"]).stdout
    text, table = out.split("\n\n", 1)
    rows = table.splitlines()[1:]
    assert text == reply["choices"][0]["text"]
    assert "".join(row.split()[1] for row in rows).replace("\u2581", " ").split() == text.split()
    assert all(re.search(r"\|\t +\S+ [01]\.\d{3}", row) for row in rows)


def test_generate_prints_text_and_its_probability(folder: Path) -> None:
    out = run(EXAMPLES / "generate", folder / "student", "Q: Tom has 12 apples.").stdout
    assert re.search(r"\n\d+ tokens, probability \S+, (complete|cut off)\n$", out)


@pytest.mark.parametrize("command", [["generate", "no-such-folder", "x"], ["train_step", "no-such-folder"]])
def test_a_missing_model_is_named(command: list[str]) -> None:
    assert "no-such-folder" in run(EXAMPLES / command[0], *command[1:], status=1).stderr


def test_a_question_without_reply_is_said(folder: Path) -> None:
    done = run(EXAMPLES / "ask_and_align", f"replay:{folder}/replies.jsonl", folder / "spiece.model", "Why?", status=1)
    assert "have none to this question" in done.stderr
