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
