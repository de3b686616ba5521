"""Questions on their way into a data set: benchmarks' own files, and what is held out."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import World

SVAMP = [{"ID": "chal-1", "Body": "Dan had 4 dollars", "Question": "How many now?", "Answer": 3.0},
         {"ID": "chal-2", "Body": "Paco ate.", "Question": "What is left?", "Answer": 0.5}]


def test_a_benchmark_becomes_plain_lines(world: World, tmp_path: Path) -> None:
    world.write("SVAMP.json", json.dumps(SVAMP))
    world.done("questions", "--task", "svamp", "--in", "SVAMP.json", "--out", tmp_path / "plain.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_bytes().splitlines()]
    assert lines == [{"id": "svamp-chal-1", "question": "Dan had 4 dollars How many now?", "answer": "3", "rationale": ""},
                     {"id": "svamp-chal-2", "question": "Paco ate. What is left?", "answer": "0.5", "rationale": ""}]


def test_a_folder_of_tasks_becomes_lines_that_name_theirs(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "bbh"
    folder.mkdir()
    for name in ("sorting", "logic"):
        (folder / f"{name}.json").write_text(json.dumps({"canary": "c", "examples": [{"input": name, "target": "t"}]}))
    world.done("questions", "--task", "bbh", "--in", folder, "--out", tmp_path / "plain.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_bytes().splitlines()]
    assert [(x["id"], x["task"], x["question"]) for x in lines] == [("bbh-logic-0", "logic", "logic"), ("bbh-sorting-0", "sorting", "sorting")]
    world.done("questions", "--task", "jsonl", "--in", tmp_path / "plain.jsonl", "--out", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()


def test_answers_alone_are_built_of_a_benchmark_without_a_shard(world: World, tmp_path: Path) -> None:
    world.write("SVAMP.json", json.dumps(SVAMP))
    world.done("build", "--questions", "SVAMP.json", "--task", "svamp", "--formats", "zs-ao", "--out", tmp_path / "data")
    assert json.loads((tmp_path / "data/dataset.json").read_bytes())["counts"]["questions"] == 2
    result = world.run("build", "--questions", "train.jsonl", "--formats", "zs-cot", "--out", tmp_path / "none")
    assert result.returncode == 1 and b"need an aligned shard" in result.stderr


def test_what_is_held_out_is_left_out_and_counted(world: World, tmp_path: Path) -> None:
    questions = world.read("train.jsonl").splitlines(keepends=True)
    held = [json.loads(line) for line in questions[:3]]
    for x in held:  # another file spells a question another way
        x.update(id="dev-" + x["id"], question="  " + x["question"].upper().rstrip("?.") + " ")
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(x) + "\n" for x in held))
    build = ["build", "--questions", "train.jsonl", "--in", "aligned.rsd", "--hold-out", tmp_path / "dev.jsonl", "--out", tmp_path / "data"]
    result = world.run(*build)
    assert result.returncode == 1 and b'question 1 ("train-00000") also stands in' in result.stderr and b"and 2 more" in result.stderr
    assert not (tmp_path / "data").exists()
    result = world.run(*build, "--drop-held-out")
    assert result.returncode == 0, result.stderr
    counts = json.loads((tmp_path / "data/dataset.json").read_bytes())["counts"]
    assert (counts["questions"], counts["held_out"]) == (len(questions) - 3, 3)
    assert counts["kept"] + counts["wrong"] + counts["unknown"] + counts["no_question"] == counts["replies"]
    assert b"(3 held out)" in result.stderr


def test_what_each_format_weighs_is_printed_and_kept(world: World, tmp_path: Path) -> None:
    config = {**json.loads(world.read("run.json")), "out": str(tmp_path / "run"), "formats": {"zs-cot": 1, "zs-ao": 1}, "steps": 1, "accumulate": 3}
    result = world.run("train", world.write("mixed.json", config))
    assert result.returncode == 0, result.stderr
    printed = {line.split()[0]: line.split()[1:] for line in result.stderr.decode().splitlines() if line.startswith("zs-")}
    kept = json.loads((tmp_path / "run/mixture.json").read_bytes())["formats"]
    assert list(printed) == ["zs-ao", "zs-cot"] == sorted(kept)
    for name, (items, targets, loss, _, gradient, _) in printed.items():
        assert (int(items), int(targets)) == (kept[name]["items"], kept[name]["targets"])
        assert abs(float(loss) - 100 * kept[name]["loss_share"]) < 0.01 and abs(float(gradient) - 100 * kept[name]["gradient_share"]) < 0.01
    assert kept["zs-cot"]["loss_share"] > 0.7  # half of the items, most of the loss
    line = json.loads((tmp_path / "run/metrics.jsonl").read_bytes())
    assert abs(sum(line["shares"].values()) - 1) < 1e-9 and line["losses"].keys() == line["shares"].keys()
    assert abs(sum(line["losses"][f] * share for f, share in line["shares"].items()) - line["loss"]) < 1e-9
    assert line["losses"]["zs-ao"] != line["losses"]["zs-cot"]


def test_a_run_that_gets_no_better_ends_early(world: World, tmp_path: Path) -> None:
    dev = {"task": "jsonl", "data": "heldout.jsonl", "limit": 2, "max_tokens": 2, "name": "dev"}
    config = {**json.loads(world.read("run.json")), "out": str(tmp_path / "run"), "steps": 50, "lr": 0, "eval_every": 1, "patience": 2, "eval": [dev]}
    result = world.run("train", world.write("stop.json", config))
    assert result.returncode == 0, result.stderr
    assert b"stopped early at step 3: the best was step 1, accuracy 0.0 %" in result.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_bytes().splitlines()]
    assert [(x["step"], x.get("set")) for x in lines] == [(1, None), (1, "dev"), (2, None), (2, "dev"), (3, None), (3, "dev"), (3, None)]
    assert lines[-1] == {"step": 3, "stopped": "patience", "best_step": 1, "best": 0}
    assert (tmp_path / "run/checkpoints/step-3/trainer.json").exists()


def test_the_defaults_are_printed_without_a_configuration(world: World) -> None:
    defaults = json.loads(world.done("train", "--print-config"))
    assert defaults["model"] is None and defaults["lr"] == 5e-4 and defaults["patience"] == 0 and defaults["mix"] == "items"
    explained = world.done("train", "--explain-config")
    assert all(f"\n{key} " in "\n" + explained for key in defaults)
