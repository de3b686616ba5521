"""Bad input to every verb: its exit status, one line that names what is wrong, and nothing left under the name of the output.

A row of the table is: the command, its exit status, a part of the line, in which `...` stands for anything. `{name}` in a command
is made by `bad` below.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import struct
from collections.abc import Callable

import pytest

from conftest import World

TOKENIZE = "tokenize --tokenizer spiece.model"
COLLECT = "collect --questions train.jsonl --teacher replay:replies.jsonl --out new"
ALIGN = "align --tokenizer spiece.model --in teacher.jsonl --out new"
BUILD = "build --questions train.jsonl --in aligned.rsd --out new"
INIT = "init --config config.json --tokenizer spiece.model --out new"
EVAL = "eval --model student --task jsonl --data heldout.jsonl --limit 2 --max-tokens 2 --out new"
MERGE = "merge --base student --tuned student --out new"
MODEL_READERS = ("generate --model {}", "score --model {}", "info --model {}", "merge --base {} --tuned student --out new",
                 "eval --model {} --task jsonl --data heldout.jsonl --out new", "init --from {} --layers 1,1 --out new")


def swap(command: str, option: str, value: str) -> str:
    """The command with another value of one option."""
    assert f" {option} " in command, command
    return re.sub(rf" {option} \S+", f" {option} {value}", command)


TABLE: list[tuple[str, int, str]] = [
    ("nonsense", 2, "there is no verb nonsense"),
    # options
    *((f"{verb} --bogus", 2, f"{verb}: there is no option --bogus") for verb in
      "collect tokenize align build questions init train generate score eval compare select scaling merge sweep info bench".split()),
    ("info --kernels abacus", 2, "--kernels abacus: this build and CPU have auto, "),
    ("info --kernels", 2, "a value is missing after --kernels"),
    ("tokenize", 2, "needs --tokenizer"),
    ("train", 2, "needs RUN.JSON"),
    ("train a b", 2, "not understood: b"),
    ("tokenize --tokenizer", 2, "a value is missing after --tokenizer"),
    ("tokenize --tokenizer=", 2, "an empty value is given for --tokenizer"),
    ("tokenize --tokenizer spiece.model --decode=1", 2, "takes no value: --decode"),
    (f"{INIT} --seed -1", 2, "--seed takes 0 to 9007199254740992, not -1"),
    (f"{INIT} --seed 9007199254740993", 2, "--seed takes 0 to 9007199254740992, not 9007199254740993"),
    (f"{INIT} --seed 99999999999999999999", 2, "--seed takes a whole number, not 99999999999999999999"),
    (f"{INIT} --seed 1e3", 2, "--seed takes a whole number, not 1e3"),
    (f"{INIT} --threads 5000", 2, "--threads takes 0 to 1024"),
    (f"{INIT} --dtype int8", 2, "--dtype takes fp32|fp16|bf16, not int8"),
    ("init --out new", 2, "needs --config FILE, or --from DIR"),
    ("init --from student --layers 1 --out new", 2, "--layers takes two whole numbers from 1, as 6,4, not 1"),
    *((f"{MERGE} --alpha {alpha}", 2, f"--alpha takes up to 101 numbers, as 0,0.1,..,1, not {alpha}")
      for alpha in ("nan", "1,", "x", "..,1", "0,..,1", "0,0.3,..,1", "1,0.5,..,2", "0,0,..,1")),
    (f"{MERGE} --alpha 1,2", 2, "2 numbers were given for 1 tuned models"),
    (f"{MERGE} --weights 1", 2, "--alpha goes with --base, --weights without it"),
    ("merge --tuned student --weights 0 --out new", 2, "the weights sum to 0"),
    ("select missing", 1, "missing/run.json: "),
    ("sweep --base student --tuned student", 2, "sweep: needs sets: --id SET, --ood SET"),
    *((f"select run --id {bad}", 1, f'set "{bad}": ') for bad in ("jsonl", "jsonl:zs:heldout.jsonl", "jsonl:zs-cot:")),
    ("select missing --id jsonl:zs-cot:heldout.jsonl", 1, "missing/checkpoints: "),
    ("select run --id jsonl:ic-cot:heldout.jsonl", 1, "set heldout.jsonl: format ic-cot needs demonstrations"),
    ("sweep --base student --tuned student --alphas 0,..,1 --id jsonl:zs-ao:heldout.jsonl", 2, "--alphas takes up to 101 numbers"),
    ("sweep --base student --tuned student --weights 1,1 --id jsonl:zs-ao:heldout.jsonl", 2, "--weights takes up to 101 numbers"),
    ("sweep --base student --tuned student --alphas 0.5 --id jsonl:zs-ao:missing", 1, "set missing zs-ao of alpha-0.5: missing: "),
    ("sweep --base student --tuned student --alphas 0.5 --id nothing:zs-ao:heldout.jsonl", 1, "set heldout zs-ao of alpha-0.5: unknown task"),
    *((f"scaling --in {bad}", 1, f"{bad}: ") for bad in ("missing", "folder", "empty")),
    ("scaling --in text", 1, "text: line 1: byte 0"),
    ("scaling --in train.jsonl", 1, "train.jsonl: line 1: key \"parameters\" is missing"),
    (f"{ALIGN} --json", 2, "--json writes to standard output"),
    ("align --tokenizer spiece.model --in teacher.jsonl", 2, "needs --out FILE, --json, --heatmap FILE or --compare"),
    (f"{ALIGN} --per-reply", 2, "--per-reply goes with --compare"),
    (f"{ALIGN} --heatmap -", 2, "--heatmap - writes to standard output"),
    (f"{ALIGN} --weights bridge=x", 2, "--weights takes KIND=NUMBER"),
    (f"{ALIGN} --weights soft=1", 2, "--weights takes KIND=NUMBER"),
    (f"{ALIGN} --method soft", 2, "--method takes span|dtw, not soft"),
    ("questions --task svamp --in x", 2, "needs --out"),
    ("questions --task svmap --in x --out new", 2, "--task takes gsm8k|multiarith|asdiv|svamp|bbh|jsonl, not svmap"),
    (f"{BUILD} --formats zs-ao,zs", 2, "there is no format zs: "),
    (f"{BUILD} --shots 0", 2, "--shots takes 1 to 64, not 0"),
    (f"{EVAL} --format zs", 2, "--format takes zs-ao|zs-cot|ic-ao|ic-cot, not zs"),
    (f"{EVAL} --format ic-cot", 2, "--format ic-cot needs --demos FILE"),
    *((f"{EVAL} --samples 3 --maj {maj}", 2, f"--maj takes up to 8 numbers from 1 to --samples (3), as 1,5,10, not {maj}")
      for maj in ("4", "0", "1,", "1;2", "1,1,1,1,1,1,1,1,1")),
    (f"{EVAL} --samples 300", 2, "--samples takes 1 to 256, not 300"),
    ("compare a.json", 2, "needs B.JSON"),
    ("compare missing missing", 1, "missing: "),
    ("compare text text", 1, "text: byte 0"),
    ("compare config.json config.json", 1, "config.json: is not what eval wrote: key \"items\""),
    (f"{EVAL} --cache text", 1, "text"),
    ("bench sleep", 2, "takes train|generate|encode|open|align|tokenize, not sleep"),
    ("bench tokenize", 2, "tokenize needs --tokenizer FILE and --in FILE"),
    ("bench train --steps 0", 2, "--steps takes 1 to 1000, not 0"),
    # files that are not there, folders in place of files, empty files, files of another kind
    *((swap(command, option, bad), 1, f"reasondistill: {bad}: ") for command, option in [
        (TOKENIZE, "--tokenizer"), (COLLECT, "--questions"), (ALIGN, "--tokenizer"), (ALIGN, "--in"), (BUILD, "--questions"),
        (BUILD, "--in"), (INIT, "--config"), (INIT, "--tokenizer"), (EVAL, "--data")] for bad in ("missing", "folder")),
    *((f"{TOKENIZE} --in {bad}", 1, f"reasondistill: {bad}: ") for bad in ("missing", "folder")),
    *((f"train {bad}", 1, f"reasondistill: {bad}: ") for bad in ("missing", "folder", "empty", "text")),
    *((swap(command, option, bad), 1, f"reasondistill: {bad}") for command, option in [
        (TOKENIZE, "--tokenizer"), (BUILD, "--in"), (INIT, "--config"), (EVAL, "--data")] for bad in ("empty", "text")),
    (swap(COLLECT, "--questions", "text"), 1, "text, line 1: byte 0"),
    (swap(COLLECT, "--teacher", "replay:missing"), 1, "missing: cannot be opened"),
    (swap(COLLECT, "--teacher", "ftp://host/v1"), 1, "ftp://host/v1"),
    (f"{COLLECT} --prompt missing", 1, "missing: cannot be opened"),
    (swap(COLLECT, "--out", "text"), 1, "text, line 1: no row of a teacher store"),
    (swap(ALIGN, "--in", "text"), 1, "text, line 1: byte 0"),
    (f"{EVAL} --format ic-cot --demos missing", 1, "missing: cannot be opened"),
    ("bench align --tokenizer spiece.model --in text --steps 1", 1, "text, line 1: byte 0"),
    ("bench tokenize --tokenizer spiece.model --in empty --steps 1", 1, "empty: holds no lines"),
    ("bench align --tokenizer spiece.model --in empty --steps 1", 1, "empty: holds no reply"),
    # output that cannot be written
    *((swap(command, "--out", out), 1, out) for command in (COLLECT, ALIGN, EVAL) for out in ("folder", "missing/new")),
    *((swap(command, "--out", "folder"), 1, "folder: is there already") for command in (BUILD, INIT, MERGE)),
    # question files
    (swap(COLLECT, "--questions", "{broken}"), 1, "broken, line 2: byte 6"),
    (swap(BUILD, "--questions", "{broken}"), 1, "broken, line 2: byte 6"),
    (swap(EVAL, "--data", "{broken}"), 1, "broken, line 2: byte 6"),
    (swap(COLLECT, "--questions", "{not_utf8}"), 1, "not_utf8, line 2: byte 22: not valid UTF-8"),
    (swap(EVAL, "--data", "{not_utf8}"), 1, "not_utf8, line 2: byte 22: not valid UTF-8"),
    (swap(COLLECT, "--questions", "{nul}"), 1, "nul, line 1: byte 22"),
    (swap(COLLECT, "--questions", "{twice}"), 1, "twice, line 1: byte 10: the key \"id\" appears twice"),
    (swap(BUILD, "--questions", "{same_id}"), 1, "same_id, line 2: the id \"a\" came before"),
    (swap(EVAL, "--data", "{no_answer}"), 1, "no_answer, line 1: key \"answer\" is missing"),
    (swap(BUILD, "--questions", "{strangers}"), 1, "none of 40 replies was kept"),
    (f"{BUILD} --hold-out missing", 1, "missing: cannot be opened"),
    (f"{BUILD} --hold-out {{broken}}", 1, "broken, line 2: byte 6"),
    (f"{BUILD} --hold-out heldout.jsonl --hold-out train.jsonl", 1,
     "train.jsonl: question 1 (\"train-00000\") also stands in train.jsonl: question 1 (\"train-00000\"), and 39 more"),
    (f"{BUILD} --hold-out train.jsonl --drop-held-out", 1, "train.jsonl: all questions are held out"),
    # benchmarks' own files
    ("questions --task gsm8k --in missing --out new", 1, "missing: cannot be opened"),
    ("questions --task svamp --in folder --out new", 1, "folder: is a folder: task svamp is one file"),
    ("questions --task bbh --in folder --out new", 1, "folder: holds no *.jsonl and no *.json"),
    ("questions --task svamp --in {svamp} --out new", 1, "svamp: element 1: key \"Question\" is missing"),
    ("questions --task asdiv --in {xml} --out new", 1, "xml, line 2: </P> where <Problem> is open"),
    ("questions --task gsm8k --in {no_end} --out new", 1, "no_end, line 1: key \"answer\": expected a solution that ends in"),
    # replies
    (swap(ALIGN, "--in", "{no_logprobs}"), 1, "no_logprobs, line 1: reply train-00000: the reply has no tokens"),
    (swap(ALIGN, "--in", "{torn}"), 1, "torn, line 2: byte"),
    (swap(ALIGN, "--in", "{positive}"), 1, "positive, line 1: ...a log-probability is at most 0"),
    (swap(ALIGN, "--in", "{other_text}"), 1, "other_text, line 1: ...do not join to the text"),
    (swap(COLLECT, "--out", "{damaged_store}"), 1, "damaged_store, line 2: byte"),
    # shards
    (swap(BUILD, "--in", "{cut_shard}"), 1, "cut_shard: byte ...make it again"),
    (swap(BUILD, "--in", "{flipped_shard}"), 1, "flipped_shard: byte ...checksum"),
    (swap(BUILD, "--in", "student/model.safetensors"), 1, "this is no .rsd file"),
    # models
    *((command.format(bad), 1, pattern) for command in MODEL_READERS for bad, pattern in [
        ("missing", "missing: no such model directory"), ("folder", "folder/config.json: cannot be opened"),
        ("{no_weights}", "no_weights/model.safetensors: no such file"),
        ("{cut_weights}", "cut_weights/model.safetensors: tensor ...truncated or damaged"),
        ("{wrong_shape}", "/model.safetensors: tensor shared.weight has shape [424, 64]: config.json asks for [424, 32]"),
        ("{wrong_dtype}", "wrong_dtype/model.safetensors: tensor ...I32: expected F32, F16 or BF16"),
        ("{strange_config}", "strange_config/config.json: feed_forward_proj is \"gated-x\"")]),
    *((command.format("{small_vocabulary}"), 1, "small_vocabulary: the tokenizer has 422 ids but the model only 40 rows")
      for command in MODEL_READERS if not command.startswith("info")),
    (swap(MERGE, "--tuned", "{fewer_layers}"), 1, "the models differ in num_layers"),
    ("init --from student --layers 9,9 --out new", 1, "9 encoder and 9 decoder layers asked for: the model has 2 and 2"),
    # runs
    ("train {run_unknown_key}", 1, "run_unknown_key: unknown key \"stepz\": did you mean \"steps\""),
    ("train {run_no_model}", 1, "run_no_model: key \"model\" is missing"),
    ("train {run_bad_lr}", 1, "run_bad_lr: key \"lr\": expected a number from 0 to 1000, found -1"),
    ("train {run_no_data}", 1, "missing/dataset.json: cannot be opened"),
    ("train {run_tokenizer}", 1, "the tokenizer has 422 pieces, the model's vocabulary has 40: they do not belong together"),
    ("train {run_leak}", 1, "key \"eval\", dev: data: question 1 (\"train-00000\") also stands in train.jsonl: question 1"),
    ("train {run_no_sets}", 1, "run_no_sets: key \"patience\": needs evaluations"),
    ("train {run_too_long}", 1, "all 3...items are longer than max_enc 1"),
]


def model(world: World, name: str, change: Callable[[dict], None] | None = None) -> None:
    shutil.copytree(world.folder / "student", world.folder / name)
    if change:
        config = json.loads(world.read(f"{name}/config.json"))
        change(config)
        world.write(f"{name}/config.json", config)


def header(world: World, name: str, change: Callable[[dict], None]) -> None:
    """Changes the header of the model's safetensors file."""
    raw = world.read(f"{name}/model.safetensors")
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + size])
    change(head)
    new = json.dumps(head).encode()
    world.write(f"{name}/model.safetensors", struct.pack("<Q", len(new)) + new + raw[8 + size:])


def run_json(world: World, name: str, **change: object) -> None:
    config = json.loads(world.read("run.json"))
    config.update(out="new", **change)
    world.write(name, {k: v for k, v in config.items() if v is not None})


@pytest.fixture(scope="session")
def bad(world: World) -> World:
    good = b'{"id":"a","question":"q","answer":"1"}\n'
    world.write("broken", good + b'{"id":\n' + good)
    world.write("not_utf8", good + b'{"id":"b","question":"\xff","answer":"1"}\n')
    world.write("nul", b'{"id":"a","question":"\0","answer":"1"}\n')
    world.write("twice", b'{"id":"a","id":"b","question":"q"}\n')
    world.write("same_id", good + good)
    world.write("no_answer", b'{"id":"a","question":"q"}\n')
    world.write("svamp", '[{"ID":"1","Body":"b","Question":"q","Answer":1.0},{"ID":"2","Body":"b"}]')
    world.write("xml", '<P><Problem ID="1">\n</P>')
    world.write("no_end", '{"question":"q","answer":"1"}')
    world.write("strangers", b"".join(good.replace(b'"a"', b'"a%d"' % i) for i in range(6)))

    first = world.read("replies.jsonl").split(b"\n")[0]

    def reply(name: str, change: Callable[[dict], None]) -> None:
        parsed = json.loads(first)
        change(parsed["choices"][0])
        world.write(name, json.dumps(parsed) + "\n")

    reply("no_logprobs", lambda c: c.update(logprobs=None))
    reply("positive", lambda c: c["logprobs"]["token_logprobs"].__setitem__(1, 5.0))
    reply("other_text", lambda c: c.update(text="zzz"))
    world.write("torn", first + b"\n" + first[:200])
    rows = world.read("teacher.jsonl").split(b"\n")
    world.write("damaged_store", rows[0] + b'\n{"id":\n' + rows[2] + b"\n")

    shard = world.read("aligned.rsd")
    world.write("cut_shard", shard[:-1])
    middle = len(shard) // 2
    world.write("flipped_shard", shard[:middle] + bytes([shard[middle] ^ 1]) + shard[middle + 1:])

    model(world, "no_weights")
    (world.folder / "no_weights/model.safetensors").unlink()
    model(world, "cut_weights")
    world.write("cut_weights/model.safetensors", world.read("student/model.safetensors")[:-4])
    model(world, "wrong_shape", lambda c: c.update(d_model=32))
    model(world, "wrong_dtype")
    header(world, "wrong_dtype", lambda h: h["decoder.final_layer_norm.weight"].update(dtype="I32"))
    model(world, "strange_config", lambda c: c.update(feed_forward_proj="gated-x"))
    small = json.loads(world.read("config.json"))
    world.write("small.json", {**small, "vocab_size": 40})
    world.done("init", "--config", "small.json", "--out", "small_vocabulary")
    shutil.copy(world.folder / "spiece.model", world.folder / "small_vocabulary")
    world.done("init", "--from", "student", "--layers", "1,1", "--out", "fewer_layers")

    run_json(world, "run_unknown_key", stepz=4)
    run_json(world, "run_no_model", model=None)
    run_json(world, "run_bad_lr", lr=-1)
    run_json(world, "run_no_data", data="missing")
    run_json(world, "run_tokenizer", model="small_vocabulary")
    run_json(world, "run_too_long", max_enc=1)
    run_json(world, "run_leak", eval_every=2, eval=[{"task": "jsonl", "data": "train.jsonl", "name": "dev"}])
    run_json(world, "run_no_sets", patience=2)
    return world


@pytest.mark.parametrize(("command", "status", "pattern"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input_gives_one_line_and_a_status(bad: World, command: str, status: int, pattern: str) -> None:
    result = bad.run(*command.replace("{", "").replace("}", "").split(), stdin=b'{"text":"a","input":"a","target":"b"}\n')
    text = result.stderr.decode()
    left = {p.name: p for p in bad.folder.iterdir() if p.name.startswith("new")}
    # a store may begin with no rows
    kept = [name for name, p in left.items() if not command.startswith("collect") or p.stat().st_size > 0]
    for p in left.values():
        shutil.rmtree(p) if p.is_dir() else p.unlink()
    assert result.returncode == status, text
    assert text.count("\n") == 1 and re.search(re.escape(pattern).replace(re.escape("..."), ".*"), text), text
    assert not result.stdout and not kept


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


@pytest.mark.parametrize("command", [ALIGN, BUILD, INIT, MERGE, EVAL], ids=lambda c: c.split()[0])
def test_a_full_disk_leaves_nothing_behind(world: World, command: str) -> None:
    result = world.run(*command.split(), preexec_fn=limit_file_size)
    assert result.returncode == 1 and re.fullmatch(rb"reasondistill: .*new.*: File too large\n", result.stderr), result.stderr
    assert not [p.name for p in world.folder.iterdir() if p.name.startswith("new")]


def test_a_store_on_a_full_disk_goes_on_when_there_is_room(world: World) -> None:
    result = world.run(*swap(COLLECT, "--out", "full.jsonl").split(), preexec_fn=limit_file_size)
    assert result.returncode == 1 and b"full.jsonl" in result.stderr and b"File too large" in result.stderr
    world.done(*swap(COLLECT, "--out", "full.jsonl").split())
    assert world.read("full.jsonl") == world.read("teacher.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", [
    "--help", "--version", "info", "info --model student", "train run.json --print-config", TOKENIZE, "score --model student",
    "generate --model student --max-tokens 2", ALIGN.replace("--out new", "--json"), ALIGN.replace("new", "-"),
    EVAL.replace(" --out new", "")])
def test_output_that_is_lost_is_a_failure(world: World, command: str) -> None:
    with open("/dev/full", "wb") as full:
        result = world.run(*command.split(), stdin=b'{"text":"a","input":"a","target":"b"}\n', stdout=full)
    assert result.returncode == 1 and result.stderr.count(b"\n") == 1 and b"standard output" in result.stderr, result.stderr
