"""Fixtures of the binding's tests: a context, and a tiny model with random weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Iterator

import pytest

from reasondistill import Context, T5

CONFIG = {"model_type": "t5", "d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 1, "num_decoder_layers": 1, "vocab_size": 16,
          "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0.0}


@pytest.fixture
def ctx() -> Iterator[Context]:
    with Context(threads=1) as c:
        yield c


@pytest.fixture
def model(ctx: Context, tmp_path: Path) -> Iterator[T5]:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    with T5.create(ctx, config) as m:
        yield m


@pytest.fixture
def pack() -> Path:
    """The data pack, or a skip."""
    path = Path(os.environ.get("RSD_TEST_DATA") or Path(__file__).resolve().parents[3].parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip("no data pack")
    return path
