"""Questions and data sets from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasondistill import Context, Error, build_dataset, convert_questions

QUESTIONS = "".join(json.dumps({"id": f"q{i}", "question": f"What is {i} plus one?", "answer": str(i + 1)}) + "\n" for i in range(4))


def test_a_benchmark_becomes_plain_lines(ctx: Context, tmp_path: Path) -> None:
    source = tmp_path / "MultiArith.json"
    source.write_text(json.dumps([{"iIndex": 3, "sQuestion": " How many? ", "lSolutions": [39.0]}]))
    assert convert_questions(ctx, "multiarith", source, tmp_path / "out.jsonl") == 1
    assert json.loads((tmp_path / "out.jsonl").read_bytes()) == {"id": "multiarith-3", "question": "How many?", "answer": "39", "rationale": ""}
    with pytest.raises(Error, match="element 0: key \"ID\""):
        convert_questions(ctx, "svamp", source, tmp_path / "out.jsonl")


def test_questions_that_are_held_out_are_refused_or_left_out(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    (tmp_path / "test.jsonl").write_text(QUESTIONS.splitlines()[2])
    build = {"questions": tmp_path / "q.jsonl", "aligned": None, "out": tmp_path / "data", "formats": 1, "hold_out": [tmp_path / "test.jsonl"]}
    with pytest.raises(Error, match=r"question 3 \(\"q2\"\) also stands in"):
        build_dataset(ctx, **build)
    report = build_dataset(ctx, **build, drop_held_out=1)
    assert report["questions"] == 3 and report["held_out"] == 1
    with pytest.raises(Error, match="is there already"):
        build_dataset(ctx, **{**build, "hold_out": ()})
