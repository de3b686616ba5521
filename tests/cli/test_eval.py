"""eval and compare at the command line; models merged, swept and chosen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import World

EVAL = ["eval", "--model", "student", "--task", "jsonl", "--data", "heldout.jsonl", "--max-tokens", 4, "--format"]


def read(world: World, name: str) -> dict[str, Any]:
    return json.loads(world.read(name))


def test_samples_vote_and_results_are_kept(world: World) -> None:
    args = [*EVAL, "zs-cot", "--samples", 4, "--maj", "1,4", "--cache", "results"]
    first = world.done(*args, "--out", "votes.json").splitlines()
    assert first[0].startswith("jsonl zs-cot: accuracy ") and "of 40)" in first[0]
    assert first[1].startswith("  lenient parser ") and "perplexity of the gold answer" in first[1] and ", of the rationale" in first[1]
    assert [line.split()[0] for line in first[2:]] == ["maj@1", "maj@4"]
    doc = read(world, "votes.json")
    assert doc["temperature"] == 0.7 and doc["samples"] == 4 and len(doc["items"]) == 10 and len(doc["items"][0]["outputs"]) == 4
    assert [m["k"] for m in doc["maj"]] == [1, 4]
    again = world.done(*args, "--out", "again.json").splitlines()
    assert again[1].endswith("; from the cache") and world.read("again.json") == world.read("votes.json")
    assert len(list((world.folder / "results").iterdir())) == 1


def test_two_evaluations_are_compared(world: World) -> None:
    world.done(*EVAL, "zs-ao", "--out", "a.json")
    doc = read(world, "a.json")
    assert {"correct", "lenient", "reference", "answer_perplexity"} <= doc["items"][0].keys()
    for i, item in enumerate(doc["items"]):
        item["correct"] = i < 3
    world.write("a.json", doc)
    for i, item in enumerate(doc["items"]):
        item["correct"] = i > 1
    world.write("b.json", doc)
    assert world.done("compare", "a.json", "b.json") == ("A -50.0 points (95 % interval -81.6 to +7.6): both right on 1 items, only A on 2, only B on 7, "
                                                         "neither on 0; p = 0.18 (McNemar, exact)\n")
    result = json.loads(world.done("compare", "b.json", "a.json", "--json"))
    assert (result["only_a"], result["only_b"], result["both"]) == (7, 2, 1) and result["p"] == pytest.approx(2 * 46 / 512, rel=1e-6)
    lines = world.done("compare", "a.json", "b.json", "--list").splitlines()
    ids = [item["id"] for item in doc["items"]]
    assert lines[:-1] == [f"> {i}" for i in ids[:2]] + [f"< {i}" for i in ids[3:]]


# ---- weight space ----


@pytest.fixture(scope="module")
def tuned(world: World) -> str:
    """A run of a few steps with its checkpoints; the path of the last."""
    config = read(world, "run.json")
    world.write("studied.json", {**config, "out": "studied", "steps": 12, "save_every": 2, "keep": 9, "lr": 0.02})
    world.done("train", "studied.json")
    return "studied/checkpoints/step-12"


SETS = ["--id", "dev=jsonl:zs-cot:heldout.jsonl", "--ood", "jsonl:zs-ao:heldout.jsonl", "--limit", 4, "--max-tokens", 4]


def weights(world: World, model: str) -> bytes:
    return world.read(f"{model}/model.safetensors")


def test_merging_reaches_both_ends_and_goes_beyond(world: World, tuned: str) -> None:
    for name, args in {"m0": ["--alpha", 0], "m1": ["--alpha", 1], "m05": [], "beyond": ["--alpha", 1.5]}.items():
        world.done("merge", "--base", "student", "--tuned", tuned, *args, "--out", name)
    assert weights(world, "m0") == weights(world, "student") and weights(world, "m1") == weights(world, tuned)
    assert len({weights(world, m) for m in ("m0", "m05", "m1", "beyond")}) == 4


def test_a_soup_is_the_mean_of_its_members(world: World, tuned: str) -> None:
    other = "studied/checkpoints/step-6"
    result = world.run("merge", "--tuned", tuned, "--tuned", other, "--weights", "3,1", "--out", "soup")
    assert result.stderr.decode() == f"made soup: 0.75 of {tuned}, 0.25 of {other}\n"
    world.done("merge", "--base", tuned, "--tuned", other, "--alpha", 0.25, "--out", "same")
    assert weights(world, "soup") == weights(world, "same")
    world.done("merge", "--tuned", tuned, "--tuned", tuned, "--out", "itself")
    assert weights(world, "itself") == weights(world, tuned)
    result = world.run("merge", "--base", "student", "--tuned", tuned, "--tuned", other, "--alpha", "0.7,0.5", "--out", "both")
    assert result.stderr.decode() == f"made both: -0.2 of student, 0.7 of {tuned}, 0.5 of {other}\n"


def test_models_of_another_shape_or_tokenizer_are_named(world: World, tuned: str) -> None:
    config = read(world, "config.json")
    world.write("deep.json", {**config, "num_decoder_layers": config["num_decoder_layers"] + 1})
    world.done("init", "--config", "deep.json", "--tokenizer", "spiece.model", "--out", "deep")
    result = world.run("merge", "--base", "student", "--tuned", tuned, "--tuned", "deep", "--out", "never")
    assert result.returncode == 1 and result.stderr.startswith(b"reasondistill: student and deep: model 3: the models differ in num_decoder_layers, 2 and 3")
    vocabulary = bytearray(world.read("spiece.model"))
    vocabulary[-1] ^= 1  # of the normaliser's settings, at the end
    world.write("other.model", bytes(vocabulary))
    world.done("init", "--config", "config.json", "--tokenizer", "other.model", "--out", "stranger")
    for verb in (["merge", "--out", "never"], ["sweep", *SETS]):
        result = world.run(*verb, "--base", "student", "--tuned", "stranger")
        assert result.returncode == 1 and b"student and stranger have different tokenizers: they have no common ancestor" in result.stderr
    assert not (world.folder / "never").exists()


def test_a_sweep_shows_every_point_and_writes_no_model(world: World, tuned: str) -> None:
    before = set(world.folder.iterdir())
    text = world.done("sweep", "--base", "student", "--tuned", tuned, "--alphas", "0,0.1,..,0.4,1", *SETS, "--out", "sweep.out", "--cache", "sweeps")
    names = [f"alpha-{a}" for a in ("0", "0.1", "0.2", "0.3", "0.4", "1")]
    assert [line.split()[0] for line in text.splitlines()[2:8]] == names
    doc = read(world, "sweep.out")
    assert [r["name"] for r in doc["rows"]] == names and [r["x"] for r in doc["rows"]] == [0, 0.1, 0.2, 0.3, 0.4, 1]
    assert doc["sweep"] == ["student", tuned] and "rules" not in doc
    assert [s["name"] for s in doc["sets"]] == ["dev", "heldout zs-ao"] and [s["role"] for s in doc["sets"]] == ["id", "ood"]
    perplexities = [r["scores"][0]["rationale_perplexity"] for r in doc["rows"]]
    assert len(set(perplexities)) == 6 and perplexities[5] < perplexities[0]  # it has learned something
    assert {p.name for p in set(world.folder.iterdir()) - before} == {"sweep.out", "sweeps"}
    for model, row in (("student", 0), (tuned, 5)):  # the ends are the models themselves
        world.done("eval", "--model", model, "--task", "jsonl", "--data", "heldout.jsonl", "--format", "zs-cot", "--limit", 4, "--max-tokens", 4,
                   "--out", "end.json")
        assert read(world, "end.json")["rationale_perplexity"] == perplexities[row]
    world.done("sweep", "--base", "student", "--tuned", tuned, "--alphas", "0.5", *SETS, "--save", "kept")
    world.done("merge", "--base", "student", "--tuned", tuned, "--out", "half")
    assert weights(world, "kept/alpha-0.5") == weights(world, "half")


# ---- choosing ----


def test_every_checkpoint_is_evaluated_once_and_chosen_by_rule(world: World, tuned: str) -> None:
    args = ["select", "studied", *SETS, "--test", "all=jsonl:zs-cot:train.jsonl", "--out", "chosen.json"]
    text = world.done(*args)
    doc = read(world, "chosen.json")
    assert [r["name"] for r in doc["rows"]] == [f"step-{n}" for n in (2, 4, 6, 8, 10, 12)]
    assert doc["run"] == "studied" and [r["rule"] for r in doc["rules"]] == ["last", "best-id", "best-mean-ood", "pareto"] and doc["rules"][0]["name"] == "step-12"
    for rule, key in (("best-id", "mean_id"), ("best-mean-ood", "mean_ood")):
        chosen = next(r for r in doc["rules"] if r["rule"] == rule)
        assert chosen[key] == max(r[key] for r in doc["rows"])
    kept = {p.name: p.stat().st_mtime_ns for p in (world.folder / "studied/eval/select").iterdir()}
    assert len(kept) == 18 and all(name.startswith("step-") for name in kept)
    assert world.done(*args) == text
    assert {p.name: p.stat().st_mtime_ns for p in (world.folder / "studied/eval/select").iterdir()} == kept


def test_without_sets_a_run_is_judged_by_those_it_was_evaluated_on(world: World, tuned: str) -> None:
    own = world.folder / "own"
    own.mkdir()
    (own / "checkpoints").symlink_to(world.folder / "studied" / "checkpoints")
    run = json.loads((world.folder / "studied" / "run.json").read_text())
    entry = {"task": "jsonl", "data": "heldout.jsonl", "limit": 3, "shots": 4, "demos": None, "max_tokens": 4, "batch": 8}
    run["eval"] = [entry | {"format": "zs-cot", "kind": "id", "name": "dev"}, entry | {"format": "zs-ao", "kind": "ood", "name": "far", "limit": 2},
                   entry | {"format": "ic-cot", "kind": "seen", "name": "known", "data": "train.jsonl", "demos": "train.jsonl", "shots": 1}]
    (own / "run.json").write_text(json.dumps(run))
    world.done("select", "own", "--no-perplexity", "--out", "chosen.json")
    doc = read(world, "chosen.json")
    assert [(s["name"], s["role"], s["format"], s["data"]) for s in doc["sets"]] == [
        ("dev", "id", "zs-cot", "heldout.jsonl"), ("far", "ood", "zs-ao", "heldout.jsonl"), ("known", "test", "ic-cot", "train.jsonl")]
    assert len(doc["rows"]) == 6 and all([s["n"] for s in r["scores"]] == [3, 2, 3] for r in doc["rows"])
    assert all(s["answer_perplexity"] is None and s["rationale_perplexity"] is None for r in doc["rows"] for s in r["scores"])
    one = next((own / "eval" / "select").glob("step-2-jsonl-ic-cot-*.json"))
    assert all(len(i["demos"]) == 1 and i["tokens"] <= 4 for i in json.loads(one.read_text())["items"])
    shown = lambda: {p: [i["demos"] for i in json.loads(p.read_text())["items"]] for p in (own / "eval" / "select").glob("step-2-jsonl-ic-cot-*.json")}
    before = shown()
    (own / "run.json").write_text(json.dumps(run | {"seed": 99}))  # the run's seed draws the examples
    world.done("select", "own", "--no-perplexity", "--out", "chosen.json")
    assert len(after := shown()) == 2 and len({str(d) for d in after.values()}) == 2 and before.items() <= after.items()
    (own / "run.json").write_text(json.dumps(run))
    world.done("select", "own", "--limit", 1, "--out", "chosen.json")
    doc = read(world, "chosen.json")
    assert [s["n"] for s in doc["rows"][0]["scores"]] == [1, 1, 1] and doc["rows"][0]["scores"][0]["answer_perplexity"] > 0
    world.done("select", "own", "--id", "jsonl:zs-ao:heldout.jsonl", "--limit", 1, "--max-tokens", 2, "--out", "chosen.json")
    assert [s["name"] for s in read(world, "chosen.json")["sets"]] == ["heldout zs-ao"]  # sets that are given are all there are
    (own / "run.json").write_text(json.dumps(run | {"eval": []}))
    result = world.run("select", "own")
    assert result.returncode == 2 and b'own/run.json has no "eval": needs sets: --id SET' in result.stderr
    for broken, words in (({"kind": "test"}, 'key "eval", entry 1: key "kind"'), ({"format": "zs"}, "there is no format"), ({"task": None}, 'key "task"')):
        run["eval"][0] = entry | {"format": "zs-cot", "kind": "id", "name": "dev"} | broken
        (own / "run.json").write_text(json.dumps(run))
        result = world.run("select", "own")
        assert result.returncode == 1 and b"own/run.json: " in result.stderr and words.encode() in result.stderr, result.stderr


def test_a_family_of_sizes_is_fitted(world: World) -> None:
    lines = [{"parameters": 10 ** k, "n": 100, "correct": c, "series": s}
             for s, counts in (("before", (5, 6, 7, 8)), ("after", (10, 21, 29, 40))) for k, c in zip((4, 5, 6, 7), counts)]
    world.write("sizes", "".join(json.dumps(line) + "\n" for line in lines))
    out = world.done("scaling", "--in", "sizes", "--out", "fits.json").splitlines()
    assert out[0].startswith("before               accuracy  slope +0.01 per tenfold parameters (95 % interval +0.01 to +0.01), intercept +0.01, R^2 1.000, 4 points")
    assert len(out) == 6 and out[4].startswith("after - before") and out[3].startswith("after                log-odds")
    fits = {(f["series"], f["of"]): f for f in read(world, "fits.json")["fits"]}
    assert read(world, "fits.json")["series"][1]["accuracy"] == [0.10, 0.21, 0.29, 0.40]
    after = fits["after", "accuracy"]
    assert after["slope"] == pytest.approx(0.098) and after["intercept"] == pytest.approx(-0.289)
    half = 4.302652729911275 * (sum((y - 0.098 * x + 0.289) ** 2 for x, y in zip((4, 5, 6, 7), (0.10, 0.21, 0.29, 0.40))) / 2 / 5) ** 0.5
    assert after["slope_low"] == pytest.approx(0.098 - half) and after["slope_high"] == pytest.approx(0.098 + half)
    assert fits["after - before", "accuracy"]["slope"] == pytest.approx(0.088)
    plain = b'{"parameters": 10, "accuracy": 0.25}\n{"parameters": 1000, "accuracy": 0.75}\n'
    text = world.run("scaling", stdin=plain).stdout.decode()
    assert text == "accuracy             accuracy  slope +0.25 per tenfold parameters (95 % interval -inf to +inf), intercept +0, R^2 1.000, 2 points\n"
