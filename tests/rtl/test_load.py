"""LOAD: bytes against numpy, cycles against section 4, AXI rules, errors."""

from __future__ import annotations

import numpy as np
import pytest
from dma_bench import CORES, LoadTime, filled, load_entries, run_load

from presilicon.dram import Dram, DramOptions

OPTIONS = {
    "plain": DramOptions(),
    "fast": DramOptions(latency=1),
    "slow": DramOptions(latency=17, num=5, den=2, row_bytes=1024, banks=4, row_miss=9),
    "stalls": DramOptions(
        latency=23, num=3, den=4, refresh_interval=300, refresh_cycles=30, stall_seed=7, stall_max=40, stall_percent=40
    ),
}
MEMORY_BYTES = 1 << 16


def random_load(rng: np.random.Generator, core, spad_bytes: int) -> dict[str, int]:
    """A legal LOAD to the scratchpad within the memory, of a few rows."""
    kind = rng.integers(4)
    n1, n2, n3 = (int(rng.integers(1, high)) for high in ((9, 2, 2), (5, 4, 3), (14, 2, 2), (3, 2, 2))[kind])
    run = int(rng.integers(1, (90, 200, 12, 5000)[kind]))
    left, right = (int(rng.integers(0, 70)) if rng.random() < 0.5 else 0 for _ in range(2))
    f = filled("load", n1=n1, n2=n2, n3=n3, run=run, left=left, right=right, fill=int(rng.integers(256)))
    if rng.random() < 0.5:
        f["limit"] = int(rng.integers(1, n1 + 3))
        f["y0"] = int(rng.integers(-3, 4))
    rows = n1 * n2 * n3
    f["pitch"] = left + run + right + int(rng.integers(0, 9))
    while rows * f["pitch"] > spad_bytes:
        f["n1"] = n1 = max(1, n1 // 2)
        rows = n1 * n2 * n3
    f["spad"] = int(rng.integers(0, spad_bytes - rows * f["pitch"] + 1))
    low = 20000
    f["dram"] = low + int(rng.integers(0, 8192))
    for name in ("stride1", "stride2", "stride3"):
        f[name] = int(rng.integers(-700, 900))
    return f


def expected(core, program, memory, scratchpad, indices) -> np.ndarray:
    want = scratchpad.copy()
    for f in program:
        for e in load_entries(f, indices):
            want[e.place : e.place + e.bytes] = memory[e.address : e.address + e.bytes] if e.data else f["fill"]
    return want


@pytest.mark.parametrize("size", CORES)
@pytest.mark.parametrize("options", OPTIONS)
def test_random_rows(size: str, options: str) -> None:
    core = CORES[size]
    rng = np.random.default_rng([len(size), sorted(OPTIONS).index(options)])
    memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    program = [random_load(rng, core, core.scratchpad_bytes) for _ in range(9)]
    scratchpad = rng.integers(0, 256, core.scratchpad_bytes, dtype=np.uint8)
    want = expected(core, program, memory, scratchpad, np.zeros(0, np.uint32))
    seen = run_load(
        core,
        program,
        memory,
        OPTIONS[options],
        scratchpad=scratchpad,
        side={},
        gaps=[int(g) for g in rng.integers(0, 3, len(program))],
    )
    assert not seen.errors
    np.testing.assert_array_equal(scratchpad, want)
    time = LoadTime(core.bus_bytes, Dram(OPTIONS[options]))
    for k, f in enumerate(program):
        ready, done = time.run(f, load_entries(f, np.zeros(0, np.uint32)), seen.issues[k])
        assert (seen.ready[k], seen.done[k]) == (ready, done), (k, f)


@pytest.mark.parametrize("size", CORES)
def test_gather(size: str) -> None:
    """Index memory written by one LOAD, read by the next ones; a gathered row may be long, short or filled."""
    core, bus = CORES[size], CORES[size].bus_bytes
    rng = np.random.default_rng(5)
    memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    indices = rng.integers(0, 60, core.index_slots, dtype=np.uint32)
    indices[40] = 1 << 31 | 5  # an unsigned number: 2^31 + 5 rows on, modulo 2^40
    memory[:1024] = np.frombuffer(indices.tobytes(), np.uint8)
    program = [filled("load", target=3, run=1024)]
    for n1, run, stride in ((7, 33, 700), (1, 5000, 11), (30, 2, 13), (12, bus, 64)):
        index0, limit = int(rng.integers(41, 200)), n1 - 1 if n1 == 7 else 0
        shape = {"n1": n1, "run": run, "stride1": stride, "pitch": run + 5, "left": 3, "fill": 9}
        program.append(filled("load", gather=1, dram=9000, index0=index0, limit=limit, **shape))
    program.append(filled("load", gather=1, dram=3 << 8, n1=1, run=16, stride1=1 << 9, index0=40))
    program[-1]["dram"] = (0x3000 - ((1 << 31) + 5) * (1 << 9)) % (1 << 40)
    scratchpad = np.zeros(core.scratchpad_bytes, np.uint8)
    want = expected(core, program[1:], memory, scratchpad, indices)
    side: dict[tuple[int, int], bytes] = {}
    seen = run_load(
        core,
        program,
        memory,
        DramOptions(latency=9),
        scratchpad=scratchpad,
        side=side,
        gaps=[0, 200] + [0] * (len(program) - 2),
    )
    assert not seen.errors
    np.testing.assert_array_equal(scratchpad, want)
    assert b"".join(side[3, a] for a in range(0, 1024, bus)) == indices.tobytes()
    time = LoadTime(bus, Dram(DramOptions(latency=9)))
    for k, f in enumerate(program):
        assert (seen.ready[k], seen.done[k]) == time.run(f, load_entries(f, indices), seen.issues[k]), k


@pytest.mark.parametrize("size", CORES)
@pytest.mark.parametrize("target", [1, 2, 4])
def test_other_memories(size: str, target: int) -> None:
    """Tables take an entry a cycle, kernel and instruction memory a beat; a scratchpad LOAD follows without waiting."""
    core, bus = CORES[size], CORES[size].bus_bytes
    rng = np.random.default_rng(target)
    memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    program = [
        filled("load", target=target, dram=4096 - 2 * bus, spad=bus, run=6 * bus, n1=2, stride1=16 * bus, pitch=8 * bus),
        filled("load", dram=77, spad=5, run=300),
    ]
    scratchpad = np.zeros(core.scratchpad_bytes, np.uint8)
    side: dict[tuple[int, int], bytes] = {}
    seen = run_load(core, program, memory, DramOptions(latency=3), scratchpad=scratchpad, side=side)
    assert not seen.errors
    step = 4 if target == 1 else bus
    want = {}
    for row in range(2):
        for at in range(0, 6 * bus, step):
            source = 4096 - 2 * bus + row * 16 * bus + at
            want[target, bus + row * 8 * bus + at] = memory[source : source + step].tobytes()
    assert side == want
    np.testing.assert_array_equal(scratchpad[5:305], memory[77:377])
    time = LoadTime(bus, Dram(DramOptions(latency=3)))
    for k, f in enumerate(program):
        assert (seen.ready[k], seen.done[k]) == time.run(f, load_entries(f, np.zeros(0)), seen.issues[k]), k


def test_eight_bursts_in_flight() -> None:
    """With a latency of 300 cycles the ninth burst waits for the first; short rows go out one a cycle until then."""
    core = CORES["32x16"]
    memory = np.arange(MEMORY_BYTES, dtype=np.uint32).astype(np.uint8)
    program = [filled("load", n1=20, run=8, stride1=64, pitch=8)]
    scratchpad = np.zeros(core.scratchpad_bytes, np.uint8)
    options = DramOptions(latency=300)
    seen = run_load(core, program, memory, options, scratchpad=scratchpad, side={})
    time = LoadTime(core.bus_bytes, Dram(options))
    assert (seen.ready[0], seen.done[0]) == time.run(program[0], load_entries(program[0], np.zeros(0)), seen.issues[0])
    assert seen.bursts == 20
    assert seen.done[0] > 900


@pytest.mark.parametrize("seed", range(3))
def test_back_pressure(seed: int) -> None:
    """Ready and valid of the memory low at random: no byte is lost, AR holds still (asserted by the bench)."""
    core = list(CORES.values())[seed]
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, MEMORY_BYTES, dtype=np.uint8)
    program = [random_load(rng, core, core.scratchpad_bytes) for _ in range(6)]
    scratchpad = np.zeros(core.scratchpad_bytes, np.uint8)
    want = expected(core, program, memory, scratchpad, np.zeros(0, np.uint32))
    options = DramOptions(latency=11, back_pressure=(20, 50, 80)[seed])
    seen = run_load(core, program, memory, options, scratchpad=scratchpad, side={}, seed=seed)
    assert len(seen.done) == len(program)
    np.testing.assert_array_equal(scratchpad, want)


ILLEGAL = {
    "no rows": ({"n1": 0, "run": 5}, 2),
    "no second rows": ({"n2": 0, "run": 5}, 2),
    "no third rows": ({"n3": 0, "run": 5}, 2),
    "no bytes": ({"run": 0}, 2),
    "target": ({"run": 64, "target": 5}, 2),
    "gather in three dimensions": ({"run": 8, "gather": 1, "n2": 2}, 2),
    "fill in a kernel": ({"run": 64, "target": 2, "left": 1}, 2),
    "limit in a kernel": ({"run": 64, "target": 2, "limit": 1}, 2),
    "run": ({"run": 65, "target": 4}, 13),
    "dram": ({"run": 64, "dram": 8, "target": 1}, 13),
    "stride": ({"run": 64, "stride3": -8, "target": 3}, 13),
    "past the tables": ({"run": 128, "spad": 1984, "target": 1}, 3),
    "past the kernels": ({"run": 128, "spad": 4032, "target": 2}, 3),
    "index": ({"run": 8, "gather": 1, "index0": 255, "n1": 2}, 14),
    "index wraps": ({"run": 1, "gather": 1, "index0": 4090, "n1": 9, "pitch": 1, "limit": 9, "y0": -8}, 14),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_illegal(case: str) -> None:
    """An error is told once, with its code; bursts in flight end and the engine is idle and stays so."""
    fields, code = ILLEGAL[case]
    core = CORES["16x64"]
    memory = np.zeros(MEMORY_BYTES, np.uint8)
    program = [filled("load", dram=100, run=500, n1=3, pitch=500), filled("load", **fields), filled("load", run=4)]
    scratchpad = np.zeros(core.scratchpad_bytes, np.uint8)
    seen = run_load(core, program, memory, DramOptions(), scratchpad=scratchpad, side={})
    assert [error[1] for error in seen.errors] == [code]
    assert seen.idle
    if code in (2, 13):
        assert len(seen.issues) == 2
        assert seen.errors[0][0] == seen.issues[1] + 1


@pytest.mark.parametrize("row", range(6))
def test_bus_error(row: int) -> None:
    """A burst that answers SLVERR: error 9 with the place of its beat; what is in flight is taken, nothing more is asked."""
    core = CORES["4x4"]
    memory = np.zeros(MEMORY_BYTES, np.uint8)
    program = [filled("load", dram=8192, run=100, stride1=256, n1=6, pitch=100, spad=40)] * 2
    scratchpad = np.ones(core.scratchpad_bytes, np.uint8)
    at = 8192 + 256 * row + 32
    seen = run_load(
        core,
        program,
        memory,
        DramOptions(latency=5, back_pressure=30),
        scratchpad=scratchpad,
        side={},
        bad=range(at, at + 16),
        seed=row,
    )
    assert [error[1:] for error in seen.errors] == [(9, 40 + 100 * row + 32)]
    assert seen.idle
    assert not scratchpad[40 : 40 + 100 * row + 32].any()
    assert scratchpad[40 + 100 * row + 32 : 40 + 100 * row + 48].all()
