"""A directory of the flan-t5-xxl shape, 11 billion parameters in five shards that are holes on the disk: `info` describes it without its memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from conftest import World

D, FF, HEADS, LAYERS, VOCAB, SHARDS = 4096, 10240, 64, 24, 32128, 5
PARAMETERS = 11_135_332_352


def tensors() -> list[tuple[str, list[int]]]:
    """Names and shapes as Hugging Face stores them."""
    out: list[tuple[str, list[int]]] = [("shared.weight", [VOCAB, D])]
    for stack, kinds in (("encoder", ["SelfAttention"]), ("decoder", ["SelfAttention", "EncDecAttention"])):
        for block in range(LAYERS):
            for k, kind in enumerate(kinds):
                at = f"{stack}.block.{block}.layer.{k}."
                out += [(f"{at}{kind}.{m}.weight", [D, HEADS * 64] if m == "o" else [HEADS * 64, D]) for m in "qkvo"]
                out.append((f"{at}layer_norm.weight", [D]))
                if block == 0 and k == 0:
                    out.append((f"{at}{kind}.relative_attention_bias.weight", [32, HEADS]))
            at = f"{stack}.block.{block}.layer.{len(kinds)}."
            out += [(f"{at}DenseReluDense.{m}.weight", [D, FF] if m == "wo" else [FF, D]) for m in ("wi_0", "wi_1", "wo")]
            out.append((f"{at}layer_norm.weight", [D]))
        out.append((f"{stack}.final_layer_norm.weight", [D]))
    return out + [("lm_head.weight", [VOCAB, D])]


def write_directory(path: Path) -> None:
    """Shards and index in the layout of the published models: model-0000k-of-00005.safetensors, BF16."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({
        "model_type": "t5", "d_model": D, "d_ff": FF, "d_kv": 64, "num_heads": HEADS, "num_layers": LAYERS, "num_decoder_layers": LAYERS,
        "vocab_size": VOCAB, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}))
    every = tensors()
    where, total = {}, 0
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        header, at = {}, 0
        for tensor, shape in every[shard::SHARDS]:
            size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            where[tensor] = name
            at += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (path / name).open("wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + at)
            if "lm_head.weight" in header:  # not the same bytes as the embedding: a head of its own
                f.seek(8 + len(text) + header["lm_head.weight"]["data_offsets"][0])
                f.write(b"\x80\x3f")
        total += at
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))


def test_info_describes_eleven_billion_parameters_without_their_memory(world: World, tmp_path: Path) -> None:
    write_directory(tmp_path / "xxl")
    info = json.loads(world.done("info", "--model", tmp_path / "xxl"))
    assert info["parameters"]["total"] == PARAMETERS
    assert info["parameters"]["embedding"] == info["parameters"]["head"] == VOCAB * D
    assert info["bytes"] == 2 * PARAMETERS and info["dtype"] == "BF16"
    assert info["peak_rss_bytes"] < 300 << 20


def test_a_shard_that_is_missing_is_named(world: World, tmp_path: Path) -> None:
    write_directory(tmp_path / "xxl")
    gone = tmp_path / "xxl" / "model-00003-of-00005.safetensors"
    gone.unlink()
    result = world.run("info", "--model", tmp_path / "xxl")
    assert result.returncode == 1 and gone.name.encode() in result.stderr and result.stderr.count(b"\n") == 1
