#!/usr/bin/env python3
"""What specialising a Flan-T5 takes: memory, and time on a given number of cores, from what `reasondistill bench train` measures here.

    python3 needs.py [--command reasondistill] [--cores 2,16,64] [--measure small,base] [--figures FILE]
    python3 needs.py --config small           config.json of the published shape, for `reasondistill init`

For each size of --measure a step on one batch of 640 tokens (a question with four examples, its solution) is timed, with the settings of its run file: the
part that grows with the tokens, in GFLOP/s, and the update of the weights, in bytes/s. A run's update is then its tokens at that speed plus one update. Sizes
that are not measured take the speeds of the largest one that is, measured with their own settings (bf16, say). On other numbers of cores the first part is taken to be proportional to the cores and the second not to change, which is
what a machine with the same memory and the same cores would do at best: read the hours as the order of magnitude. Memory is weights, gradients, moments and
masters by the run file, exactly, and activations: what the measured process held beyond those, for each token, layer and unit of width, in the same way for
the sizes not measured. --figures keeps the measurements, and uses those that are there instead of measuring again.

The run's number of steps is the run file's. What bench measures is `phases`, `peak_rss_bytes` and `gflop`; its count of operations is checked against the one here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VOCABULARY, D_KV, ENC, DEC = 32128, 64, 512, 128
# d_model, d_ff, layers a side, heads, as in the published config.json of google/flan-t5-*
SHAPES = {"small": (512, 1024, 8, 6), "base": (768, 2048, 12, 12), "large": (1024, 2816, 24, 16), "xl": (2048, 5120, 24, 32), "xxl": (4096, 10240, 24, 64)}


def config(size: str) -> dict:
    d, ff, layers, heads = SHAPES[size]
    return {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": d, "d_kv": D_KV, "d_ff": ff, "num_layers": layers,
            "num_decoder_layers": layers, "num_heads": heads, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
            "dropout_rate": 0.1, "layer_norm_epsilon": 1e-6, "initializer_factor": 1.0, "feed_forward_proj": "gated-gelu", "is_encoder_decoder": True,
            "use_cache": True, "tie_word_embeddings": False, "vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def parameters(size: str) -> int:
    d, ff, layers, heads = SHAPES[size]
    attention = 4 * d * heads * D_KV
    layer = 3 * d * ff + 2 * d
    return 2 * VOCABULARY * d + layers * (3 * attention + 2 * layer + d) + 2 * d + 2 * 32 * heads


def gflop(size: str, enc: float, dec: float, sequences: float = 1) -> float:
    """Of a training step on `sequences` with so many tokens each: products only, backward twice the forward pass."""
    d, ff, layers, heads = SHAPES[size]
    inner = heads * D_KV
    encoder = enc * (8 * d * inner + 6 * d * ff + 4 * inner * enc)
    decoder = dec * (12 * d * inner + 6 * d * ff + 4 * inner * (dec + 1) / 2 + 4 * inner * enc) + enc * 4 * d * inner
    return 3 * sequences * (layers * (encoder + decoder) + dec * 2 * d * VOCABULARY) / 1e9


def state_bytes(run: dict) -> tuple[int, int]:
    """Bytes for each parameter: resident while training, and moved by an update."""
    weight = 2 if run.get("dtype") == "bf16" else 4
    masters = 4 if weight == 2 and run.get("masters") else 0
    moments = 0 if run.get("optimizer") == "adafactor" else 8
    gradient = 0 if run.get("fused") else 4
    return weight + masters + moments + gradient, 2 * weight + 2 * masters + 2 * moments + 4


def measure(command: str, size: str, run: dict, threads: int, steps: int) -> dict:
    done = subprocess.run([command, "bench", "train", "--shape", f"flan-t5-{size}", "--batch", "1", "--enc", str(ENC), "--dec", str(DEC), *flags(run), "--steps", str(steps),
                           "--threads", str(threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"needs.py: {size}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def speeds(size: str, run: dict, figures: dict) -> dict:
    """Of one core: GFLOP/s of the passes; of the machine: bytes/s of an update; bytes of activations for each token, layer and unit of width."""
    d, _, layers, _ = SHAPES[size]
    resident, moved = state_bytes(run)
    phases = figures["phases"]
    fused = run.get("fused")
    passes = phases["forward"] + phases["head"] + phases["backward"]
    held = max(0.0, figures["peak_rss_bytes"] - resident * parameters(size))
    return {"of": size, "gflops": gflop(size, ENC, DEC) / passes / figures["threads"],
            "update_bytes": None if fused else moved * parameters(size) / max(phases["optimizer"], 1e-9), "held": held / ((ENC + DEC) * layers * d)}


def estimate(size: str, run: dict, speed: dict, cores: list[int]) -> dict:
    d, _, layers, _ = SHAPES[size]
    resident, moved = state_bytes(run)
    sequences = run["batch_tokens"] * run["accumulate"] / (ENC + DEC)
    work = gflop(size, ENC, DEC, sequences)
    update = moved * parameters(size) / speed["update_bytes"] if speed["update_bytes"] else 0.0
    memory = resident * parameters(size) + speed["held"] * run["batch_tokens"] * layers * d
    return {"size": size, "parameters": parameters(size), "memory_gib": memory / 2**30, "gflop_per_step": work, "gflops_per_core": speed["gflops"], "speeds_of": speed["of"],
            "steps": run["steps"], "seconds_per_step": {n: work / (speed["gflops"] * n) + update for n in cores},
            "hours": {n: run["steps"] * (work / (speed["gflops"] * n) + update) / 3600 for n in cores}}


def lean(run: dict) -> dict:
    """The same with the least memory: bf16 without masters, Adafactor, updates in the backward pass, activations computed again."""
    return {**run, "dtype": "bf16", "masters": False, "optimizer": "adafactor", "fused": True, "recompute": True, "clip": 0, "accumulate": 1,
            "batch_tokens": min(run["batch_tokens"], 2048), "lean": True}


def show(rows: list[dict], cores: list[int]) -> None:
    print("| size | parameters | memory | GFLOP a step | " + " | ".join(f"a step, {n} cores" for n in cores) + " | " + " | ".join(f"all steps, {n} cores" for n in cores)
          + " | speeds of |\n|" + " --- |" * (5 + 2 * len(cores)))
    for r in rows:
        print(f"| {r['size']} | {r['parameters'] / 1e6:,.0f} M | {r['memory_gib']:.1f} GiB | {r['gflop_per_step']:,.0f} | "
              + " | ".join(f"{r['seconds_per_step'][n]:,.0f} s" for n in cores) + " | " + " | ".join(f"{r['hours'][n] / 24:,.1f} days" for n in cores)
              + f" | {r['speeds_of']}, {r['gflops_per_core']:.0f} GFLOP/s a core |")


def flags(run: dict) -> list[str]:
    """How bench train is told of a run file's settings."""
    return ["--dtype", run.get("dtype", "fp32"), "--optimizer", run.get("optimizer", "adamw"), *(f"--{name}" for name in ("fused", "masters", "recompute") if run.get(name))]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", choices=SHAPES)
    p.add_argument("--command", default="reasondistill")
    p.add_argument("--cores", default="2,16,64")
    p.add_argument("--measure", default="small,base")
    p.add_argument("--threads", type=int, default=0, help="of the measurement; 0: one a CPU")
    p.add_argument("--steps", type=int, default=3, help="of the measurement")
    p.add_argument("--figures", type=Path, help="measurements, {size and settings: what bench train printed}")
    p.add_argument("--lean", action="store_true", help="the run files with the settings that take the least memory")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    if a.config:
        print(json.dumps(config(a.config), indent=1))
        return
    cores, order = [int(n) for n in a.cores.split(",")], list(SHAPES)
    if not set(a.measure.split(",")) <= set(SHAPES) or "small" not in a.measure.split(","):
        p.error("--measure: small, and others of " + ", ".join(SHAPES))
    figures = json.loads(a.figures.read_text(encoding="utf-8")) if a.figures and a.figures.exists() else {}
    rows = []
    for size in SHAPES:
        run = json.loads((HERE / f"{size}.json").read_text(encoding="utf-8"))
        run = lean(run) if a.lean else run
        shape = max((s for s in a.measure.split(",") if order.index(s) <= order.index(size)), key=order.index)
        key = " ".join([shape, *flags(run)])
        if key not in figures:
            figures[key] = measure(a.command, shape, run, a.threads, a.steps)
            if a.figures:
                a.figures.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        counted = figures[key].get("gflop")
        if counted and abs(counted / gflop(shape, ENC, DEC) - 1) > 0.05:
            print(f"needs.py: {shape}: bench counts {counted:.0f} GFLOP a step, this script {gflop(shape, ENC, DEC):.0f}", file=sys.stderr)
        rows.append(estimate(size, run, speeds(shape, run, figures[key]), cores))
    if a.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, cores)


if __name__ == "__main__":
    main()
