"""One case of `reasondistill bench` in PyTorch and transformers: random weights of a known shape, one JSON object of figures.

    python pytorch_case.py train --shape flan-t5-small --batch 8 --enc 512 --dec 128 --dtype bf16 --tuned

Run by against_pytorch.py with the Python of its virtual environment. Seconds are medians after one step to warm up, as ours. `--tuned` is what
can be chosen inside the process (fused AdamW, kept gradient buffers, a decoding loop without generate's overhead); malloc, OpenMP and MKL are
set up by variables before it starts. `--attention` and `--mixed` choose among ways that are faster on one case and slower on another.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable

import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

SHAPES = {  # d_model, d_ff, layers, heads
    "flan-t5-small": (512, 1024, 8, 6), "flan-t5-base": (768, 2048, 12, 12), "flan-t5-large": (1024, 2816, 24, 16),
}
VOCAB, IDS, EOS, IGNORED = 32128, 32100, 1, -100


def make_model(a: argparse.Namespace) -> T5ForConditionalGeneration:
    d, ff, layers, heads = SHAPES[a.shape]
    config = T5Config(d_model=d, d_ff=ff, num_layers=layers, num_decoder_layers=layers, num_heads=heads, d_kv=64, vocab_size=VOCAB,
                      feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=a.dropout, decoder_start_token_id=0,
                      attn_implementation=a.attention)
    torch.manual_seed(1)
    return T5ForConditionalGeneration(config)


def random_ids(n: int, length: int) -> torch.Tensor:
    return torch.randint(3, IDS, (n, length))


def measure(steps: int, fn: Callable[[], Any]) -> list[float]:
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return times[1:]


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def batches(a: argparse.Namespace) -> list[dict[str, torch.Tensor]]:
    """Random ones of equal length, or --items in random order, padded to the longest of each batch."""
    if not a.items:
        return [{"input_ids": random_ids(a.batch, a.enc), "labels": random_ids(a.batch, a.dec)}]
    items = json.loads(Path(a.items).read_text())
    random.Random(a.seed).shuffle(items)
    made = []
    for at in range(0, min(len(items), a.batch * (a.steps + 1)), a.batch):
        part = items[at:at + a.batch]
        ids = padded([x["enc"] for x in part], 0)
        mask = padded([[1] * len(x["enc"]) for x in part], 0)
        made.append({"input_ids": ids, "attention_mask": mask, "labels": padded([x["dec"] for x in part], IGNORED)})
    return made


class Training:
    """AdamW with the norm clipped to 1. bf16: weights in fp32 and matrix products in bf16 (autocast), or bf16 weights with fp32 masters."""

    def __init__(self, a: argparse.Namespace) -> None:
        self.a = a
        self.model = make_model(a).train()
        self.copies = a.dtype == "bf16" and a.mixed == "masters"
        self.masters = [p.detach().clone() for p in self.model.parameters()] if self.copies else list(self.model.parameters())
        if self.copies:
            self.model.to(torch.bfloat16)
            for master in self.masters:
                master.grad = torch.zeros_like(master)
        how = {"fused": True} if a.tuned else {}
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-4, weight_decay=0.0, **how)

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        autocast = torch.autocast("cpu", dtype=torch.bfloat16) if self.a.dtype == "bf16" and not self.copies else nullcontext()
        with autocast:
            loss = self.model(**batch).loss
        loss.backward()
        if self.copies:
            for master, p in zip(self.masters, self.model.parameters()):
                master.grad.copy_(p.grad)
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        if self.copies:
            with torch.no_grad():
                for master, p in zip(self.masters, self.model.parameters()):
                    p.copy_(master)
            self.model.zero_grad(set_to_none=not self.a.tuned)
        else:
            self.optimizer.zero_grad(set_to_none=not self.a.tuned)
        return float(loss.detach())


def train(a: argparse.Namespace) -> dict[str, Any]:
    training, data, steps = Training(a), batches(a), iter(range(1 << 30))
    used: list[dict[str, torch.Tensor]] = []

    def step() -> None:
        used.append(data[next(steps) % len(data)])
        training.step(used[-1])

    times = measure(a.steps, step)
    real = [int(b.get("attention_mask", torch.ones_like(b["input_ids"])).sum() + (b["labels"] != IGNORED).sum()) for b in used[1:]]
    # steps of a data set differ: their mean stands for one
    seconds = statistics.mean(times) if a.items else statistics.median(times)
    return {"seconds": seconds, "seconds_min": min(times), "tokens_per_s": sum(real) / a.steps / seconds}


def answering(a: argparse.Namespace) -> T5ForConditionalGeneration:
    return make_model(a).eval().to(torch.bfloat16 if a.dtype == "bf16" else torch.float32)


@torch.inference_mode()
def greedy(model: T5ForConditionalGeneration, ids: torch.Tensor, tokens: int) -> None:
    """generate() without its bookkeeping: the encoder once, then the decoder with its caches."""
    encoded: Any = BaseModelOutput(last_hidden_state=model.encoder(input_ids=ids).last_hidden_state)
    last, cache = torch.zeros(len(ids), 1, dtype=torch.long), None
    for _ in range(tokens):
        out = model(encoder_outputs=encoded, decoder_input_ids=last, past_key_values=cache, use_cache=True)
        cache, last = out.past_key_values, out.logits[:, -1:].argmax(-1)


def generate(a: argparse.Namespace) -> dict[str, Any]:
    model, ids = answering(a), random_ids(a.batch, a.enc)
    mask = torch.ones_like(ids)

    def run(tokens: int) -> float:
        start = time.perf_counter()
        if a.tuned:
            greedy(model, ids, tokens)
        else:
            model.generate(input_ids=ids, attention_mask=mask, do_sample=False, num_beams=1, max_new_tokens=tokens, min_new_tokens=tokens)
        return time.perf_counter() - start

    per_token, whole = [], []
    for step in range(a.steps + 1):
        one, all_of_them = run(1), run(a.dec)
        if step:
            whole.append(all_of_them)
            per_token.append(1e3 * (all_of_them - one) / (a.dec - 1))
    seconds = statistics.median(whole)
    return {"seconds": seconds, "seconds_min": min(whole), "tokens_per_s": a.batch * a.dec / seconds,
            "ms_per_token": statistics.median(per_token)}


@torch.inference_mode()
def encode(a: argparse.Namespace) -> dict[str, Any]:
    """As ours: the encoder, then one decoder token of each sequence without head."""
    model, ids = answering(a), random_ids(a.batch, a.enc)
    start_ids = torch.zeros(a.batch, 1, dtype=torch.long)

    def run() -> None:
        hidden = model.encoder(input_ids=ids).last_hidden_state
        model.decoder(input_ids=start_ids, encoder_hidden_states=hidden, use_cache=True)

    times = measure(a.steps, run)
    seconds = statistics.median(times)
    return {"seconds": seconds, "seconds_min": min(times), "tokens_per_s": a.batch * a.enc / seconds}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("case", choices=["train", "generate", "encode"])
    p.add_argument("--shape", choices=SHAPES, default="flan-t5-small")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--enc", type=int, default=512)
    p.add_argument("--dec", type=int, default=128)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    p.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--dropout", type=float, default=0.0)
    p.add_argument("--tuned", action="store_true")
    p.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    p.add_argument("--mixed", choices=["autocast", "masters"], default="autocast", help="train in bf16: how")
    p.add_argument("--items", help="train: JSON list of {enc, dec} ids, drawn at random and padded")
    p.add_argument("--seed", type=int, default=1, help="of the order of --items")
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    figures = {"train": train, "generate": generate, "encode": encode}[a.case](a)
    print(json.dumps({
        **vars(a), **figures, "threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "GOMP_", "MKL_", "MALLOC_", "GLIBC_", "LD_PRELOAD"))},
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
