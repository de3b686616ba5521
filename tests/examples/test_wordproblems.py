"""Facts about the data that examples/wordproblems makes. Needs the standard library only.

    WORDPROBLEMS=build/examples/wordproblems python3 -m pytest tests/examples
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import pytest

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
ANSWER = re.compile(r"The answer is (\d+)$")


def generate(out: Path, *options: str) -> Path:
    subprocess.run([os.environ["WORDPROBLEMS"], "--out", str(out), *options], check=True, stdout=subprocess.DEVNULL)
    return out


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("made"), "--problems", "3000", "--heldout", "500", "--seed", "3")


def value(equation: tuple[str, str, str, str]) -> float:
    x, sign, y, _ = equation
    return {"+": int(x) + int(y), "-": int(x) - int(y), "*": int(x) * int(y), "/": int(x) / int(y)}[sign]


def test_same_options_same_bytes(made: Path, tmp_path: Path) -> None:
    again = generate(tmp_path / "again", "--problems", "3000", "--heldout", "500", "--seed", "3")
    other = generate(tmp_path / "other", "--problems", "3000", "--heldout", "500", "--seed", "4")
    for path in made.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    assert (made / "train.jsonl").read_bytes() != (other / "train.jsonl").read_bytes()


def test_rationales_are_right_and_end_in_the_answer(made: Path) -> None:
    for problem in lines(made / "train.jsonl") + lines(made / "heldout.jsonl"):
        equations = EQUATION.findall(problem["rationale"])
        assert 2 <= len(equations) <= 3
        assert all(value(e) == int(e[3]) <= 99 for e in equations)
        assert equations[-1][3] == problem["answer"]


def formula(problem: dict) -> tuple[str, list[str]]:
    """The arithmetic of a solution as one expression, results in between written out, and the numbers of the question: where an operand happens to equal a
    result the expression alone could mean two problems."""
    spelled: dict[str, str] = {}
    for x, sign, y, result in EQUATION.findall(problem["rationale"]):
        last = f"({spelled.get(x, x)}{sign}{spelled.get(y, y) if sign == '+' and x in spelled and y in spelled and x != y else y})"
        spelled[result] = last
    return last, sorted(re.findall(r"\d+", problem["question"]))


def test_no_heldout_problem_shares_the_arithmetic_of_a_training_problem(made: Path) -> None:
    train = [formula(p) for p in lines(made / "train.jsonl")]
    heldout = [formula(p) for p in lines(made / "heldout.jsonl")]
    assert len(heldout) == 500
    assert [key for key in heldout if key in train] == []


def test_some_replies_are_wrong_and_the_answer_tells(made: Path) -> None:
    wrong = 0
    for problem, reply in zip(lines(made / "train.jsonl"), lines(made / "replies.jsonl"), strict=True):
        assert (problem["id"], problem["question"]) == (reply["id"], reply["question"])
        text = reply["choices"][0]["text"]
        wrong += ANSWER.search(text).group(1) != problem["answer"]
        if all(value(e) == int(e[3]) for e in EQUATION.findall(text)):
            assert ANSWER.search(text).group(1) == problem["answer"]
    assert 0.03 < wrong / 3000 < 0.3


def test_replies_have_the_shape_of_the_completions_endpoint(made: Path) -> None:
    for reply in lines(made / "replies.jsonl"):
        choice = reply["choices"][0]
        logprobs = choice["logprobs"]
        assert "".join(logprobs["tokens"]) == choice["text"] and choice["finish_reason"] == "stop"
        at = len(f"Question: {reply['question']}\nLet's think step by step\n")
        for token, own, top, offset in zip(*(logprobs[k] for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")), strict=True):
            assert offset == at and top[token] == own <= 0
            assert sum(math.exp(x) for x in top.values()) < 1 + 1e-6
            at += len(token)


def test_reported_probabilities_are_those_the_replies_were_drawn_from(tmp_path: Path) -> None:
    """Every conditional distribution against the frequencies in 1,500 draws for each of 30 problems; 5 standard errors, a few thousand comparisons."""
    for reply in lines(generate(tmp_path, "--problems", "30", "--heldout", "0", "--samples", "1500") / "replies.jsonl"):
        drawn: dict[tuple, Counter] = defaultdict(Counter)
        told: dict[tuple, dict] = {}
        for choice in reply["choices"]:
            prefix: tuple = ()
            for token, top in zip(choice["logprobs"]["tokens"], choice["logprobs"]["top_logprobs"], strict=True):
                drawn[prefix][token] += 1
                assert told.setdefault(prefix, top).items() >= {k: top[k] for k in list(top)[:5]}.items()
                prefix += (token,)
        for prefix, counts in drawn.items():
            n = sum(counts.values())
            for token, logprob in told[prefix].items():
                p = math.exp(logprob)
                if n * p * (1 - p) > 10:
                    assert abs(counts[token] / n - p) < 5 * math.sqrt(p * (1 - p) / n), (prefix, token)


def pieces(model: bytes) -> list[bytes]:
    """Field 1 of each field 1 of a protocol buffer: the pieces of a spiece.model. Lengths here are below 128 but for later fields."""
    out, at = [], 0
    while model[at] == 0x0A:
        size = model[at + 1]
        assert size < 128 and model[at + 2] == 0x0A
        out.append(model[at + 4 : at + 4 + model[at + 3]])
        assert model[at + 4 + model[at + 3]] == 0x15  # the score, a float
        struct.unpack_from("<f", model, at + 5 + model[at + 3])
        at += 2 + size
    return out


def test_every_word_and_number_is_a_piece(made: Path) -> None:
    known = set(pieces((made / "spiece.model").read_bytes()))
    texts = [p["question"] + " " + p["rationale"] for p in lines(made / "train.jsonl")]
    texts += [r["choices"][0]["text"] for r in lines(made / "replies.jsonl")] + ["Q: A: Let's think step by step The answer is 0"]
    words = {w for text in texts for w in re.findall(r"[A-Za-z']+|\d+|[-+*/=]", text)}
    assert not [w for w in words if ("\u2581" + w).encode() not in known]
    assert {m.encode() for m in ".?:"} <= known
    assert json.loads((made / "config.json").read_text())["vocab_size"] >= len(known) + 100
