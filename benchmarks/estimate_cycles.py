"""The closed form of a matmul's cycles against the simulator: ``python benchmarks/estimate_cycles.py [COUNT]``.

Random products on the six cores, each size log-uniform from 64 to 4096 and as awkward as chance has it (half of them at
multiples of 64), int8 and int4; products of more than 2^24 MACs a PE are drawn anew, as their programs
take minutes to write. The bars: 3 % in the median, 8 % at worst.
"""

import sys
import time

import numpy as np

from presilicon import chip as chips
from presilicon.compiler.corpus.gemm import Weights, gemm
from presilicon.dram import DramOptions
from presilicon.estimate.template import matmul_estimate
from presilicon.simulate.machine import run
from presilicon.template import Core
from presilicon.tiling import plan

CORES = ("core-4x4", "core-8x8", "core-16x16", "core-16x32", "core-32x16", "core-32x32")
# MACs a PE: what a program's instructions, and so the time to simulate it, go with.
MOST_MACS_A_PE = 1 << 24


def error(core: Core, m: int, k: int, n: int, int4: bool) -> tuple[int, float]:
    """Simulated cycles, and the relative error of the estimate."""
    groups = max(1, -(-64 // core.rows))
    weights = Weights(
        values=np.zeros((k, n), np.int8),
        scale=np.ones(n, np.float32),
        bias=np.zeros(n, np.int32),
        multipliers=np.ones((-(-k // (core.rows * groups)), n), np.uint8) if int4 else None,
        group_blocks=groups if int4 else 0,
    )
    cycles = run(gemm(core, m, weights), core, options=DramOptions(), values=False, events=False).cycles
    tiles = plan(core, m, k, n, int4=int4, group_blocks=weights.group_blocks)
    return cycles, matmul_estimate(core, tiles).cycles / cycles - 1.0


def main() -> int:
    """All products; 1 where a bar is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 240
    rng = np.random.default_rng(7)
    found: list[tuple[float, str]] = []
    began = time.perf_counter()
    while len(found) < count:
        name = CORES[len(found) % len(CORES)]
        core = Core.of(chips.load(name))
        sizes = np.exp(rng.uniform(np.log(64), np.log(4096), 3)).astype(int)
        if rng.random() < 0.5:
            sizes = np.maximum(sizes // 64 * 64, 64)
        m, k, n = (int(size) for size in sizes)
        if m * k * n > MOST_MACS_A_PE * core.rows * core.cols:
            continue
        int4 = bool(rng.random() < 0.25)
        cycles, off = error(core, m, k, n, int4)
        found.append((off, f"{name} {m}x{k}x{n}{' int4' if int4 else ''}, {cycles:,} cycles"))
    apart = sorted(((abs(off), off, what) for off, what in found), reverse=True)
    for _, off, what in apart[:10]:
        print(f"{off:+7.2%} {what}")
    median, worst = apart[len(apart) // 2][0], apart[0][0]
    print(f"{len(found)} products in {time.perf_counter() - began:.0f} s: {median:.2%} in the median (bar 3 %), ", end="")
    print(f"{worst:.2%} at worst (bar 8 %)")
    return int(median > 0.03 or worst > 0.08)


if __name__ == "__main__":
    sys.exit(main())
