#!/usr/bin/env python3
"""Makes tests/fixtures/t5 with Hugging Face's T5 (torch and transformers; neither is needed to build or test).

    python3 tests/tools/make_t5_fixtures.py              writes the fixtures
    REASONDISTILL_LIBRARY=build/src/libreasondistill.so.0 \
    python3 tests/tools/make_t5_fixtures.py --verify     models that rsd_t5_save wrote, in every dtype, must load in from_pretrained
                                                         without a missing or unexpected tensor and give the same logits; models
                                                         that save_pretrained wrote (one file, shards, half width) must do so here

Each variant is a folder of its own: model directory, `golden.safetensors` (batch, logits, losses, gradients, ten steps of AdamW) and, for
four of them, `prompts.safetensors` (50 inputs and what greedy and beam search returned). Ids are stored as floats: all of them are small.
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
from safetensors.numpy import load_file, save_file
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

ROOT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "t5"
LENGTHS = [(5, 3), (17, 9), (1, 1), (9, 12), (150, 4)]  # encoder, decoder; 150 is beyond the largest bucket distance

BASE = dict(vocab_size=64, d_model=8, d_kv=3, d_ff=12, num_heads=2, num_layers=2, dropout_rate=0.1, pad_token_id=0, eos_token_id=1,
            decoder_start_token_id=0)
GATED = dict(BASE, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
VARIANTS = {
    # v1.0: ReLU, tied head scaled by d_model^-1/2; heads * d_kv is not d_model
    "v1_0": dict(BASE, vocab_size=96, d_model=16, d_kv=6, d_ff=20, num_heads=3, feed_forward_proj="relu", tie_word_embeddings=True),
    # v1.1 and Flan: gated GELU, own head; unequal depth, other buckets
    "v1_1": dict(GATED, vocab_size=96, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_decoder_layers=2, relative_attention_num_buckets=8,
                 relative_attention_max_distance=20),
    # LM-adapted v1.1: its config has keys of its time; one layer more in the encoder
    "lm_adapted": dict(GATED, d_kv=4, num_layers=2, num_decoder_layers=1, dropout_rate=0.0),
    # mT5: another class, another vocabulary; heads * d_kv below d_model
    "mt5": dict(GATED, vocab_size=131, num_heads=2, d_kv=3, model_type="mt5"),
    # UL2: gated SiLU, heads as wide as the model is deep
    "ul2": dict(GATED, feed_forward_proj="gated-silu", d_kv=16, num_layers=1, num_decoder_layers=1, relative_attention_num_buckets=64,
                relative_attention_max_distance=512),
    # The first Flan-T5: "gelu" is written, the tanh form was trained
    "flan_early": dict(GATED, num_layers=1, num_decoder_layers=1, d_kv=4),
    # The first T5: a dozen keys, the embedding stored under three names
    "t5_first": dict(BASE, num_layers=1, d_kv=4, feed_forward_proj="relu", tie_word_embeddings=True),
}
PROMPTS = ("v1_0", "v1_1", "mt5", "ul2")  # 50 of each
# num_beams, length_penalty, early_stopping, num_return_sequences
BEAMS = [(4, 1.0, False, 1), (3, 2.0, True, 3), (5, 0.0, "never", 2), (2, -1.0, False, 2), (4, 1.0, "never", 4), (8, 0.6, True, 1)]


def build(name: str, options: dict) -> T5ForConditionalGeneration:
    torch.manual_seed(sum(map(ord, name)))
    options = dict(options)
    mt5 = options.pop("model_type", "t5") == "mt5"
    config = (MT5Config if mt5 else T5Config)(**options)
    model = (MT5ForConditionalGeneration if mt5 else T5ForConditionalGeneration)(config).eval()
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
        if name in PROMPTS:  # often the end token, at different lengths
            model.get_output_embeddings().weight[1] *= 1.4
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


def adamw(model: T5ForConditionalGeneration, batch: dict) -> np.ndarray:
    """Losses of ten steps on the batch of golden(), without dropout."""
    def cut(ids: str, offsets: str) -> list:
        at = batch[offsets].astype(int)
        return [batch[ids][at[i]:at[i + 1]].astype(int).tolist() for i in range(len(at) - 1)]

    enc, dec = cut("enc_ids", "enc_offsets"), cut("dec_ids", "dec_offsets")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = model(input_ids=padded(enc, 0), attention_mask=padded([[1] * len(s) for s in enc], 0), labels=padded(dec, -100)).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses, dtype=np.float32)


def goldens(model: T5ForConditionalGeneration) -> dict:
    """In double precision, so that the differences that the tests see are ours."""
    model = model.double()
    batch = golden(model)
    return batch | {"adamw.losses": adamw(model, batch)}


def until_end(row: list, most: int) -> list:
    new = row[1:]
    return new[: new.index(1) + 1] if 1 in new else new[:most]


def generate(model: T5ForConditionalGeneration, enc: list, **options) -> tuple:
    """New tokens of each output, and scores of a beam search; padded batches, as people run it."""
    ids, scores = [], []
    cache = model.config.num_layers >= model.config.num_decoder_layers  # transformers 5.23 makes it of the wrong depth
    for i in range(0, len(enc), 25):
        part = enc[i:i + 25]
        out = model.generate(padded(part, 0), attention_mask=padded([[1] * len(s) for s in part], 0), max_new_tokens=24, do_sample=False,
                             use_cache=cache, return_dict_in_generate=True, output_scores=True, **options)
        ids += [until_end(row, 24) for row in out.sequences.tolist()]
        scores += out.sequences_scores.tolist() if "sequences_scores" in out else []
    return ids, scores


def laid_out(prefix: str, lists: list) -> dict:
    """Ids below 2048 are exact in half precision."""
    return {prefix + "ids": np.concatenate(lists).astype(np.float16), prefix + "offsets": np.cumsum([0] + [len(s) for s in lists]).astype(np.float32)}


def prompts(model: T5ForConditionalGeneration) -> dict:
    """50 prompts whose outputs are the same in single and in double precision: no token hangs on the last bits."""
    rng = np.random.default_rng(6)
    enc = [rng.integers(2, model.config.vocab_size, rng.integers(1, 25)).tolist() for _ in range(60)]
    settings = [dict(num_beams=1)] + [dict(num_beams=b, length_penalty=p, early_stopping=e, num_return_sequences=n) for b, p, e, n in BEAMS]
    single = [generate(model, enc, **s) for s in settings]
    model.double()
    double = [generate(model, enc, **s) for s in settings]
    model.float()

    def outputs(run: list, k: int, i: int) -> list:
        n = settings[k].get("num_return_sequences", 1)
        return run[k][0][i * n:(i + 1) * n]

    firm = [i for i in range(len(enc)) if all(outputs(single, k, i) == outputs(double, k, i) for k in range(len(settings)))]
    print(f"  {len(firm)} of {len(enc)} prompts are firm")
    firm = firm[:50]
    assert len(firm) == 50
    result = laid_out("enc_", [enc[i] for i in firm])
    greedy = [outputs(single, 0, i)[0] for i in firm]
    logprobs = []
    for i, new in zip(firm, greedy):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([enc[i]]), labels=torch.tensor([new])).logits[0]
        logprobs.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(new)[:, None])[:, 0].numpy())
    result |= laid_out("", greedy) | {"logprobs": np.concatenate(logprobs).astype(np.float32)}
    print("  greedy: ended", sum(s[-1] == 1 for s in greedy), "lengths", sorted(map(len, greedy)))
    early = {False: 0, True: 1, "never": 2}
    for k, (b, p, e, n) in enumerate(BEAMS, 1):
        lists = [s for i in firm for s in outputs(single, k, i)]
        scores = [x for i in firm for x in single[k][1][i * n:(i + 1) * n]]
        result |= laid_out(f"beam{k - 1}.", lists)
        result[f"beam{k - 1}.scores"] = np.array(scores, dtype=np.float32)
        result[f"beam{k - 1}.settings"] = np.array([b, p, early[e], n], dtype=np.float32)
        print(f"  {b} beams: ended", sum(s[-1] == 1 for s in lists), "of", len(lists), "lengths", sorted(set(map(len, lists))))
    return result


def buckets() -> dict:
    from transformers.models.t5.modeling_t5 import T5Attention
    result = {}
    for n, far in [(32, 128), (8, 20), (64, 512), (32, 256), (4, 10)]:
        relative = torch.arange(-1100, 1101)
        for both in (True, False):
            b = T5Attention._relative_position_bucket(relative, bidirectional=both, num_buckets=n, max_distance=far)
            result[f"{'both' if both else 'causal'}.{n}.{far}"] = b.numpy().astype(np.float32)
    return result


def age(name: str, folder: pathlib.Path) -> None:
    """What cannot be saved by today's transformers: directories as they were published once."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if name == "lm_adapted":
        config = {k: config[k] for k in ("d_ff", "d_kv", "d_model", "decoder_start_token_id", "dropout_rate", "eos_token_id", "feed_forward_proj",
                                         "initializer_factor", "is_encoder_decoder", "layer_norm_epsilon", "model_type", "num_decoder_layers",
                                         "num_heads", "num_layers", "pad_token_id", "relative_attention_num_buckets", "vocab_size")}
        config |= {"architectures": ["T5ForConditionalGeneration"], "output_past": True, "tie_word_embeddings": False,
                   "use_cache": True}
    elif name == "ul2":
        config |= {"dense_act_fn": "silu", "is_gated_act": True, "n_positions": 512, "output_past": True}
    elif name == "flan_early":
        config |= {"dense_act_fn": "gelu", "is_gated_act": True, "n_positions": 512}
    elif name == "t5_first":
        config = {k: config[k] for k in ("d_ff", "d_kv", "d_model", "decoder_start_token_id", "dropout_rate", "eos_token_id", "initializer_factor",
                                         "is_encoder_decoder", "layer_norm_epsilon", "model_type", "num_heads", "num_layers", "pad_token_id",
                                         "relative_attention_num_buckets", "vocab_size")}
        config |= {"architectures": ["T5WithLMHeadModel"], "n_positions": 512, "output_past": True,
                   "task_specific_params": {"summarization": {"num_beams": 4}}}
        tensors = load_file(folder / "model.safetensors")
        for other in ("encoder", "decoder"):
            tensors[f"{other}.embed_tokens.weight"] = tensors["shared.weight"].copy()
        save_file(tensors, folder / "model.safetensors")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(names: list) -> None:
    torch.set_num_threads(1)  # the matrices are tiny
    for name in names or VARIANTS:
        print(name)
        model = build(name, VARIANTS[name])
        folder = ROOT / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        age(name, folder)
        if name in PROMPTS:
            save_file(prompts(model), folder / "prompts.safetensors")
        save_file(goldens(model), folder / "golden.safetensors")
    save_file({k: v.astype(np.float16) for k, v in buckets().items()}, ROOT / "buckets.safetensors")
    print("bytes", sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file()))


CREATED = {
    "tied": {"model_type": "t5", "feed_forward_proj": "relu"},
    "gated": {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3},
    "mt5": {"model_type": "mt5"},
    "ul2": {"model_type": "t5", "feed_forward_proj": "gated-silu", "tie_word_embeddings": False},
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
    parser.add_argument("variant", nargs="*", help="only these")
    args = parser.parse_args()
    if args.verify:
        return 0 if verify() else 1
    make(args.variant)
    return 0


if __name__ == "__main__":
    sys.exit(main())
