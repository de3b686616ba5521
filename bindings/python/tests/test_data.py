"""Questions and data sets from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import CONFIG
from reasondistill import T5, Context, Dataset, Error, Tokenizer, Trainer, build_dataset, convert_questions

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


def test_a_trainer_tells_its_mixture_and_how_it_stands(ctx: Context, pack: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    (tmp_path / "dev.jsonl").write_text(QUESTIONS.replace("plus one", "minus one"))
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": 32128}))
    with T5.create(ctx, tmp_path / "config.json") as m:
        m.save(tmp_path / "model", tokenizer=pack / "tokenizer/spiece.model")
    build_dataset(ctx, tmp_path / "q.jsonl", None, tmp_path / "data", formats=5, shots=1)
    dev = {"task": "jsonl", "data": str(tmp_path / "dev.jsonl"), "format": "zs-ao", "max_tokens": 2, "name": "dev"}
    (tmp_path / "run.json").write_text(json.dumps({"model": str(tmp_path / "model"), "data": str(tmp_path / "data"), "out": str(tmp_path / "run"),
                                                   "lr": 0, "steps": 9, "loss": "ce", "eval_every": 1, "patience": 1, "eval": [dev]}))
    with Trainer(ctx, tmp_path / "run.json") as t:
        mixture = t.mixture
        assert list(mixture) == ["zs-ao", "ic-ao"] and mixture["zs-ao"].items == 4
        assert abs(sum(x.loss for x in mixture.values()) - 1) < 1e-9 and abs(sum(x.gradient for x in mixture.values()) - 1) < 1e-9
        steps = list(t)
    assert [(s.step, s.watched, s.best_step, s.stopped) for s in steps] == [(1, 0, 1, False), (2, 0, 1, True)]


def test_a_data_set_is_read_batch_by_batch(ctx: Context, pack: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    build_dataset(ctx, tmp_path / "q.jsonl", None, tmp_path / "data", formats=5, shots=1)
    with Tokenizer(ctx, pack / "tokenizer/spiece.model") as tok, Dataset(ctx, tmp_path / "data", tok, {"zs-ao": 1, "ic-ao": 1}) as d:
        assert d.info == {"questions": 4, "replies": 0, "batches": 1, "left_out": 0}
        whole, part = d.batch(0), d.batch(0, ["zs-ao"])
        assert whole.struct.n == 8 and part.struct.n == 4 and d.batch(0, ["zs-cot"]) is None
        ids = part.arrays["dec_ids"][: part.arrays["dec_offsets"][1] - 1]
        assert tok.decode(ids).startswith("The answer is ")
        assert (d.batch(0).arrays["enc_ids"] == whole.arrays["enc_ids"]).all() and (d.batch(1).arrays["formats"] < 4).all()
        d.disjoint(pack / "original/SVAMP.json")
        with pytest.raises(Error, match="also stands in"):
            d.disjoint(tmp_path / "q.jsonl")
        with pytest.raises(ValueError, match="there is no format"):
            d.batch(0, ["zs"])
