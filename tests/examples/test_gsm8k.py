"""examples/gsm8k: from a recorded teacher to a specialised Flan-T5 small with random weights, on ten questions; and what the sizes need."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "gsm8k"
SIZES = ("small", "base", "large", "xl", "xxl")


def run(*command: object, status: int = 0, **more: object) -> str:
    path = f"{Path(os.environ['REASONDISTILL']).parent}:{os.environ['PATH']}"
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, encoding="utf-8", env={**os.environ, "PATH": path, "PYTHON": sys.executable}, **more)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def needs(*options: object) -> str:
    return run(sys.executable, FOLDER / "needs.py", "--command", os.environ["REASONDISTILL"], *options)


@pytest.mark.parametrize("size", SIZES)
def test_a_run_file_has_only_known_keys_and_the_papers_optimizer(size: str, tmp_path: Path) -> None:
    config = json.loads(run(os.environ["REASONDISTILL"], "train", FOLDER / f"{size}.json", "--print-config"))
    assert config["optimizer"] == "adamw" and config["schedule"] == "cosine" and config["lr"] in (5e-4, 2e-4) and config["warmup"] == 10
    assert config["model"] == f"flan-t5-{size}"


def figures(size: str, gflops: float) -> dict:
    """What bench train would print on a machine of that speed on two threads."""
    sys.path.insert(0, str(FOLDER))
    try:
        import needs as module
    finally:
        sys.path.pop(0)
    seconds = module.gflop(size, 512, 128) / gflops
    return {"threads": 2, "gflop": module.gflop(size, 512, 128), "peak_rss_bytes": 16 * module.parameters(size) + 640 * 2**20,
            "phases": {"forward": seconds / 4, "head": seconds / 4, "backward": seconds / 2, "optimizer": 0.5}}


def test_needs_are_computed_from_the_measured_speeds(tmp_path: Path) -> None:
    for name, gflops in (("slow", 100), ("fast", 200)):
        settings = ("--dtype fp32 --optimizer adamw", "--dtype bf16 --optimizer adamw --masters --recompute")
        (tmp_path / f"{name}.json").write_text(json.dumps({f"small {s}": figures("small", gflops) for s in settings}))
    slow, fast = (json.loads(needs("--measure", "small", "--cores", "2,64", "--json", "--figures", tmp_path / f"{name}.json")) for name in ("slow", "fast"))
    assert [row["size"] for row in slow] == list(SIZES)
    small = slow[0]
    assert small["parameters"] == 76961152
    assert small["seconds_per_step"]["2"] == pytest.approx(small["gflop_per_step"] / 100 + 0.5)
    assert small["seconds_per_step"]["64"] == pytest.approx(small["gflop_per_step"] / 3200 + 0.5)
    assert small["hours"]["2"] == pytest.approx(small["steps"] * small["seconds_per_step"]["2"] / 3600)
    assert all(f["seconds_per_step"]["2"] < s["seconds_per_step"]["2"] for s, f in zip(slow, fast, strict=True))
    # Weights, gradients and two moments in fp32; bf16 weights with masters besides.
    assert small["memory_gib"] > 16 * 76961152 / 2**30
    assert slow[4]["memory_gib"] > 18 * 11135332352 / 2**30


def test_the_operations_counted_are_those_that_bench_counts(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    assert "bench counts" not in needs("--measure", "small", "--steps", "1", "--cores", "2", "--figures", kept)
    measured = json.loads(kept.read_text())
    assert len(measured) == 2  # the settings of the small sizes and those of the large ones
    assert all(m["gflop"] == pytest.approx(figures("small", 1)["gflop"], rel=0.05) for m in measured.values())


def questions(kind: str, n: int) -> list[dict]:
    return [{"question": f"Tom has {i + 2} {kind}. He buys {i + 3} more. How many {kind} has he now?",
             "answer": f"He has {i + 2} + {i + 3} = <<{i + 2}+{i + 3}={2 * i + 5}>>{2 * i + 5} {kind}.\n#### {2 * i + 5}"} for i in range(n)]


def reply(row: dict) -> dict:
    answer = row["answer"].split()[-1]
    tokens = [" Now", " he", " has", f" {answer}", ".", "\n", "The", " answer", " is", f" {answer}"]
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    return {"id": row["question"][-12:] + answer, "object": "text_completion", "question": row["question"], "choices": [{"text": "".join(tokens), "index": 0, "finish_reason": "stop", "logprobs": {
        "tokens": tokens, "token_logprobs": [-0.1] * len(tokens), "top_logprobs": [{t: -0.1, " and": -2.5} for t in tokens], "text_offset": offsets}}]}


def test_ten_questions_from_a_recorded_teacher_to_a_comparison(tmp_path: Path) -> None:
    train, test = questions("apples", 12), questions("pears", 10)
    (tmp_path / "gsm8k").mkdir()
    for name, rows in (("gsm8k/train", train), ("gsm8k/test", test), ("replies", [reply(r) for r in train])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    run(os.environ["WORDPROBLEMS"], "--out", tmp_path / "vocabulary", "--problems", "0", "--heldout", "0")
    command = ["sh", FOLDER / "gsm8k.sh", "--size", "small", "--model", "random", "--tokenizer", tmp_path / "vocabulary" / "spiece.model", "--teacher",
               f"replay:{tmp_path}/replies.jsonl", "--benchmarks", tmp_path, "--try", "--out", tmp_path / "out"]
    said = run(*command, cwd=tmp_path)
    out = tmp_path / "out"
    assert "10 correct" in said and "trained: run-small" in said and "gsm8k-zs-cot: " in said
    used = json.loads((out / "run-small" / "run.json").read_text())
    assert used["model"] == "student" and used["steps"] == 1 and [e["name"] for e in used["eval"]] == ["gsm8k-dev"]
    for when in ("before", "after"):
        result = json.loads((out / "run-small" / "eval" / when / "gsm8k-ic-cot.json").read_text())
        assert result["n"] == 10 and all(len(i["demos"]) == 4 for i in result["items"])
    trained = {json.loads(row)["question"] for row in (out / "train.jsonl").read_text().splitlines()}
    held = {json.loads(row)["question"] for name in ("dev", "test") for row in (out / name / "gsm8k.jsonl").read_text().splitlines()}
    assert len(trained) == 10 and len(held) == 12 and not trained & held
    # The report has what was measured before and after; without matplotlib the script says so and ends well.
    page = out / "run-small" / "report.html"
    if not importlib.util.find_spec("matplotlib"):
        assert "report.html needs matplotlib" in said
    elif "REASONDISTILL_LIBRARY" in os.environ:
        text = page.read_text(encoding="utf-8")
        for part in ("Before and after", "Training", "Development sets along run-small", "Alignment", "Outputs", "Configuration", "run-small/run.json"):
            assert f">{part}<" in text, part
        assert "gsm8k zs-cot" in text and "gsm8k ic-cot" in text and text.count("<img ") >= 6
        page.unlink()
    # The same command again: nothing is asked, made, trained or tested twice.
    again = run(*command, cwd=tmp_path)
    assert page.exists() == (bool(importlib.util.find_spec("matplotlib")) and "REASONDISTILL_LIBRARY" in os.environ)
    assert "(10 were there already)" in again and "$ reasondistill eval" not in again and "$ reasondistill init" not in again
