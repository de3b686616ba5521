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
