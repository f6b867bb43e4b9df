"""The closed form of a matmul on the template against the simulator: at most 3 % in the median, 8 % at worst."""

import numpy as np
import pytest

from levels import core
from presilicon.compiler.corpus.gemm import Weights, gemm
from presilicon.dram import DramOptions
from presilicon.estimate.template import matmul_estimate
from presilicon.simulate.machine import run
from presilicon.tiling import plan

SIZES = (
    (64, 64, 64),
    (128, 128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (64, 4096, 64),
    (4096, 64, 64),
    (64, 64, 4096),
    (96, 768, 3072),
    (300, 700, 500),
    (1, 4096, 1024),
    (7, 2048, 640),
)


def _error(name: str, m: int, k: int, n: int, options: DramOptions, int4: bool = False) -> float:
    sizes = core(name)
    groups = -(-64 // sizes.rows)
    multipliers = np.ones((-(-k // (sizes.rows * groups)), n), np.uint8) if int4 else None
    weights = Weights(
        values=np.zeros((k, n), np.int8),
        scale=np.ones(n, np.float32),
        bias=np.zeros(n, np.int32),
        multipliers=multipliers,
        group_blocks=groups if int4 else 0,
    )
    cycles = run(gemm(sizes, m, weights), sizes, options=options, values=False, events=False).cycles
    tiles = plan(sizes, m, k, n, int4=int4, group_blocks=weights.group_blocks)
    beat = options.num / options.den
    return matmul_estimate(sizes, tiles, latency=options.latency, beat_cycles=beat).cycles / cycles - 1.0


@pytest.mark.parametrize(
    "options", [DramOptions(), DramOptions(latency=120), DramOptions(num=2)], ids=["plain", "latency", "half"]
)
def test_estimate_of_matmuls(options: DramOptions) -> None:
    errors = {
        (name, *size): _error(name, *size, options) for name in ("core-8x8", "core-16x16", "core-32x32") for size in SIZES
    }
    apart = sorted(abs(e) for e in errors.values())
    worst = max(errors, key=lambda key: abs(errors[key]))
    assert apart[len(apart) // 2] <= 0.03, errors
    # With a slower memory the smallest products are nothing but latencies: they may be a fifth apart.
    assert apart[-1] <= (0.08 if options == DramOptions() else 0.2), (worst, errors[worst], errors)


def test_largest() -> None:
    assert abs(_error("core-32x32", 4096, 4096, 4096, DramOptions())) <= 0.03


def test_int4() -> None:
    for size in ((1, 4096, 1024), (64, 1024, 256)):
        assert abs(_error("core-32x32", *size, DramOptions(), int4=True)) <= 0.03
