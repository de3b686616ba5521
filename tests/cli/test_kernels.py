"""--kernels and RSD_KERNELS choose the code that computes; `info` tells which it is."""

from __future__ import annotations

import json
import os

from conftest import World


def names(world: World) -> list[str]:
    """As --help lists them."""
    line = next(s for s in world.done("--help").splitlines() if s.startswith("With any verb: --kernels"))
    return line.rstrip(".").rpartition(": ")[2].split(", ")


def backend(world: World, *args: str, **variables: str) -> str:
    return json.loads(world.done(*args, env={**os.environ, **variables}))["backend"]


def test_info_tells_the_kernels_that_were_chosen(world: World) -> None:
    assert names(world)[0] == "auto" and names(world)[-2:] == ["generic", "blas"]
    for name in names(world)[1:-1]:
        assert backend(world, "info", "--kernels", name).endswith(f"kernels: cpu {name}")
        assert backend(world, f"--kernels={name}", "info", RSD_KERNELS="generic").endswith(f"kernels: cpu {name}")
    assert backend(world, "info", RSD_KERNELS="blas").endswith(", BLAS")
