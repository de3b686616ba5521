#!/usr/bin/env python3
"""Makes tests/fixtures/t5 with Hugging Face's T5 (torch and transformers; neither is needed to build or test).

    python3 tests/tools/make_t5_fixtures.py              writes the fixtures
    REASONDISTILL_LIBRARY=build/src/libreasondistill.so.0 \
    python3 tests/tools/make_t5_fixtures.py --verify     models that rsd_t5_save wrote, in every dtype, must load in from_pretrained
                                                         without a missing or unexpected tensor and give the same logits; models
                                                         that save_pretrained wrote (one file, shards, half width) must do so here

Each variant is a folder of its own: model directory, `golden.safetensors` (batch, logits, losses, gradients), `prompts.safetensors`
(inputs and what greedy generate returned). Ids are stored as floats: all of them are small.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

ROOT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "t5"
LENGTHS = [(5, 3), (17, 9), (1, 1), (9, 12), (150, 4)]  # encoder, decoder; 150 is beyond the largest bucket distance

BASE = dict(vocab_size=96, d_model=16, d_kv=6, d_ff=20, num_heads=3, num_layers=2, dropout_rate=0.1, pad_token_id=0, eos_token_id=1,
            decoder_start_token_id=0)
VARIANTS = {
    # v1.0: ReLU, tied head scaled by d_model^-1/2; heads * d_kv is not d_model
    "v1_0": dict(BASE, feed_forward_proj="relu", tie_word_embeddings=True),
    # v1.1 and Flan: gated GELU, own head; unequal depth, other buckets
    "v1_1": dict(BASE, feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_layers=1, num_decoder_layers=2, d_kv=4, num_heads=2,
                 relative_attention_num_buckets=8, relative_attention_max_distance=20),
}


def build(name: str, options: dict) -> T5ForConditionalGeneration:
    torch.manual_seed(sum(map(ord, name)))
    config = T5Config(**options)
    model = T5ForConditionalGeneration(config).eval()
    if not options["tie_word_embeddings"]:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        for key, p in model.named_parameters():
            # Larger than T5's own start, so that attention, bias and norms all matter to the result.
            if p.dim() == 1:
                p.copy_(1 + 0.3 * torch.randn_like(p))
            elif key in ("shared.weight", "lm_head.weight"):
                p.copy_(torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * 0.4)
    return model


def padded(sequences: list, fill: int) -> torch.Tensor:
    width = max(map(len, sequences))
    return torch.tensor([s + [fill] * (width - len(s)) for s in sequences])


def golden(model: T5ForConditionalGeneration) -> dict:
    rng = np.random.default_rng(5)
    vocab = model.config.vocab_size
    enc = [rng.integers(2, vocab, n).tolist() for n, _ in LENGTHS]
    dec = [rng.integers(2, vocab, n - 1).tolist() + [1] for _, n in LENGTHS]
    mask = padded([[1] * len(s) for s in enc], 0)
    labels = padded(dec, -100)
    model.zero_grad()
    out = model(input_ids=padded(enc, 0), attention_mask=mask, labels=labels)
    out.loss.backward()
    keep = labels != -100
    logits = out.logits[keep]
    logprobs = torch.log_softmax(logits, -1).gather(1, labels[keep][:, None])[:, 0]
    result = {
        "enc_ids": np.concatenate(enc), "enc_offsets": np.cumsum([0] + [len(s) for s in enc]),
        "dec_ids": np.concatenate(dec), "dec_offsets": np.cumsum([0] + [len(s) for s in dec]),
        "logits": logits.detach().numpy(), "logprobs": logprobs.detach().numpy(), "loss": np.array([out.loss.item()]),
    }
    for key, p in model.named_parameters():
        result["grad." + key] = p.grad.numpy()

    # Soft targets: rows of three entries whose probabilities sum to less than 1; KL(p || q) over what the row lists, mean over positions.
    T = logits.shape[0]
    ids = np.stack([rng.choice(vocab, 3, replace=False) for _ in range(T)])
    probs = (rng.dirichlet([1, 1, 1], T) * rng.uniform(0.6, 1, (T, 1))).astype(np.float32)
    model.zero_grad()
    out = model(input_ids=padded(enc, 0), attention_mask=mask, labels=labels)
    logq = torch.log_softmax(out.logits[keep], -1).gather(1, torch.tensor(ids))
    p = torch.tensor(probs)
    soft = (p * (p.log() - logq)).sum() / T
    soft.backward()
    result |= {"soft.ids": ids, "soft.probs": probs, "soft.loss": np.array([soft.item()])}
    for key, w in model.named_parameters():
        result["soft.grad." + key] = w.grad.numpy()
    model.zero_grad()
    return {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in result.items()}


def prompts(model: T5ForConditionalGeneration) -> dict:
    rng = np.random.default_rng(6)
    enc = [rng.integers(2, model.config.vocab_size, rng.integers(1, 25)).tolist() for _ in range(40)]
    ids, logprobs, ended = [], [], []
    for s in enc:
        out = model.generate(torch.tensor([s]), max_new_tokens=24, do_sample=False, num_beams=1, use_cache=False, return_dict_in_generate=True,
                             output_logits=True)
        new = out.sequences[0, 1:].tolist()
        logprobs.append([torch.log_softmax(l[0], -1)[t].item() for l, t in zip(out.logits, new)])
        ids.append(new)
        ended.append(new[-1] == 1)
    print("  greedy lengths", sorted(map(len, ids)), "ended", sum(ended))
    flat = {"enc_ids": np.concatenate(enc), "enc_offsets": np.cumsum([0] + [len(s) for s in enc]), "ids": np.concatenate(ids),
            "offsets": np.cumsum([0] + [len(s) for s in ids]), "logprobs": np.concatenate(logprobs)}
    return {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in flat.items()}


def buckets() -> dict:
    from transformers.models.t5.modeling_t5 import T5Attention
    result = {}
    for n, far in [(32, 128), (8, 20), (64, 512), (32, 256), (4, 10)]:
        relative = torch.arange(-1100, 1101)
        for both in (True, False):
            b = T5Attention._relative_position_bucket(relative, bidirectional=both, num_buckets=n, max_distance=far)
            result[f"{'both' if both else 'causal'}.{n}.{far}"] = b.numpy().astype(np.float32)
    return result


def make() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    for name, options in VARIANTS.items():
        print(name)
        model = build(name, options)
        folder = ROOT / name
        model.save_pretrained(folder)
        save_file(golden(model), folder / "golden.safetensors")
        save_file(prompts(model), folder / "prompts.safetensors")
    save_file(buckets(), ROOT / "buckets.safetensors")
    print("bytes", sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file()))


CREATED = {
    "tied": {"model_type": "t5", "feed_forward_proj": "relu"},
    "gated": {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3},
    "mt5": {"model_type": "mt5"},
    "tied, not scaled": {"model_type": "t5", "scale_decoder_outputs": False},
}
ENC, DEC = [[5, 9, 30, 2, 2, 17, 8, 1], [4, 1]], [[7, 7, 21, 1], [33, 12, 1]]


def logits_of_torch(model: T5ForConditionalGeneration) -> np.ndarray:
    model = model.float().eval()
    with torch.no_grad():
        return np.concatenate([model(input_ids=torch.tensor([e]), labels=torch.tensor([d])).logits[0].numpy() for e, d in zip(ENC, DEC)])


def logits_of_ours(model) -> np.ndarray:
    import reasondistill
    model.forward(reasondistill.Batch.pack(ENC, DEC))
    return model.logits()


def report(what: str, ours: np.ndarray, theirs: np.ndarray, keys: dict) -> bool:
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    bad = {k: sorted(v) for k, v in keys.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys") and v}
    ok = error <= 1e-5 and not bad
    print(f"{'fine ' if ok else 'WRONG'} {what}: largest error {error:.1e} of the largest logit {json.dumps(bad) if bad else ''}")
    return ok


def verify() -> bool:
    sys.path.insert(0, str(ROOT.parents[2] / "bindings" / "python"))
    import reasondistill
    print("transformers", transformers.__version__)
    ok = True
    with tempfile.TemporaryDirectory() as tmp, reasondistill.Context() as context:
        folder = pathlib.Path(tmp)
        for name, options in CREATED.items():
            config = folder / f"{name}.json"
            config.write_text(json.dumps({"vocab_size": 37, "d_model": 8, "d_kv": 4, "d_ff": 10, "num_layers": 2, "num_heads": 3} | options))
            for dtype in ("fp32", "fp16", "bf16"):
                saved = folder / f"{name}-{dtype}"
                with reasondistill.T5.create(context, config, 3) as m:
                    m.save(saved, dtype)
                cls = MT5ForConditionalGeneration if name == "mt5" else T5ForConditionalGeneration
                model, keys = cls.from_pretrained(saved, output_loading_info=True)
                with reasondistill.T5(context, saved) as m:
                    ok &= report(f"saved here, {name}, {dtype}", logits_of_ours(m), logits_of_torch(model), keys)
        for name, options in VARIANTS.items():
            for kind in ("one file", "shards", "float16", "bfloat16"):
                model = build(name, options)
                if kind.endswith("16"):
                    model = model.to(getattr(torch, kind))
                saved = folder / f"{name}-{kind}"
                model.save_pretrained(saved, max_shard_size="15KB" if kind == "shards" else "1GB")
                with reasondistill.T5(context, saved) as m:
                    ok &= report(f"saved there, {name}, {kind}", logits_of_ours(m), logits_of_torch(model), {})
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", action="store_true")
    args = parser.parse_args()
    if args.verify:
        return 0 if verify() else 1
    make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
