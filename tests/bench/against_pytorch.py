#!/usr/bin/env python3
"""The same work by reasondistill and by PyTorch + transformers, process by process in turns: a table, and with --json all figures.

    tests/bench/against_pytorch.py build/src/cli/reasondistill --venv ~/torch --case train-base-512 --rounds 3
    tests/bench/against_pytorch.py build/src/cli/reasondistill --venv ~/torch --case gsm8k-small --pack shared/data

PyTorch is run as installed ("plain") and tuned: see measure.PyTorch and pytorch_case.py. Where it depends on the case which way is faster
(attention by SDPA or eager, bf16 by autocast or with fp32 masters), the first round tries all and the fastest goes on. Ours in bf16 keeps
fp32 masters. Weights are random of the real shapes, and as many tokens are written on both sides. Ratios are medians of PyTorch's seconds
by ours; of gsm8k, tokens/s that are not padding.

The virtual environment is made with pip where it does not exist. --prefix is put before each measured command, "nice -n -20" say.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from measure import (CASES, HERE, Failed, Ours, PyTorch, data_options, interleaved, machine, make_gsm8k, median_of, steps, table,
                     write_items)

PADDED_BATCH = 8  # sequences of PyTorch's padded random batches: fewer waste less


def contestants(case: str, dtype: str) -> dict[str, list[str]]:
    ways = {f"tuned {attention}": ["--attention", attention] for attention in ("sdpa", "eager")}
    if dtype == "bf16" and CASES[case].startswith("train"):
        ways = {f"{name} {mixed}": [*options, "--mixed", mixed] for name, options in ways.items() for mixed in ("autocast", "masters")}
    return ways


def compare(case: str, dtype: str, a: argparse.Namespace, ours: Ours, torch: PyTorch, work: Path, earlier: str | None) -> dict[str, Any]:
    line, n = CASES[case], ["--steps", steps(case), "--dtype", dtype]
    our_options: list[object] = ["--masters"] if dtype == "bf16" and line.startswith("train") else []
    torch_options: list[object] = []
    if case.startswith("gsm8k"):
        data = make_gsm8k(ours, Path(a.pack), work)
        our_options += data_options(Path(a.pack), data)
        items = write_items(ours.command, Path(a.pack), data, work / "items.json", steps(case))
        torch_options += ["--items", items, "--batch", PADDED_BATCH]
    variants = {"ours": partial(ours.bench, line, *n, *our_options)}
    ways = {name: way for name, way in contestants(case, dtype).items() if earlier in (None, name)}
    for name, options in ways.items():
        variants[name] = partial(torch.case, line, *n, *torch_options, *options, tuned=True)
    if not a.no_plain:
        variants["plain"] = partial(torch.case, line, *n, *torch_options, tuned=False)
    results: dict[str, list[dict[str, Any]]] = {}
    for name, result in interleaved(a.rounds, variants, tuple(ways)):
        results.setdefault(name, []).append(result)
        print(f"  {case} {dtype} {name}: {result['seconds']:.3f} s", file=sys.stderr)
    tuned = min(ways, key=lambda w: (-len(results[w]), median_of(results[w])))
    return {"case": case, "dtype": dtype, "tuned": tuned, "results": results}


def row(c: dict[str, Any]) -> list[str]:
    r, key = c["results"], "seconds"
    packed = c["case"].startswith("gsm8k")
    if packed:
        key = "tokens_per_s"
    elif c["case"].startswith("decode"):
        key = "ms_per_token"

    def ratio(name: str) -> str:
        if name not in r:
            return ""
        theirs, own = median_of(r[name], key), median_of(r["ours"], key)
        return f"{own / theirs if packed else theirs / own:.2f}"

    def figure(name: str) -> str:
        return f"{median_of(r[name], key):.4g}" if name in r else ""

    def memory(name: str) -> str:
        return f"{median_of(r[name], 'peak_rss_bytes') / 2**30:.2f}"

    share = median_of(r["ours"], "share_of_ms_limit" if key == "ms_per_token" else "share_of_limit")
    return [c["case"], c["dtype"], key, figure("ours"), f"{100 * share:.0f} %", figure(c["tuned"]), c["tuned"].removeprefix("tuned "),
            figure("plain"), ratio(c["tuned"]), ratio("plain"), memory("ours"), memory(c["tuned"])]


HEAD = ["case", "dtype", "figure", "ours", "of the limit", "PyTorch tuned", "how", "plain", "tuned / ours", "plain / ours", "ours GiB",
        "tuned GiB"]


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", help="reasondistill")
    p.add_argument("--venv", default="venv-torch", help="with torch and transformers; made if it is not there")
    p.add_argument("--case", action="append", choices=CASES, help="several allowed; default all")
    p.add_argument("--dtype", action="append", choices=["fp32", "bf16"], help="default both")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2, help="of tuned PyTorch; ours takes one a CPU")
    p.add_argument("--no-plain", action="store_true", help="leave PyTorch as installed out")
    p.add_argument("--pack", default=str(HERE.parents[2] / "shared/data"), help="folder with original/gsm8k and tokenizer/spiece.model")
    p.add_argument("--prefix", default="", help="put before each measured command")
    p.add_argument("--json", help="all figures; cases measured again are replaced, the others kept, and the fastest way of tuning is not "
                   "looked for again")
    a = p.parse_args()
    prefix, failed = shlex.split(a.prefix), 0
    kept = json.loads(Path(a.json).read_text())["cases"] if a.json and Path(a.json).exists() else []
    with tempfile.TemporaryDirectory() as folder:
        ours, torch = Ours(a.command, prefix), PyTorch(Path(a.venv), prefix, Path(folder), a.threads)
        cases = []
        for case in a.case or CASES:
            for dtype in a.dtype or ("fp32", "bf16"):
                earlier = next((c["tuned"] for c in kept if (c["case"], c["dtype"]) == (case, dtype)), None)
                try:
                    cases.append(compare(case, dtype, a, ours, torch, Path(folder), earlier))
                except (Failed, OSError) as e:
                    print(f"{case} {dtype}: {e}", file=sys.stderr)
                    failed += 1
                    continue
                kept = [c for c in kept if (c["case"], c["dtype"]) != (case, dtype)] + [cases[-1]]
                if a.json:
                    Path(a.json).write_text(json.dumps({"machine": machine(), "cases": kept}, indent=1))
    print(table(HEAD, [row(c) for c in cases]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
