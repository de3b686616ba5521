#!/usr/bin/env python3
"""Every target of speed and memory: figure, target, met or missed, as a table.

    tests/bench/against_pytorch.py build/src/cli/reasondistill --venv ~/torch --json peers.json
    tests/bench/targets.py build/src/cli/reasondistill --peers peers.json --state targets.json

Shares of the limit and ratios to PyTorch come from the file of against_pytorch.py; the rest is measured here, part by part (--part), and
kept in --state, so that parts can be measured again alone and the table is always whole. Targets are for two threads.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from measure import CASES, HERE, Failed, Ours, binding, interleaved, machine, make_gsm8k, median_of, table

GB = 1e9


class Target(NamedTuple):
    work: str
    figure: str
    target: str
    met: bool | None  # None: not measured


def missing(work: str, target: str, how: str) -> Target:
    return Target(work, how, target, None)


def share_of_limit(work: str, r: list[dict[str, Any]], least: float) -> Target:
    """Judged by the peak beside the steps: on a shared machine the best peak of a run is that of a moment. Both are told."""
    beside, best = median_of(r, "share_of_limit_beside"), median_of(r, "share_of_limit")
    figure = (f"{100 * beside:.1f} % of the peak beside the steps, {100 * best:.1f} % of the best one "
              f"({median_of(r):.3g} of {median_of(r, 'limit_seconds'):.3g} s)")
    return Target(f"{work}: share of the limit", figure, f"at least {100 * least:.0f} %", beside >= least)


# ---- from the comparison with PyTorch ----

def peer_targets(cases: list[dict[str, Any]]) -> list[Target]:
    found = {(c["case"], c["dtype"]): c for c in cases}
    out: list[Target] = []

    def share(case: str, dtype: str, least: float) -> None:
        work = f"{case} {dtype}"
        if (case, dtype) not in found:
            out.append(missing(f"{work}: share of the limit", f"at least {100 * least:.0f} %", "against_pytorch.py has not measured it"))
            return
        out.append(share_of_limit(work, found[case, dtype]["results"]["ours"], least))

    def ratio(case: str, dtype: str, least: float, key: str, more_is_better: bool) -> None:
        work, target = f"{case} {dtype}: against tuned PyTorch", f"at least {least:g}x"
        if (case, dtype) not in found:
            out.append(missing(work, target, "against_pytorch.py has not measured it"))
            return
        c = found[case, dtype]
        own, theirs = median_of(c["results"]["ours"], key), median_of(c["results"][c["tuned"]], key)
        value = own / theirs if more_is_better else theirs / own
        out.append(Target(work, f"{value:.2f}x ({own:.4g} and {theirs:.4g} {key}, {c['tuned']})", target, value >= least))

    for case in ("train-base-512", "train-small-512", "train-small-128", "train-base-128"):
        for dtype, least in (("fp32", 0.85), ("bf16", 0.75)):
            share(case, dtype, least if case == "train-base-512" else least - 0.05)
    ratio("train-base-512", "fp32", 1.35, "seconds", False)
    ratio("train-base-512", "bf16", 1.4, "seconds", False)
    for case in ("gsm8k-small", "gsm8k-base"):
        for dtype in ("fp32", "bf16"):
            if (case, dtype) in found:
                value = median_of(found[case, dtype]["results"]["ours"], "share_of_equal")
                out.append(Target(f"{case} {dtype}: packed, of the tokens/s of equal lengths", f"{100 * value:.1f} %", "at least 90 %", value >= 0.9))
                ratio(case, dtype, 2.5, "tokens_per_s", True)
    for dtype, most in (("bf16", 8.0), ("fp32", 15.0)):
        if ("decode-1-128", dtype) in found:
            ms = median_of(found["decode-1-128", dtype]["results"]["ours"], "ms_per_token")
            out.append(Target(f"decode-1-128 {dtype}", f"{ms:.2f} ms/token", f"at most {most:g} ms/token", ms <= most))
        if ("decode-1-512", dtype) in found and ("decode-1-128", dtype) in found:
            long = median_of(found["decode-1-512", dtype]["results"]["ours"], "ms_per_token")
            out.append(Target(f"decode-1-512 {dtype}: a token, against encoder 128", f"{100 * (long / ms - 1):+.1f} % ({long:.2f} ms)",
                              "at most +15 %", long <= 1.15 * ms))
        ratio("decode-16-128", dtype, 3, "tokens_per_s", True)
    for dtype in ("fp32", "bf16"):
        share("encode-512", dtype, 0.75)
    return out


# ---- measured here: each part gives raw figures, and targets from them ----

class Bench:
    def __init__(self, a: argparse.Namespace, work: Path) -> None:
        self.ours, self.rounds = Ours(a.command, shlex.split(a.prefix)), a.rounds
        self.pack, self.work, self.model, self.data = Path(a.pack), work, a.model, a.data

    def turns(self, variants: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
        """The lines of options in turns."""
        results: dict[str, list[dict[str, Any]]] = {}
        calls = {name: partial(self.ours.bench, line) for name, line in variants.items()}
        for name, result in interleaved(self.rounds, calls):
            results.setdefault(name, []).append(result)
            print(f"  {name}: {result['seconds']:.4g} s", file=sys.stderr)
        return results


WIDTHS = {"fp32": "--dtype fp32", "bf16": "--dtype bf16 --masters"}


def measure_dropout(b: Bench) -> dict[str, Any]:
    line = CASES["train-base-512"] + " --steps 2 "
    return b.turns({f"{d} {rate}": f"{line}{how} --dropout {rate}" for d, how in WIDTHS.items() for rate in ("0", "0.1")})


def dropout_targets(r: dict[str, Any]) -> list[Target]:
    out = []
    for d in WIDTHS:
        cost = median_of(r[f"{d} 0.1"]) / median_of(r[f"{d} 0"]) - 1
        out.append(Target(f"dropout 0.1, train-base-512 {d}", f"{100 * cost:+.1f} %", "at most +4 %", cost <= 0.04))
    return out


def measure_memory(b: Bench) -> dict[str, Any]:
    line = CASES["train-base-512"] + " --steps 2"
    return b.turns({"kept": line, "recompute": line + " --recompute"})


def memory_targets(r: dict[str, Any]) -> list[Target]:
    kept, again = (median_of(r[k], "peak_rss_bytes") / GB for k in ("kept", "recompute"))
    more = median_of(r["recompute"]) / median_of(r["kept"]) - 1
    return [Target("peak resident memory, train-base-512 fp32 AdamW", f"{kept:.2f} GB", "at most 6.5 GB", kept <= 6.5),
            Target("the same with recompute", f"{again:.2f} GB, {100 * more:+.0f} % time", "at most 5.2 GB and +25 %", again <= 5.2 and more <= 0.25)]


def measure_threads(b: Bench) -> dict[str, Any]:
    line = CASES["train-small-512"] + " --steps 2 "
    return b.turns({f"{d} {n}": f"{line}{how} --threads {n}" for d, how in WIDTHS.items() for n in (1, 2)}) | {"trainer": busy_while_training(b)}


def busy_while_training(b: Bench) -> int:
    """Threads of `reasondistill train` with threads 1 that ran at least a twentieth as long as the busiest."""
    config = run_json(b, "threads", "fp32", steps=12, threads=1)
    process = subprocess.Popen([b.ours.command, "train", str(config), "--threads", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ticks: dict[str, int] = {}
    while process.poll() is None:
        for task in Path(f"/proc/{process.pid}/task").glob("*"):
            try:
                fields = (task / "stat").read_text().rpartition(")")[2].split()
                ticks[task.name] = int(fields[11]) + int(fields[12])
            except OSError:
                pass  # it has just ended
        time.sleep(0.05)
    if process.returncode:
        raise Failed(f"train {config}: exit {process.returncode}")
    return sum(t > 0 and t >= max(ticks.values()) / 20 for t in ticks.values())


def threads_targets(r: dict[str, Any]) -> list[Target]:
    out = []
    for d in WIDTHS:
        gain = median_of(r[f"{d} 1"]) / median_of(r[f"{d} 2"])
        out.append(Target(f"two threads, train-small-512 {d}", f"{gain:.2f}x one", "at least 1.85x", gain >= 1.85))
    busy = [x["threads_busy"] for d in WIDTHS for x in r[f"{d} 1"]] + [r["trainer"]]
    return out + [Target("threads that run with threads = 1, bench and train", f"{max(busy)}", "1", max(busy) == 1)]


def measure_open(b: Bench) -> dict[str, Any]:
    return b.turns({"open": "open --shape flan-t5-base --enc 128 --steps 5"})


def open_targets(r: dict[str, Any]) -> list[Target]:
    seconds, first = median_of(r["open"]), median_of(r["open"], "first_token_seconds")
    size = r["open"][0]["model_bytes"] / GB
    return [Target(f"opening a model of {size:.2f} GB", f"{1e3 * seconds:.2f} ms", "below 50 ms", seconds < 0.05),
            Target("first token of flan-t5-base, encoder 128, opening included", f"{first:.3f} s", "below 1 s", first < 1)]


def run_json(b: Bench, name: str, dtype: str, steps: int, threads: int = 0) -> Path:
    """A run on GSM8K from the same small random student, whatever the dtype."""
    data, student = make_gsm8k(b.ours, b.pack, b.work), b.work / "student"
    if not student.exists():
        shape = {"model_type": "t5", "d_model": 512, "d_ff": 1024, "d_kv": 64, "num_heads": 6, "num_layers": 4, "num_decoder_layers": 4,
                 "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0}
        (b.work / "config.json").write_text(json.dumps(shape))
        b.ours.verb("init", "--config", b.work / "config.json", "--tokenizer", b.pack / "tokenizer/spiece.model", "--out", student)
    config = b.work / f"{name}.json"
    config.write_text(json.dumps({"model": str(student), "data": str(data), "out": str(b.work / name), "formats": {"zs-cot": 1}, "steps": steps,
                                  "batch_tokens": 1536, "lr": 1e-3, "dtype": dtype, "masters": dtype == "bf16", "log_every": 1,
                                  "save_every": 0, "threads": threads}))
    return config


def measure_loss(b: Bench) -> dict[str, Any]:
    losses = {}
    for dtype in WIDTHS:
        b.ours.verb("train", run_json(b, f"loss-{dtype}", dtype, steps=200))
        lines = (b.work / f"loss-{dtype}/metrics.jsonl").read_text().splitlines()
        losses[dtype] = [json.loads(line)["loss"] for line in lines]
    return losses


def loss_targets(r: dict[str, Any]) -> list[Target]:
    ends = {d: statistics.mean(r[d][-20:]) for d in WIDTHS}
    away = ends["bf16"] / ends["fp32"] - 1
    return [Target("loss after 200 steps in bf16 with fp32 masters, mean of the last 20, 4 + 4 layers of flan-t5-small's width, GSM8K",
                   f"{ends['bf16']:.4f}, fp32 {ends['fp32']:.4f} (from {r['fp32'][0]:.2f}): {100 * away:+.2f} %", "within 1 %", abs(away) <= 0.01)]


def measure_blas(b: Bench) -> dict[str, Any]:
    return b.turns({"blas": CASES["train-base-512"] + " --steps 1 --kernels blas"})


def blas_targets(r: dict[str, Any]) -> list[Target]:
    return [share_of_limit("train-base-512 fp32 with OpenBLAS alone", r["blas"], 0.75)]


def measure_int8(b: Bench) -> dict[str, Any]:
    return b.turns({"int8": CASES["decode-1-128"] + " --dtype int8 --steps 3"}) | ({"agreement": agreement(b)} if b.model and b.data else {})


def agreement(b: Bench) -> list[int]:
    """Positions whose most probable token is the same in int8 and bf16, and all positions, of the data set's replies, teacher-forced."""
    rsd = binding(b.ours.command)
    same = positions = 0
    with rsd.Context(threads=1) as ctx:
        dataset = rsd.Dataset(ctx, b.data, rsd.Tokenizer(ctx, b.model))
        models = [rsd.T5(ctx, b.model, dtype=dtype) for dtype in ("bf16", "int8")]
        for index in range(min(32, dataset.info["batches"])):
            best = []
            for model in models:
                model.forward(dataset.batch(index))
                best.append(model.logits().argmax(1))
            same += int((best[0] == best[1]).sum())
            positions += len(best[0])
    return [same, positions]


def int8_targets(r: dict[str, Any]) -> list[Target]:
    ms = median_of(r["int8"], "ms_per_token")
    out = [Target("decode-1-128 int8", f"{ms:.2f} ms/token", "at most 4.5 ms/token", ms <= 4.5)]
    work, target = "int8: argmax as bf16's, teacher-forced, on the trained model of --model", "at least 98 % of tokens"
    if "agreement" not in r:
        return [*out, missing(work, target, "needs --model DIR and --data DIR")]
    same, positions = r["agreement"]
    return [*out, Target(work, f"{100 * same / positions:.2f} % of {positions}", target, same >= 0.98 * positions)]


PARTS: dict[str, tuple[Callable[[Bench], dict[str, Any]], Callable[[dict[str, Any]], list[Target]]]] = {
    "blas": (measure_blas, blas_targets), "int8": (measure_int8, int8_targets),
    "dropout": (measure_dropout, dropout_targets), "memory": (measure_memory, memory_targets),
    "threads": (measure_threads, threads_targets), "open": (measure_open, open_targets), "loss": (measure_loss, loss_targets),
}


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", help="reasondistill")
    p.add_argument("--part", action="append", choices=[*PARTS, "none"], help="measured now, several allowed; default all")
    p.add_argument("--peers", help="what against_pytorch.py --json wrote")
    p.add_argument("--state", default="targets.json", help="raw figures of all parts measured so far")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--model", help="a trained model directory, that of quickstart.sh say, for the agreement of int8")
    p.add_argument("--data", help="a data set folder for it")
    p.add_argument("--pack", default=str(HERE.parents[2] / "shared/data"), help="folder with original/gsm8k and tokenizer/spiece.model")
    p.add_argument("--prefix", default="", help="put before each measured command")
    a = p.parse_args()
    state_file, failed = Path(a.state), 0
    state = json.loads(state_file.read_text()) if state_file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(a, Path(folder))
        for part in a.part or PARTS:
            if part == "none":
                continue
            try:
                state[part] = PARTS[part][0](b)
            except (Failed, OSError, subprocess.CalledProcessError) as e:
                print(f"{part}: {e} {getattr(e, 'stderr', '') or ''}", file=sys.stderr)
                failed += 1
                continue
            state_file.write_text(json.dumps(state, indent=1))
    targets = peer_targets(json.loads(Path(a.peers).read_text())["cases"]) if a.peers else []
    for part, (_, judge) in PARTS.items():
        targets += judge(state[part]) if part in state else [missing(part, "", "not measured")]
    words = {True: "met", False: "MISSED", None: "?"}
    print(machine() + "\n")
    print(table(["work", "figure", "target", ""], [[t.work, t.figure, t.target, words[t.met]] for t in targets]))
    print(f"\n{sum(t.met is True for t in targets)} met, {sum(t.met is False for t in targets)} missed, {sum(t.met is None for t in targets)} not measured")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
