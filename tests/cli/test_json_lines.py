"""JSON Lines on standard input and output: one answer for each line, in order, `id` passes through; --strict stops."""

from __future__ import annotations

import json

import pytest

from conftest import World

VERBS = {
    "tokenize": (["tokenize", "--tokenizer", "spiece.model"], {"text": "a"}, {"ids", "pieces"}),
    "decode": (["tokenize", "--tokenizer", "spiece.model", "--decode"], {"ids": [3, 4]}, {"text"}),
    "generate": (["generate", "--model", "student", "--max-tokens", "2"], {"text": "a"}, {"text", "ids", "logprob", "finish"}),
    "score": (["score", "--model", "student"], {"input": "a", "target": "b"}, {"ids", "logprobs", "perplexity"}),
}
IDS = [0, "x", -3, 9007199254740991, 1.5, None, True, {"a": [1]}, "\u0000é😀"]
BROKEN = [b"", b"{", b"[]", b"null", b'{"id":1,"id":2}', b'{"id":"\xff"}', b"\0", b'{"id":1e999}', b"[" * 1000, b'{"id":7}',
          b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("verb", VERBS)
def test_each_line_has_its_answer_in_its_place(world: World, verb: str) -> None:
    command, request, keys = VERBS[verb]
    inputs, expected = [], []
    for i, broken in enumerate(BROKEN):
        inputs += [json.dumps({"id": i, **request}).encode(), broken]
        expected += [i, None if broken != b'{"id":7}' else 7]
    answers = world.lines(*command, stdin=b"\n".join(inputs) + b"\n")
    assert [a["id"] for a in answers] == expected
    for n, answer in enumerate(answers):
        if n % 2 == 0:
            assert set(answer) == {"id"} | keys
        else:
            assert set(answer) == {"id", "status", "error"} and answer["status"] == -1
            assert answer["error"].startswith(f"standard input, line {n + 1}: ") and "\n" not in answer["error"]


@pytest.mark.parametrize("verb", VERBS)
def test_bad_lines_are_counted_on_standard_error(world: World, verb: str) -> None:
    command, request, _ = VERBS[verb]
    result = world.run(*command, stdin=json.dumps(request).encode() + b"\n{\n")
    assert result.returncode == 0 and b"1 of 2 lines were bad" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_an_id_passes_through_as_it_is(world: World, verb: str) -> None:
    command, request, keys = VERBS[verb]
    answers = world.lines(*command, stdin="".join(json.dumps({"id": i, **request}) + "\n" for i in IDS).encode())
    assert [a["id"] for a in answers] == IDS
    assert set(world.lines(*command, stdin=json.dumps(request).encode())[0]) == keys  # none is made up; no last newline is needed


@pytest.mark.parametrize("verb", VERBS)
def test_strict_stops_at_the_first_bad_line(world: World, verb: str) -> None:
    command, request, keys = VERBS[verb]
    good = json.dumps({"id": 1, **request}).encode()
    answers = world.lines(*command, "--strict", stdin=good + b"\n{\n" + good + b"\n", status=1)
    assert [set(a) for a in answers] == [{"id"} | keys, {"id", "status", "error"}]


@pytest.mark.parametrize("verb", VERBS)
def test_no_lines_give_no_lines(world: World, verb: str) -> None:
    assert world.lines(*VERBS[verb][0], stdin=b"") == []


def test_more_lines_than_a_block_stay_in_order(world: World) -> None:
    lines = [json.dumps({"id": i, "text": "a" * (i % 7)}) for i in range(50)]
    answers = world.lines("generate", "--model", "student", "--max-tokens", 2, "--batch", 2, stdin="\n".join(lines).encode())
    assert [a["id"] for a in answers] == list(range(50))
    alone = world.lines("generate", "--model", "student", "--max-tokens", 2, stdin=lines[33].encode())[0]
    assert alone == answers[33]


def test_align_answers_each_reply(world: World) -> None:
    replies = world.read("replies.jsonl").split(b"\n")[:3]
    none = json.loads(replies[1])
    none["choices"] = []
    inputs = [replies[0], json.dumps(none).encode(), b"{", replies[2]]
    answers = world.lines("align", "--tokenizer", "spiece.model", "--in", "-", "--json", stdin=b"\n".join(inputs))
    assert [a["id"] for a in answers] == ["train-00000", "train-00001", None, "train-00002"]
    assert [a["status"] for a in answers] == [1, -1, -1, 1]
    assert "student_ids" in answers[0] and answers[1]["error"].startswith("standard input, line 2: ")


def test_pieces_and_ids_lead_back_to_the_text(world: World) -> None:
    text = "Tom has 12 apples."
    ids = world.lines("tokenize", "--tokenizer", "student", stdin=json.dumps({"text": text}).encode())[0]["ids"]
    back = world.lines("tokenize", "--tokenizer", "student", "--decode", stdin=json.dumps({"ids": ids}).encode())
    assert back == [{"text": text}]
