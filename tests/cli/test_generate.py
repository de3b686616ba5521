"""generate: sampling, beams, several outputs, stop strings."""

from __future__ import annotations

import json
import math

import pytest

from conftest import World

LINES = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(["One and two.", "a", "What is it?"] * 3)).encode()


def test_samples_depend_on_the_seed_and_not_on_the_batch(world: World) -> None:
    def outputs(*more: object) -> list:
        answers = world.lines("generate", "--model", "student", "--max-tokens", 6, "--sample", "--n", 3, *more, stdin=LINES)
        assert [a["id"] for a in answers] == list(range(9)) and all(set(a) == {"id", "outputs"} and len(a["outputs"]) == 3 for a in answers)
        return [[o["ids"] for o in a["outputs"]] for a in answers]

    first = outputs("--seed", 5)
    assert outputs("--seed", 5, "--batch", 1) == first  # blocks of eight lines, numbered through
    assert outputs("--seed", 6) != first
    assert first[0] != first[3]  # the same text twice


def test_beams_come_best_first(world: World) -> None:
    answers = world.lines("generate", "--model", "student", "--max-tokens", 5, "--beam", 4, "--n", 4, "--length-penalty", 0, "--logprobs",
                          "--mask-unused", stdin=LINES)
    for answer in answers:
        scores = [o["logprob"] for o in answer["outputs"]]
        assert scores == sorted(scores, reverse=True)
        for o in answer["outputs"]:
            assert math.isclose(sum(o["logprobs"]), o["logprob"], abs_tol=1e-4) and len(o["logprobs"]) - len(o["ids"]) in (0, 1)


def test_weights_of_8_bits_write_nearly_the_same(world: World) -> None:
    run = ("generate", "--model", "student", "--max-tokens", 5, "--logprobs")
    stored, wide, whole = (world.lines(*run, "--dtype", dtype, stdin=LINES) for dtype in ("stored", "fp32", "int8"))
    assert stored == wide  # the student's files are F32
    off = [abs(a["logprobs"][0] - b["logprobs"][0]) for a, b in zip(wide, whole)]
    assert 0 < max(off) < 0.5


def test_an_output_is_cut_before_a_stop_string(world: World) -> None:
    plain = world.lines("generate", "--model", "student", "--max-tokens", 12, "--mask-unused", stdin=LINES)
    text = next(a["text"] for a in plain if len(a["text"]) > 4)
    stop = text[2:4]
    answers = world.lines("generate", "--model", "student", "--max-tokens", 12, "--mask-unused", "--stop", "not there", "--stop", stop, stdin=LINES)
    assert any(a["finish"] == "stop_string" for a in answers)
    for a, p in zip(answers, plain):
        assert a["text"] == p["text"].split(stop)[0]
        assert (a["finish"] == "stop_string") == (stop in p["text"])


@pytest.mark.parametrize(("options", "message"), [
    (["--sample", "--beam", 2], "exclude"), (["--n", 2], "--n needs"), (["--beam", 2, "--n", 3], "--n is above"),
    (["--repeat-stop", 1], "--repeat-stop"), (["--stop", ""], "--stop"), (["--temperature", 0], "--temperature"),
    (["--early-stopping", "soon"], "--early-stopping"),
])
def test_choices_that_do_not_fit_are_wrong_usage(world: World, options: list, message: str) -> None:
    result = world.run("generate", "--model", "student", *options)
    assert result.returncode == 2 and message in result.stderr.decode() and result.stdout == b""
