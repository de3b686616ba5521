#!/usr/bin/env python3
"""Makes tests/fixtures/train/adafactor.safetensors with transformers' Adafactor (torch and transformers; neither is needed to build or test).

    python3 tests/tools/make_train_fixtures.py

Some parameters of the unit tests' tiny model: `start.NAME`, `grad.STEP.NAME`, and per setting of Adafactor (SETTINGS below, in the same
order in tests/unit/test_train_mixed.c) `end.SETTING.NAME`, the weights after all steps.
"""

import pathlib

import torch
from safetensors.numpy import save_file
from transformers import Adafactor

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "train" / "adafactor.safetensors"
STEPS = 4
SHAPES = {"shared.weight": (20, 8), "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": (12, 8),
          "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (8, 2), "decoder.final_layer_norm.weight": (8,)}
SETTINGS = [
    dict(lr=1e-2, relative_step=False, scale_parameter=True),
    dict(lr=None, relative_step=True, scale_parameter=True),
    dict(lr=None, relative_step=True, scale_parameter=True, warmup_init=True),
    dict(lr=1e-2, relative_step=False, scale_parameter=False, beta1=0.9, weight_decay=0.1, clip_threshold=0.5, decay_rate=-0.6),
]


def main() -> None:
    torch.manual_seed(5)
    start = {name: torch.randn(shape) * 0.7 for name, shape in SHAPES.items()}
    start["decoder.final_layer_norm.weight"] *= 1e-4  # below the least scale of a parameter
    # Growing gradients: updates that are larger than their second moments expect are clipped.
    grads = [{name: torch.randn(shape) * 0.01 * 3**step for name, shape in SHAPES.items()} for step in range(STEPS)]
    tensors = {f"start.{name}": t.numpy() for name, t in start.items()}
    tensors |= {f"grad.{step}.{name}": g.numpy() for step in range(STEPS) for name, g in grads[step].items()}
    for setting, options in enumerate(SETTINGS):
        params = {name: torch.nn.Parameter(t.clone()) for name, t in start.items()}
        optimizer = Adafactor(list(params.values()), **options)
        for step in range(STEPS):
            for name, p in params.items():
                p.grad = grads[step][name].clone()
            optimizer.step()
        tensors |= {f"end.{setting}.{name}": p.detach().numpy() for name, p in params.items()}
    OUT.parent.mkdir(exist_ok=True)
    save_file(tensors, OUT)


if __name__ == "__main__":
    main()
