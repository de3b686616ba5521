"""bench: every case gives one JSON object whose figures fit together. How fast anything is, no test says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import World

COMMON = {"case", "version", "backend", "threads", "threads_alive", "threads_busy", "environment", "steps", "seconds", "seconds_min",
          "peak_rss_bytes"}
LIMIT = {"gflop", "gflops", "peak_gflops", "peak_gflops_beside", "peak_gflops_fp32", "peak_gflops_bf16", "peak_read_gbs",
         "share_of_peak", "limit_seconds", "share_of_limit", "share_of_limit_beside"}
SMALL = "--model student --batch 2 --enc 8 --dec 4 --steps 2 --threads 1"
STUDENT = {"d": 64, "ff": 128, "layers": 2, "heads": 4, "d_kv": 16, "vocab": 424}  # of conftest.py's world
PARAMETERS = 2 * 424 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 2 * (8 * 64 * 64 + 3 * 64 * 128 + 3 * 64) + 2 * (32 * 4 + 64)


def bench(world: World, line: str, **more: Any) -> dict[str, Any]:
    return json.loads(world.done("bench", *line.split(), **more))


def forward_gflop(d: int, ff: int, layers: int, heads: int, d_kv: int, vocab: int, n: int, enc: int, dec: int) -> float:
    """Counted anew, matrix by matrix."""
    inner, products = heads * d_kv, 0
    for _ in range(layers):
        products += 4 * enc * d * inner + 2 * enc * enc * inner + 3 * enc * d * ff  # encoder: q k v o, scores and sums, FFN
        products += 4 * dec * d * inner + 2 * dec * dec * inner + 3 * dec * d * ff  # decoder: the same
        products += 2 * dec * d * inner + 2 * enc * d * inner + 2 * dec * enc * inner  # across: q o, k v, scores and sums
    return 2e-9 * n * (products + dec * d * vocab)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_train_counts_its_work_and_its_limit(world: World, dtype: str) -> None:
    f = bench(world, f"train --dtype {dtype} --masters --dropout 0.1 {SMALL}")
    assert f.keys() >= COMMON | LIMIT | {"tokens_per_s", "phases", "loss", "optimizer", "dropout", "masters", "recompute"}
    assert f["gflop"] == pytest.approx(3 * forward_gflop(**STUDENT, n=2, enc=8, dec=4))
    assert f["gflops"] == pytest.approx(f["gflop"] / f["seconds"])
    assert f["share_of_limit"] == pytest.approx(f["limit_seconds"] / f["seconds"])
    moved = 28 * PARAMETERS / f["peak_read_gbs"] * 1e-9  # AdamW in fp32: weight, two moments each way, gradient
    assert f["limit_seconds"] == pytest.approx(f["gflop"] / f["peak_gflops"] + moved)
    assert 0 < f["peak_gflops_beside"] <= f["peak_gflops"] and f["share_of_limit_beside"] > 0.9 * f["share_of_limit"]
    assert f["seconds_min"] <= f["seconds"] and f["tokens_per_s"] == pytest.approx(2 * 12 / f["seconds"])
    assert set(f["phases"]) == {"forward", "head", "backward", "optimizer"}
    assert 0.5 * f["seconds"] < sum(f["phases"].values()) <= 2 * f["seconds"]  # medians of two steps each
    assert f["dropout"] == 0.1 and f["dtype"] == dtype and 0 < f["loss"] < 50
    narrow = dtype == "bf16" and f["peak_gflops_bf16"] is not None
    assert f["peak_gflops"] == f["peak_gflops_bf16" if narrow else "peak_gflops_fp32"]


def test_one_thread_is_one_thread(world: World) -> None:
    f = bench(world, "train --model student --batch 8 --enc 64 --dec 16 --steps 20 --threads 1")
    assert f["threads"] == 1 and f["threads_busy"] == 1
    assert bench(world, "encode --model student --batch 1 --enc 8 --steps 1 --threads 2")["threads"] == 2


def test_recompute_and_fused_are_said(world: World) -> None:
    f = bench(world, f"train --recompute --fused --optimizer adafactor {SMALL}")
    assert f["recompute"] and f["fused"] and f["optimizer"] == "adafactor"


def test_train_on_data_uses_its_packed_batches(world: World) -> None:
    f = bench(world, "train --model student --data data --batch-tokens 200 --equal --steps 3 --threads 1")
    tokens = f["batch_enc_tokens"] + f["batch_dec_tokens"]
    assert 100 < tokens <= 200 and f["batch_tokens"] == 200
    assert f["equal_batch"] * (f["equal_enc"] + f["equal_dec"]) == pytest.approx(tokens, rel=0.1)
    assert f["share_of_equal"] == pytest.approx(f["tokens_per_s"] / f["equal_tokens_per_s"])
    assert "data" in f["phases"] and "shape" not in f and f["model"] == "student"


def test_a_random_model_writes_all_its_tokens(world: World) -> None:
    f = bench(world, "generate --shape flan-t5-small --batch 2 --enc 4 --dec 6 --steps 1 --threads 1")
    assert f["tokens"] == 2 * 6 and f["shape"] == "flan-t5-small"


@pytest.mark.parametrize(("dtype", "size"), [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_generate_reads_the_decoder_for_each_token(world: World, dtype: str, size: int) -> None:
    f = bench(world, f"generate --dtype {dtype} {SMALL}")
    assert f.keys() >= COMMON | LIMIT | {"ms_per_token", "limit_ms_per_token", "share_of_ms_limit", "tokens_per_s"}
    assert 2 < f["tokens"] <= 2 * 4 and set(f["phases"]) == {"first_token", "decode"}
    decoder = 2 * (6 * 64 * 64 + 3 * 64 * 128) + 64 * 424  # weights read for each token
    assert f["limit_ms_per_token"] == pytest.approx(size * decoder / f["peak_read_gbs"] * 1e-6)


def test_encode_counts_no_head(world: World) -> None:
    f = bench(world, f"encode {SMALL}")
    assert f.keys() >= COMMON | LIMIT
    assert f["gflop"] == pytest.approx(forward_gflop(**{**STUDENT, "vocab": 0}, n=2, enc=8, dec=1))


def test_open_tells_the_first_token(world: World) -> None:
    f = bench(world, "open --model student --enc 4 --steps 2 --threads 1")
    assert f.keys() >= COMMON | {"first_token_seconds", "model_bytes"}
    assert f["seconds_min"] <= f["seconds"] < f["first_token_seconds"]
    before = sorted(os.listdir(world.folder))
    f = bench(world, "open --enc 4 --steps 1 --threads 1", env={**os.environ, "TMPDIR": str(world.folder)})
    assert f["model_bytes"] == 4 * 76_961_152
    assert sorted(os.listdir(world.folder)) == before


def test_variables_that_change_figures_are_told(world: World) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "3", "TERM_OF_NO_CONCERN": "1"}
    f = bench(world, "encode --model student --batch 1 --enc 4 --steps 1 --threads 1", env=env)
    assert f["environment"]["OMP_NUM_THREADS"] == "3" and "TERM_OF_NO_CONCERN" not in f["environment"]


def test_text_cases_have_their_figures(world: World) -> None:
    f = bench(world, "tokenize --tokenizer spiece.model --in text --steps 2")
    assert f.keys() >= {"lines_per_s", "bytes_per_s", "tokens_per_s", "seconds"} and f["bytes_per_s"] == pytest.approx(5 / f["seconds"])
    f = bench(world, "align --tokenizer spiece.model --in teacher.jsonl --steps 2")
    assert f.keys() >= {"replies_per_s", "cold_replies_per_s", "positions_per_s"} and f["replies"] > 0


@pytest.mark.parametrize(("line", "status", "text"), [
    ("generate --data data", 2, "generate takes no --data"),
    ("train --data data", 2, "--data needs --tokenizer FILE or --model DIR"),
    ("train --equal", 2, "--equal needs --data DIR"),
    ("train --dtype fp64", 2, "--dtype takes fp32|bf16|int8, not fp64"),
    ("train --dtype int8", 2, "train takes no --dtype int8"),
    ("train --batch 0", 2, "--batch takes 1 to 4096, not 0"),
    ("train --model nowhere", 1, "nowhere"),
    ("train --data nowhere --tokenizer spiece.model", 1, "nowhere"),
    ("train --data data --tokenizer spiece.model --batch-tokens 0", 2, "--batch-tokens takes 1 to"),
    ("generate --model student --batch 1 --enc 4 --dec 1 --steps 1", 1, "--dec must be at least 2"),
    ("open --model folder", 1, "config.json"),
])
def test_bad_input_is_told(world: World, line: str, status: int, text: str) -> None:
    result = world.run("bench", *line.split())
    assert result.returncode == status and text in result.stderr.decode() and not result.stdout


# ---- tests/bench/targets.py ----

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import measure  # noqa: E402
import targets  # noqa: E402


def compared(case: str, dtype: str, ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    return {"case": case, "dtype": dtype, "tuned": "tuned sdpa", "results": {"ours": [ours], "tuned sdpa": [theirs]}}


def test_a_target_is_met_missed_or_not_measured() -> None:
    step = {"seconds": 10.0, "limit_seconds": 8.0, "share_of_limit": 0.7, "share_of_limit_beside": 0.8}
    found = targets.peer_targets([compared("train-base-512", "fp32", step, {"seconds": 13.4}),
                                  compared("train-small-512", "fp32", step, {"seconds": 1.0})])
    met = {t.work: t.met for t in found}
    assert met["train-base-512 fp32: share of the limit"] is False  # wants 85 %
    assert met["train-small-512 fp32: share of the limit"] is True  # five points less
    assert met["train-base-512 fp32: against tuned PyTorch"] is False  # 1.34 of 1.35
    assert met["train-base-512 bf16: share of the limit"] is None
    found = targets.memory_targets({"kept": [{"peak_rss_bytes": 6.4e9, "seconds": 8}], "recompute": [{"peak_rss_bytes": 5.1e9, "seconds": 10.1}]})
    assert [t.met for t in found] == [True, False]  # too slow


def test_of_ways_to_tune_the_fastest_goes_on() -> None:
    calls = {name: (lambda s=s: {"seconds": s}) for name, s in {"ours": 5, "slow": 3, "fast": 2}.items()}
    run = [name for name, _ in measure.interleaved(3, calls, ("slow", "fast"))]
    assert run == ["ours", "slow", "fast", "ours", "fast", "ours", "fast"]
