"""STORE: bytes against numpy, cycles against section 5, AXI rules, errors."""

from __future__ import annotations

import numpy as np
import pytest
from dma_bench import CORES, StoreTime, filled, run_store, store_entries

from presilicon.dram import Dram, DramOptions

OPTIONS = {
    "plain": DramOptions(),
    "fast": DramOptions(latency=1),
    "slow": DramOptions(latency=17, num=5, den=2, row_bytes=1024, banks=4, row_miss=9),
    "stalls": DramOptions(
        latency=123, num=3, den=4, refresh_interval=300, refresh_cycles=30, stall_seed=7, stall_max=40, stall_percent=40
    ),
}
MEMORY_BYTES = 1 << 16


def random_store(rng: np.random.Generator, core) -> dict[str, int]:
    """A legal STORE of a few rows whose rows do not overlap in DRAM, so that their order does not matter."""
    n1, n2, n3 = (int(n) for n in rng.integers(1, 5, 3))
    run = int(rng.integers(1, 4)) if rng.random() < 0.3 else int(rng.integers(1, 300))
    if rng.random() < 0.2:
        n1, n2, n3, run = 1, 1, 1, 9000
    pitch = int(rng.integers(0, 40)) if run < 1000 else 0
    s1 = run + int(rng.integers(0, 20))
    s2 = s1 * n1 + int(rng.integers(0, 20))
    s3 = s2 * n2
    return filled(
        "store",
        n1=n1,
        n2=n2,
        n3=n3,
        run=run,
        pitch=pitch,
        spad=int(rng.integers(0, core.scratchpad_bytes - max(run, 300) - n1 * n2 * n3 * pitch)),
        dram=20000 + int(rng.integers(0, 8192)) + (n1 - 1) * s1,
        stride1=-s1,
        stride2=s2,
        stride3=s3,
    )


def expected(program, memory, scratchpad) -> np.ndarray:
    want = memory.copy()
    for f in program:
        for e in store_entries(f):
            want[e.address : e.address + e.bytes] = scratchpad[e.place : e.place + e.bytes]
    return want


@pytest.mark.parametrize("size", CORES)
@pytest.mark.parametrize("options", OPTIONS)
def test_random_rows(size: str, options: str) -> None:
    core = CORES[size]
    rng = np.random.default_rng([len(size), sorted(OPTIONS).index(options)])
    memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    scratchpad = rng.integers(0, 256, core.scratchpad_bytes, dtype=np.uint8)
    program = [random_store(rng, core) for _ in range(6)]
    want = expected(program, memory, scratchpad)
    seen = run_store(
        core, program, memory, OPTIONS[options], scratchpad=scratchpad, gaps=[int(g) for g in rng.integers(0, 3, len(program))]
    )
    assert not seen.errors
    np.testing.assert_array_equal(memory, want)
    time = StoreTime(core.bus_bytes, Dram(OPTIONS[options]))
    for k, f in enumerate(program):
        assert (seen.ready[k], seen.done[k]) == time.run(f, store_entries(f), seen.issues[k]), (k, f)


@pytest.mark.parametrize("seed", range(3))
def test_back_pressure(seed: int) -> None:
    """Ready low at random: no beat is lost or repeated, AW and W hold still (asserted by the bench)."""
    core = list(CORES.values())[seed]
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    scratchpad = rng.integers(0, 256, core.scratchpad_bytes, dtype=np.uint8)
    program = [random_store(rng, core) for _ in range(5)]
    want = expected(program, memory, scratchpad)
    seen = run_store(
        core, program, memory, DramOptions(latency=11, back_pressure=(20, 50, 80)[seed]), scratchpad=scratchpad, seed=seed
    )
    assert len(seen.done) == len(program)
    np.testing.assert_array_equal(memory, want)


@pytest.mark.parametrize("name", ["n1", "n2", "n3", "run"])
def test_illegal(name: str) -> None:
    """A count of nothing is error 2, the cycle after issue; the STORE before it ends its bursts."""
    core = CORES["32x16"]
    memory = np.zeros(MEMORY_BYTES, np.uint8)
    program = [filled("store", dram=100, run=500, n1=3, pitch=500, stride1=600), filled("store", run=4)]
    program[1][name] = 0
    seen = run_store(core, program, memory, DramOptions(), scratchpad=np.ones(core.scratchpad_bytes, np.uint8))
    assert [error[:2] for error in seen.errors] == [(seen.issues[1] + 1, 2)]
    assert seen.idle


@pytest.mark.parametrize("row", range(4))
def test_bus_error(row: int) -> None:
    """A write that answers SLVERR: error 10; the bursts whose AW was taken are completed, no other begins."""
    core = CORES["4x4"]
    memory = np.zeros(MEMORY_BYTES, np.uint8)
    program = [filled("store", dram=8192, run=100, stride1=256, n1=4, pitch=100, spad=40)] * 3
    at = 8192 + 256 * row
    seen = run_store(
        core,
        program,
        memory,
        DramOptions(latency=5, back_pressure=30),
        scratchpad=np.ones(core.scratchpad_bytes, np.uint8),
        bad=range(at, at + 16),
        seed=row,
    )
    assert [error[1] for error in seen.errors] == [10]
    assert seen.idle
    assert len(seen.done) == 0
