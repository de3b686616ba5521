"""Evaluation from Python: scores, votes, comparisons, and the bootstrap."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import reasondistill as rd

QUESTIONS = [{"id": f"q{i}", "question": f"What is {i} plus {i}?", "answer": str(2 * i), "rationale": f"{i} + {i} = {2 * i}"} for i in range(5)]


@pytest.fixture
def student(ctx: rd.Context, pack: Path, tmp_path: Path) -> tuple[rd.T5, rd.Tokenizer, Path]:
    config = {"model_type": "t5", "d_model": 8, "d_ff": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 1, "vocab_size": 32128,
              "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    return rd.T5.create(ctx, tmp_path / "config.json"), rd.Tokenizer(ctx, pack / "tokenizer" / "spiece.model"), data


def test_a_task_is_scored_kept_and_compared(ctx: rd.Context, student: tuple[rd.T5, rd.Tokenizer, Path], tmp_path: Path) -> None:
    model, tokenizer, data = student
    options = {"max_tokens": 4, "samples": 3, "temperature": 1.0, "maj": [1, 3], "cache": tmp_path / "cache", "label": "random"}
    with rd.Evaluator(ctx, model, tokenizer, "zs-cot", **options) as evaluator:
        score = evaluator.file("gsm8k", data, tmp_path / "eval.json")
        again = evaluator.file("gsm8k", data)
    assert (score.n, score.outputs, score.reused, again.reused) == (5, 15, False, True)
    assert score.maj.keys() == {1, 3} and score.maj[1] == pytest.approx(score.accuracy)
    assert score.answer_perplexity and score.answer_perplexity > 100 and score.rationale_perplexity  # random weights
    assert (again.answer_perplexity, again.maj, again.mean_tokens) == (score.answer_perplexity, score.maj, score.mean_tokens)
    stored = json.loads((tmp_path / "eval.json").read_text())
    assert stored["lenient_accuracy"] == score.lenient_accuracy and len(stored["items"]) == 5 and len(stored["items"][0]["outputs"]) == 3
    assert next((tmp_path / "cache").iterdir()).name.startswith("random-gsm8k-zs-cot-")

    other = json.loads(json.dumps(stored))
    for item, right in zip(other["items"], (True, True, False, True, True)):
        item["correct"] = right
    for item in stored["items"]:
        item["correct"] = item["id"] == "q2"
    for name, doc in (("a.json", stored), ("b.json", other)):
        (tmp_path / name).write_text(json.dumps(doc))
    paired, different = rd.compare_files(ctx, tmp_path / "a.json", tmp_path / "b.json")
    assert (paired.both, paired.only_a, paired.only_b, paired.neither) == (0, 1, 4, 0)
    assert paired == rd.mcnemar(0, 1, 4, 0) and paired.p == pytest.approx(2 * 6 / 32)
    assert sorted(different) == [("q0", False), ("q1", False), ("q2", True), ("q3", False), ("q4", False)]
    with pytest.raises(rd.Error, match="nowhere"):
        rd.compare_files(ctx, tmp_path / "a.json", tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="parser"):
        rd.compare_files(ctx, "a", "b", "loose")


def test_statistics_are_those_of_the_library(ctx: rd.Context) -> None:
    assert rd.wilson(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    assert rd.log_odds(0, 10) == pytest.approx(np.log(0.5 / 10.5))
    assert rd.maj_at_k(ctx, [3, 2], 0, 1) == pytest.approx(0.6) and rd.maj_at_k(ctx, [3, 2], 0, 5) == pytest.approx(1)
    assert rd.maj_at_k(ctx, [3, 2], None, 3) == 0 and rd.maj_at_k(ctx, [2], 0, 1, silent=2) == pytest.approx(0.5)
    x = np.arange(5)
    fit = rd.fit_line(x, 3 * x - 1)
    assert (fit.n, fit.slope, fit.intercept, fit.r2) == (5, pytest.approx(3), pytest.approx(-1), pytest.approx(1))
    for call in (lambda: rd.fit_line([1, 1], [1, 2]), lambda: rd.fit_line([1, 2], [1]), lambda: rd.wilson(3, 2), lambda: rd.mcnemar(0, 0, 0, 0),
                 lambda: rd.log_odds(0, 0)):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(rd.Error, match="maj@7"):
        rd.maj_at_k(ctx, [3, 2], 0, 7)


def test_the_bootstrap_holds_its_level_over_items() -> None:
    random = np.random.default_rng(3)
    hits = 0
    for i in range(200):
        low, high = rd.bootstrap(random.random(200) < 0.7, draws=300, seed=i)
        hits += low <= 0.7 <= high
    assert 176 <= hits <= 199  # 190 expected; two and a half standard deviations of the count, and the error of 300 draws


def test_the_bootstrap_counts_seeds_as_well_as_items() -> None:
    random = np.random.default_rng(4)
    items = random.random((4, 500)) < np.array([[0.2], [0.4], [0.6], [0.8]])  # runs that differ far more than items explain
    low, high = rd.bootstrap(items, seed=1)
    alone = rd.bootstrap(items.reshape(-1), seed=1)
    assert high - low > 4 * (alone[1] - alone[0])
    assert rd.bootstrap(items, seed=1) == (low, high) and rd.bootstrap(items, seed=2) != (low, high)
    assert rd.bootstrap(items, statistic=np.max, draws=50) == (1, 1)
    with pytest.raises(ValueError):
        rd.bootstrap([[np.nan]])


def test_a_grid_shows_a_sweep_a_run_and_models_of_ones_own(ctx: rd.Context, student: tuple[rd.T5, rd.Tokenizer, Path], pack: Path, tmp_path: Path) -> None:
    model, tokenizer, data = student
    spiece = pack / "tokenizer" / "spiece.model"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    model.save(tmp_path / "base", tokenizer=spiece)
    with rd.T5.create(ctx, tmp_path / "config.json", seed=2) as other:
        for path in (tmp_path / "tuned", tmp_path / "run" / "checkpoints" / "step-7"):
            other.save(path, tokenizer=spiece)
        with rd.T5.create(ctx, tmp_path / "config.json", seed=3) as mixed:
            mixed.combine([model, other], [0.25, 0.75])
            name = next(iter(mixed.params()))
            np.testing.assert_allclose(mixed.param(name), 0.25 * model.param(name) + 0.75 * other.param(name), atol=1e-6)
            with pytest.raises(ValueError, match="1 weights for 2 models"):
                mixed.combine([model, other], [1])
    sets = {"id": [f"dev=gsm8k:zs-cot:{data}"], "ood": [f"svamp:zs-ao:{data}"]}
    with rd.Grid(ctx, **sets, max_tokens=3, cache=tmp_path / "cache") as grid:
        grid.sweep(tmp_path / "base", [tmp_path / "tuned"], [0, 0.5, 1])
        figures = grid.figures()
        assert [r["name"] for r in figures["rows"]] == ["alpha-0", "alpha-0.5", "alpha-1"] and figures["sweep"][0].endswith("base")
        assert "alpha-0.5" in grid.text() and "dev" in grid.text()
    with rd.Grid(ctx, **sets, max_tokens=3, parser="lenient") as grid:
        assert grid.choose("last") is None
        grid.run(tmp_path / "run")
        grid.model("mine", 3.5, model, tokenizer)
        rows = grid.figures()["rows"]
        assert [(r["name"], r["x"]) for r in rows] == [("step-7", 7), ("mine", 3.5)] and grid.choose("last") == "mine"
        assert rows[0]["scores"] == figures["rows"][2]["scores"] and rows[1]["scores"] == figures["rows"][0]["scores"]
    entry = {"task": "gsm8k", "data": str(data), "format": "zs-cot", "kind": "id", "name": "dev", "shots": 4, "demos": None, "max_tokens": 3, "batch": 32, "limit": 2}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"eval": [entry, {**entry, "kind": "ood", "name": "other", "limit": 1}]}))
    with rd.Grid(ctx, perplexity=0) as grid:
        grid.run(tmp_path / "run")
        own = grid.figures()
        assert [(s["name"], s["role"]) for s in own["sets"]] == [("dev", "id"), ("other", "ood")]
        assert [s["n"] for s in own["rows"][0]["scores"]] == [2, 1] and own["rows"][0]["scores"][0]["answer_perplexity"] is None
    assert rows[0]["scores"][0]["answer_perplexity"] > 0
    with pytest.raises(rd.Error, match="TASK:FORMAT:DATA"):
        rd.Grid(ctx, id=["gsm8k"])
    with pytest.raises(ValueError, match="rule"), rd.Grid(ctx) as grid:
        grid.choose("best")
