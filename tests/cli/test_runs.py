"""Runs and stores that were stopped, killed, damaged, or opened twice."""

from __future__ import annotations

import base64
import gzip
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from conftest import COMMAND, World


def figures(world: World, run: str) -> list[dict]:
    """metrics.jsonl without the times."""
    lines = world.read(f"{run}/metrics.jsonl").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def configure(world: World, out: str, **more: object) -> str:
    config = json.loads(world.read("run.json"))
    config.update({"out": out, "steps": 40, "save_every": 5, "keep": 2, **more})
    world.write(f"{out}.json", config)
    return f"{out}.json"


@pytest.fixture(scope="module")
def whole(world: World) -> World:
    world.done("train", configure(world, "whole"))
    return world


def last_model(world: World, run: str) -> bytes:
    return world.read(f"{run}/checkpoints/step-40/model.safetensors")


def start(world: World, *args: str) -> subprocess.Popen[bytes]:
    # a shell's background job ignores SIGINT, and a child inherits that
    return subprocess.Popen([COMMAND, *args], cwd=world.folder, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_stopped_run_goes_on_to_the_same_bits(whole: World, number: signal.Signals) -> None:
    shutil.rmtree(whole.folder / "stopped", ignore_errors=True)
    config = configure(whole, "stopped")
    child = start(whole, "train", config)
    while not (whole.folder / "stopped/checkpoints/step-5").exists() and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(number)
    text = child.communicate()[1].decode()
    if child.returncode != 0:  # it may have been quicker than the signal
        assert child.returncode == (-number if number == signal.SIGKILL else 1)
        go_on = "stopped and saved in stopped: go on with: reasondistill train stopped.json --resume"
        assert number == signal.SIGKILL or go_on in text
    whole.done("train", config, "--resume")
    assert figures(whole, "stopped") == figures(whole, "whole")
    assert last_model(whole, "stopped") == last_model(whole, "whole")
    assert sorted(os.listdir(whole.folder / "stopped/checkpoints"))[-1] == "step-40"


@pytest.fixture
def copy(whole: World) -> Iterator[World]:
    config = configure(whole, "copy")
    shutil.copytree(whole.folder / "whole", whole.folder / "copy")
    run = json.loads(whole.read("copy/run.json"))
    whole.write("copy/run.json", {**run, "out": "copy"})
    assert config == "copy.json"
    yield whole
    shutil.rmtree(whole.folder / "copy")


def flip(data: bytes) -> bytes:
    return data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1:]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.safetensors", "trainer.json", "config.json", "spiece.model"])
@pytest.mark.parametrize("damage", [flip, lambda d: d[:len(d) // 2], lambda d: b"", None],
                         ids=["flipped", "cut", "empty", "missing"])
def test_a_damaged_checkpoint_is_passed_over(copy: World, name: str, damage: Callable[[bytes], bytes] | None) -> None:
    path = copy.folder / "copy/checkpoints/step-40" / name
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    result = copy.run("train", "copy.json", "--resume")
    assert result.returncode == 0 and b"checkpoint step-40 is damaged and passed over: copy/checkpoints/step-40/" in result.stderr
    assert figures(copy, "copy") == figures(copy, "whole")
    assert last_model(copy, "copy") == last_model(copy, "whole")


def test_a_number_that_changed_in_a_checkpoints_notes_is_noticed(copy: World) -> None:
    path = copy.folder / "copy/checkpoints/step-40/trainer.json"
    notes = path.read_text()
    assert '"updates": 40' in notes
    path.write_text(notes.replace('"updates": 40', '"updates": 41'))  # still a number, and still JSON
    result = copy.run("train", "copy.json", "--resume")
    assert result.returncode == 0 and b"step-40 is damaged and passed over: copy/checkpoints/step-40/trainer.json: is not what was written" in result.stderr
    assert last_model(copy, "copy") == last_model(copy, "whole")


# Bytes that a file may have: too few for the next line of the metrics, for a model, for the optimizer's state (whose size is twice the model's).
@pytest.mark.parametrize("what", ["metrics.jsonl", "model.safetensors", "trainer.safetensors"])
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(copy: World, what: str) -> None:
    shutil.rmtree(copy.folder / "copy/checkpoints/step-40")
    size = (copy.folder / "copy/checkpoints/step-35" / what if what != "metrics.jsonl" else copy.folder / "copy" / what).stat().st_size
    limit = size * 7 // 8 if what == "metrics.jsonl" else size - 1

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = copy.run("train", "copy.json", "--resume", preexec_fn=fill)
    text = result.stderr.decode()
    assert result.returncode == 1 and what in text, text
    assert "no checkpoint was written, the earlier ones are untouched" in text or what == "metrics.jsonl", text
    assert os.listdir(copy.folder / "copy/checkpoints") == ["step-35"]
    assert all(json.loads(line) for line in copy.read("copy/metrics.jsonl").splitlines())
    copy.done("train", "copy.json", "--resume")
    assert figures(copy, "copy") == figures(copy, "whole")
    assert last_model(copy, "copy") == last_model(copy, "whole")


def test_a_run_is_not_begun_twice(whole: World) -> None:
    before = whole.read("whole/metrics.jsonl")
    result = whole.run("train", "whole.json")
    assert result.returncode == 1
    assert result.stderr == b'reasondistill: whole: holds a run: go on with --resume, or choose another "out"\n'
    assert whole.read("whole/metrics.jsonl") == before


def test_another_configuration_does_not_go_on_with_a_run(copy: World) -> None:
    configure(copy, "copy", lr=5e-4)
    result = copy.run("train", "copy.json", "--resume")
    assert result.returncode == 1 and b'key "lr" was 0.001 when the run was started and is 0.0005 now' in result.stderr


def test_one_process_at_a_time_writes_a_run_or_a_store(whole: World) -> None:
    collect = ["collect", "--questions", "train.jsonl", "--teacher", "replay:replies.jsonl", "--out", "locked.jsonl"]
    for name, command in [("copy/metrics.jsonl", ["train", "copy.json", "--resume"]), ("locked.jsonl", collect)]:
        if name.startswith("copy"):
            configure(whole, "copy", steps=1000000)
        else:
            os.mkfifo(whole.folder / "questions")
            command[2] = "questions"  # never answers: the store stays open
        child = start(whole, *command)
        try:
            limit = time.monotonic() + 60
            while not (whole.folder / name).exists() and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(0.2)
            second = whole.run(*[c if c != "questions" else "train.jsonl" for c in command])
            assert second.returncode == 1 and f"{name}: is being written by another process" in second.stderr.decode()
        finally:
            child.kill()
            child.communicate()
    shutil.rmtree(whole.folder / "copy")


@pytest.mark.parametrize(("tail", "rows"), [
    (lambda d: d[:-100], 39), (lambda d: d + b'{"id":"x', 40), (lambda d: d[:-50] + b"\0" * 50, 39), (lambda d: b"", 0),
], ids=["torn", "begun", "zeroed", "empty"])
def test_a_torn_store_is_repaired_and_asked_for_what_it_lacks(world: World, tail: Callable[[bytes], bytes], rows: int) -> None:
    world.write("torn.jsonl", tail(world.read("teacher.jsonl")))
    result = world.run("collect", "--questions", "train.jsonl", "--teacher", "replay:replies.jsonl", "--out", "torn.jsonl")
    text = result.stderr.decode()
    assert result.returncode == 0 and f"collected {40 - rows} replies to 40 questions ({rows} were there already)" in text
    assert world.read("torn.jsonl") == world.read("teacher.jsonl")


def test_an_unreachable_host_is_named(world: World) -> None:
    ask = ["collect", "--questions", "train.jsonl", "--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--retries", 0, "--out", "none.jsonl"]
    result = world.run(*ask, "--unreachable", 0)
    lines = result.stderr.decode().splitlines()
    assert result.returncode == 1 and len(lines) == 2, lines
    assert "http://127.0.0.1:9/v1" in lines[0] and "40 failed" in lines[1]
    assert world.read("none.jsonl") == b""


def test_a_host_that_is_not_there_ends_the_run_and_keeps_what_was_stored(world: World) -> None:
    world.write("some.jsonl", world.read("teacher.jsonl")[:-1000])
    kept = world.read("some.jsonl").rsplit(b"\n", 1)[0] + b"\n"
    ask = ["collect", "--questions", "train.jsonl", "--teacher", "http://127.0.0.1:9/v1", "--model", "m", "--samples", 3, "--per-request", 1]
    result = world.run(*ask, "--retries", 0, "--concurrency", 1, "--out", "some.jsonl")
    text = result.stderr.decode()
    assert result.returncode == 1 and "3 failed" in text and "3 requests" in text
    assert "stopped: the endpoint cannot be reached: the same command goes on where it stopped" in text
    assert world.read("some.jsonl") == kept


# ---- compressed stores ----

@pytest.fixture
def packed(world: World) -> World:
    """A world whose library knows gzip; with teacher.jsonl.gz made by the command."""
    (world.folder / "teacher.jsonl.gz").unlink(missing_ok=True)
    result = world.run("collect", "--out", "teacher.jsonl", "--compact", "--gzip")
    if b"without zlib" in result.stderr:
        pytest.skip("built without zlib")
    assert result.returncode == 0, result.stderr
    return world


def test_a_store_is_compressed_beside_itself(packed: World) -> None:
    store = packed.read("teacher.jsonl")
    assert gzip.decompress(packed.read("teacher.jsonl.gz")) == store
    assert packed.run("collect", "--out", "teacher.jsonl", "--gzip").returncode == 2
    for verb in ("--verify", "--stats"):
        a, b = (packed.run("collect", "--out", name, verb) for name in ("teacher.jsonl", "teacher.jsonl.gz"))
        assert a.returncode == b.returncode == 0 and a.stdout == b.stdout
        assert a.stderr.replace(b"teacher.jsonl:", b"") == b.stderr.replace(b"teacher.jsonl.gz:", b"")


@pytest.mark.parametrize("members", [1, 3], ids=["one member", "three members"])
def test_a_compressed_store_is_aligned_and_replayed_as_the_plain_one(packed: World, members: int) -> None:
    store = packed.read("teacher.jsonl")
    cuts = [len(store) * i // members for i in range(members + 1)]  # the seams lie within rows
    packed.write("other.gz", b"".join(gzip.compress(store[a:b]) for a, b in zip(cuts, cuts[1:])))
    packed.done("align", "--tokenizer", "spiece.model", "--in", "other.gz", "--out", "other.rsd")
    assert packed.read("other.rsd") == packed.read("aligned.rsd")
    (packed.folder / "again.jsonl").unlink(missing_ok=True)
    packed.done("collect", "--questions", "train.jsonl", "--teacher", "replay:other.gz", "--out", "again.jsonl")
    rows = [[{k: v for k, v in json.loads(line).items() if k != "request_sha256"} for line in data.splitlines()]
            for data in (packed.read("again.jsonl"), store)]
    assert rows[0] == rows[1]


def test_a_compressed_store_that_was_cut_is_reported_like_a_torn_one(packed: World) -> None:
    store = packed.read("teacher.jsonl")
    half = store[:store.index(b"\n", len(store) // 2) + 1]
    packed.write("cut.gz", gzip.compress(half) + gzip.compress(store[len(half):])[:-9])
    result = packed.run("collect", "--out", "cut.gz", "--verify")
    text = result.stderr.decode()
    rows = int(text.split(" rows")[0].rsplit(" ", 1)[1])
    assert result.returncode == 0 and half.count(b"\n") <= rows <= 40 and " 0 bytes of an unfinished line" not in text
    for command in (["align", "--tokenizer", "spiece.model", "--in", "cut.gz", "--out", "cut.rsd"],
                    ["collect", "--questions", "train.jsonl", "--teacher", "replay:cut.gz", "--out", "cut.jsonl"]):
        result = packed.run(*command)
        assert result.returncode == 1 and b"cut.gz, line " in result.stderr and b"break off" in result.stderr
    assert not (packed.folder / "cut.rsd").exists()
    skipped = packed.run("align", "--tokenizer", "spiece.model", "--in", "cut.gz", "--out", "cut.rsd", "--skip-bad")
    assert skipped.returncode == 0 and b"(1 skipped)" in skipped.stderr
    packed.done("collect", "--out", "cut.gz", "--compact")
    compacted = gzip.decompress(packed.read("cut.gz"))
    assert store.startswith(compacted) and compacted.count(b"\n") == rows


def test_nothing_is_appended_to_a_compressed_store_nor_asked_again_because_of_it(packed: World) -> None:
    before = packed.read("teacher.jsonl.gz")
    collect = ["collect", "--questions", "train.jsonl", "--teacher", "replay:replies.jsonl", "--out"]
    result = packed.run(*collect, "teacher.jsonl.gz")
    assert result.returncode == 1 and b"is compressed" in result.stderr and packed.read("teacher.jsonl.gz") == before
    packed.write("gone.jsonl.gz", before)
    result = packed.run(*collect, "gone.jsonl")
    assert result.returncode == 1 and b"gone.jsonl.gz is: unpack it" in result.stderr and not (packed.folder / "gone.jsonl").exists()


# ---- what align tells ----

def test_align_writes_a_heat_map_beside_a_shard_and_a_table_of_both_methods(world: World) -> None:
    world.done("align", "--tokenizer", "spiece.model", "--in", "teacher.jsonl", "--out", "heat.rsd", "--heatmap", "heat.jsonl")
    assert world.read("heat.rsd") == world.read("aligned.rsd")
    heat = [json.loads(line) for line in world.read("heat.jsonl").splitlines()]
    lines = [json.loads(line) for line in world.done("align", "--tokenizer", "spiece.model", "--in", "teacher.jsonl", "--json").splitlines()]
    assert len(heat) == len(lines) == 40
    for h, x in zip(heat, lines):
        assert (h["id"], h["tokens"], h["pieces"], h["kinds"], h["tail"]) == (x["id"], x["teacher_tokens"], x["student_pieces"], x["kinds"], x["tail"])
        for piece, tail in enumerate(h["tail"]):
            assert abs(sum(m for _, p, m in h["cells"] if p == piece) + tail - 1) < 1e-4
        assert x["chunks"][-1][0] == len(x["kinds"]) and all(c <= 0 for _, c in x["chunks"] if c is not None)
        assert len(x["weights"]) == len(x["kinds"]) and abs(sum(x["placed"]) / len(x["placed"]) - x["coverage"]["placed"]) < 1e-6
    table = world.done("align", "--tokenizer", "spiece.model", "--in", "teacher.jsonl", "--compare", "--per-reply").splitlines()
    assert "span" in table[0] and "dtw" in table[0] and table[1].split() == ["id", "sample", *["positions", "soft", "placed", "given"] * 2]
    assert len([t for t in table[2:42] if len(t.split()) == 12]) == 40
    kinds = {t.split()[0]: t.split()[1:] for t in table[-9:]}
    positions = sum(len(x["kinds"]) for x in lines)
    assert int(kinds["all"][0]) == positions
    for name in ("exact", "hard"):
        n = sum(x["kinds"].count(name) for x in lines)
        assert int(kinds[name][0]) == n and abs(float(kinds[name][1]) - 100 * n / positions) < 0.01


def test_weights_of_kinds_stand_in_the_shard(world: World) -> None:
    world.done("align", "--tokenizer", "spiece.model", "--in", "teacher.jsonl", "--out", "light.rsd", "--weights", "merge=0.5,hard=0")
    assert b'"kind_weights":[1,1,0.5,1,1,1,0,1]' in world.read("light.rsd")


def test_align_honours_the_text_of_a_line_in_shards_too(world: World) -> None:
    row = json.loads(world.read("teacher.jsonl").splitlines()[0])
    row["student_text"] = row["text"].split("\n")[0] + " Well."
    world.write("other.jsonl", json.dumps(row) + "\n")
    line = json.loads(world.done("align", "--tokenizer", "spiece.model", "--in", "other.jsonl", "--json"))
    report = world.run("align", "--tokenizer", "spiece.model", "--in", "other.jsonl", "--out", "other.rsd").stderr.decode()
    assert line["student_text"] == row["student_text"].strip()
    assert [int(t.split()[1]) for t in report.splitlines() if t.startswith("all ")] == [len(line["student_ids"])]


def logprobs(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    """A row of a store with something else in it."""
    def changed(row: bytes) -> bytes:
        parsed = json.loads(row)
        change(parsed)
        return json.dumps(parsed).encode()
    return changed


@pytest.mark.parametrize(("spoil", "says"), [
    (logprobs(lambda r: r.update(text=r["text"] + "!")), "do not join to the text"),
    (logprobs(lambda r: r["logprobs"].__setitem__(1, 0.5)), "a log-probability is at most 0"),
    (logprobs(lambda r: r["top"][0].__setitem__(0, ["x", 0.5])), "a log-probability is at most 0"),
    (logprobs(lambda r: r["logprobs"].__setitem__(1, float("nan"))), "byte"),
    (logprobs(lambda r: r["logprobs"].__setitem__(1, None)), "token 1"),
    (logprobs(lambda r: r["logprobs"].pop()), "logprobs"),
    (logprobs(lambda r: r["top"].pop()), "top"),
    (logprobs(lambda r: r.update(tokens=None, logprobs=None, top=None)), "no tokens"),
    (lambda row: row[:-20], "byte"),
    (lambda row: b"\xff" + row, "byte 0"),
], ids=["other text", "positive", "positive alternative", "nan", "null", "a logprob less", "a list less", "none", "torn", "not utf-8"])
def test_a_bad_reply_is_located_or_counted(world: World, spoil: Callable[[bytes], bytes], says: str) -> None:
    first, second, third = world.read("teacher.jsonl").splitlines()[:3]
    world.write("spoilt.jsonl", b"\n".join([first, spoil(second), third, b""]))
    align = ["align", "--tokenizer", "spiece.model", "--in", "spoilt.jsonl", "--out", "spoilt.rsd"]
    result = world.run(*align)
    text = result.stderr.decode()
    assert result.returncode == 1 and "spoilt.jsonl, line 2: " in text and says in text and text.count("\n") == 1, text
    assert not (world.folder / "spoilt.rsd").exists()
    result = world.run(*align, "--skip-bad")
    text = result.stderr.decode()
    assert result.returncode == 0 and "aligned 2 replies (1 skipped)" in text and "spoilt.jsonl, line 2: " in text, text
    (world.folder / "spoilt.rsd").unlink()


def test_replies_asked_for_with_other_alternatives_are_located_or_counted(world: World) -> None:
    rows = [json.loads(world.read("teacher.jsonl").splitlines()[0]) | {"sample": i} for i in range(3)]
    k = max(len(top) for top in rows[0]["top"])
    rows[1]["top"] = [top[:1] for top in rows[1]["top"]]
    world.write("mixed.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    align = ["align", "--tokenizer", "spiece.model", "--in", "mixed.jsonl", "--out", "mixed.rsd"]
    result = world.run(*align, "--top-logprobs", k)
    text = result.stderr.decode()
    assert result.returncode == 1 and "mixed.jsonl, line 2: " in text and f"expected {k}" in text and text.count("\n") == 1, text
    assert not (world.folder / "mixed.rsd").exists()
    assert "aligned 2 replies (1 skipped)" in world.run(*align, "--top-logprobs", k, "--skip-bad").stderr.decode()
    assert "aligned 3 replies (0 skipped)" in world.run(*align).stderr.decode()
    (world.folder / "mixed.rsd").unlink()


def test_a_byte_pair_student_of_an_unknown_vocabulary_is_told_how_it_cuts(world: World) -> None:
    world.write("bytes.tiktoken", b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256)))
    align = ["align", "--tokenizer", "bytes.tiktoken", "--in", "teacher.jsonl", "--json"]
    assert "gpt2" in world.run(*align).stderr.decode()
    lines = [json.loads(line) for line in world.done(*align, "--pattern", "gpt2").splitlines()]
    assert len(lines) == 40 and all(len(x["student_ids"]) == len(x["student_text"].encode()) for x in lines)


def test_a_shard_of_another_tokenizer_is_known_by_its_hash(world: World) -> None:
    piece = b"\x0a\x04zzqx\x15" + struct.pack("<f", -20)  # one piece more: field 1 of the model, with its text and its score
    world.write("longer.model", world.read("spiece.model") + b"\x0a" + bytes([len(piece)]) + piece)
    world.done("align", "--tokenizer", "longer.model", "--in", "teacher.jsonl", "--out", "longer.rsd")
    shutil.copytree(world.folder / "data", world.folder / "swapped")
    world.write("swapped/aligned.rsd", world.read("longer.rsd"))
    result = world.run("train", configure(world, "swap", data="swapped"))
    text = result.stderr.decode()
    assert result.returncode == 1 and "swapped/aligned.rsd: aligned for tokenizer " in text and text.count("\n") == 1, text
    assert not (world.folder / "swap").exists()
