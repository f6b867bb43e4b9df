"""Matmul engine with scratchpad and accumulators: values against numpy, cycles against section 7 of the template."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from presilicon.isa.layout import LAYOUT
from presilicon.rtl.accumulator import Accumulators
from presilicon.rtl.matmul import Matmul
from presilicon.rtl.scratchpad import Scratchpad
from presilicon.template import Core

PACKED, INT4, STRIDED, TRANSPOSED = range(4)
# The moving operand stands in the lower half of the scratchpad, the stationary one in the upper half: other banks.


def make(rows, cols, lanes, wrpc, kib=4, accumulator_rows=32):
    return Core(
        rows=rows,
        cols=cols,
        lanes=lanes,
        bus_bytes=16,
        weight_rows_per_cycle=wrpc,
        scratchpad_bytes=kib << 10,
        scratchpad_banks=2,
        accumulator_rows=accumulator_rows,
    )


def fields(**given):
    """All fields of a MATMUL; what is not given is 0, or 1 where 0 is no value."""
    least = {"m0": 1, "m1": 1, "kb": 1, "k1": 1, "tail": 1, "group_blocks": 1}
    return {f.name: 0 for f in LAYOUT["matmul"]} | least | given


def tile_bytes(core):
    return core.weight_words * core.weight_rows_per_cycle * core.cols


def fetch_cycles(core, f, block):
    if f["weights"] == STRIDED:
        return core.rows
    if f["weights"] == TRANSPOSED:
        return core.cols
    return core.weight_words + (f["weights"] == INT4 and block % f["group_blocks"] == 0)


def times(core, program):
    """Issue, ready and done of each instruction, the first issued in cycle 0, the others as soon as the engine is ready."""
    issue, end, found = 0, 0, []
    for f in program:
        m, ls = f["m0"] * f["m1"], issue + 1
        for block in range(f["k1"] * f["kb"]):
            loaded = ls + fetch_cycles(core, f, block)
            cs = max(loaded, end)
            end = cs + max(m, core.accumulate_cycles)
            ls = max(loaded, cs)
        found.append((issue, cs + 1, end - 1 + core.matmul_drain_cycles))
        issue = cs + 1
    return found


def nibble(data, n, signed):
    value = data[n // 2] >> (4 * (n % 2)) & 15
    return int(value) - 16 * (signed and value > 7)


def weight(core, data, f, block, row, col):
    if f["weights"] == PACKED:
        return np.int8(data[f["w"] + block * tile_bytes(core) + row * core.cols + col].view(np.int8))
    if f["weights"] == STRIDED:
        return data[f["w"] + (block * core.rows + row) * f["w_pitch"] + col].view(np.int8)
    if f["weights"] == TRANSPOSED:
        return data[f["w"] + block * core.rows + col * f["w_pitch"] + row].view(np.int8)
    w4 = nibble(data[f["w"] + block * tile_bytes(core) // 2 :], row * core.cols + col, True)
    return w4 * nibble(data[f["groups"] + block // f["group_blocks"] * core.cols // 2 :], col, False)


def execute(core, data, accumulators, f):
    for block in range(f["k1"] * f["kb"]):
        j1, jb = divmod(block, f["kb"])
        valid = f["tail"] if jb == f["kb"] - 1 else core.rows
        w = np.array([[weight(core, data, f, block, r, c) for c in range(core.cols)] for r in range(core.rows)], np.int64)
        for i in range(f["m0"] * f["m1"]):
            i1, i0 = divmod(i, f["m0"])
            at = f["x"] + i0 * f["x_stride0"] + i1 * f["x_stride1"] + j1 * f["k_stride1"] + jb * core.rows
            row = accumulators[f["bank"], f["acc"] + i]
            if block == 0 and not f["accumulate"]:
                row[:] = 0
            row += data[at : at + valid].view(np.int8).astype(np.int64) @ w[:valid]


def drawn(core, rng, weights):
    """Random MATMULs of these forms; two in a row never add to one accumulator within ``accumulate_cycles``."""
    program = []
    for form in weights:
        f = draw(core, rng, int(form), small=bool(rng.integers(2)))
        if program and program[-1]["bank"] == f["bank"]:
            block = max(program[-1]["m0"] * program[-1]["m1"], core.accumulate_cycles)
            f["bank"] ^= block + program[-1]["acc"] - f["acc"] < core.accumulate_cycles
        program.append(f)
    return program


def draw(core, rng, weights, small=False):
    """A MATMUL within the memories, with all its fields at random."""
    half = core.scratchpad_bytes // 2
    while True:
        m0, m1 = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        kb, k1 = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        if small:
            m0, m1 = int(rng.integers(1, 3)), 1
        f = fields(m0=m0, m1=m1, kb=kb, k1=k1, weights=weights, tail=int(rng.integers(1, core.rows + 1)))
        f |= {"bank": int(rng.integers(2)), "accumulate": int(rng.integers(2)), "group_blocks": int(rng.integers(1, 4))}
        f["acc"] = int(rng.integers(0, core.accumulator_rows - m0 * m1 + 1))
        f["k_stride1"] = int(rng.integers(-64, 65))
        f["x_stride0"], f["x_stride1"] = int(rng.integers(-48, 49)), int(rng.integers(-96, 97))
        spans = [(m0 - 1) * f["x_stride0"], (m1 - 1) * f["x_stride1"], (k1 - 1) * f["k_stride1"]]
        low = -sum(s for s in spans if s < 0)
        high = half - sum(s for s in spans if s > 0) - kb * core.rows
        blocks = kb * k1
        f["w_pitch"] = core.cols + int(rng.integers(0, 9))
        size = {PACKED: blocks * tile_bytes(core), INT4: blocks * tile_bytes(core) // 2}.get(weights, 0)
        if weights == STRIDED:
            size = (blocks * core.rows - 1) * f["w_pitch"] + core.cols
        if weights == TRANSPOSED:
            f["w_pitch"] = blocks * core.rows + int(rng.integers(0, 9))
            size = (core.cols - 1) * f["w_pitch"] + blocks * core.rows
        groups = -(-blocks // f["group_blocks"]) * core.cols // 2
        if low < high and size + groups < half:
            f["x"] = int(rng.integers(low, high))
            f["groups"] = half + int(rng.integers(0, half - size - groups + 1))
            f["w"] = f["groups"] + groups + int(rng.integers(0, core.scratchpad_bytes - f["groups"] - groups - size + 1))
            return f


@dataclass
class Run:
    """What the hardware did: cycles of ready and done, errors with their cycle, the accumulators at the end."""

    issued: list = field(default_factory=list)
    done: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    accumulators: np.ndarray | None = None


def run(core, data, program, cycles):
    m = Module()
    m.submodules.matmul = matmul = Matmul(core)
    m.submodules.scratchpad = scratchpad = Scratchpad(core)
    m.submodules.accumulators = accumulators = Accumulators(core)
    for port in ("x", "w"):
        for name in ("en", "address", "count"):
            m.d.comb += getattr(scratchpad, f"{port}_{name}").eq(getattr(matmul, f"{port}_{name}"))
        m.d.comb += getattr(matmul, f"{port}_data").eq(getattr(scratchpad, f"{port}_data"))
    for name in ("add_en", "add_bank", "add_row", "add_keep", "sums"):
        m.d.comb += getattr(accumulators, name).eq(getattr(matmul, name))
    result = Run()

    async def bench(ctx):
        ctx.set(scratchpad.l_en, 1)
        ctx.set(scratchpad.l_count, core.bus_bytes)
        for address in range(0, core.scratchpad_bytes, core.bus_bytes):
            ctx.set(scratchpad.l_address, address)
            ctx.set(scratchpad.l_data, int.from_bytes(data[address : address + core.bus_bytes].tobytes(), "little"))
            await ctx.tick()
        ctx.set(scratchpad.l_en, 0)
        await ctx.tick().repeat(core.scratchpad_write_cycles)
        waiting = list(program)
        for cycle in range(cycles):
            start = bool(waiting) and bool(ctx.get(matmul.ready))
            ctx.set(matmul.start, start)
            if start:
                ctx.set(matmul.payload, waiting.pop(0))
                result.issued.append(cycle)
            if ctx.get(matmul.done):
                result.done.append(cycle)
            for block in (matmul, scratchpad, accumulators):
                if ctx.get(block.error):
                    result.errors.append((cycle, ctx.get(block.error_code), ctx.get(block.error_info)))
                    ctx.set(matmul.stop, 1)
            in_flight = len(result.issued) - start - len(result.done) + bool(ctx.get(matmul.done))
            assert result.errors or ctx.get(matmul.idle) == (not in_flight), cycle
            await ctx.tick()
        result.accumulators = np.zeros((2, core.accumulator_rows, core.cols), np.int32)
        reads = [(b, r, c) for b in range(2) for r in range(core.accumulator_rows) for c in range(core.chunks)]
        for i in range(len(reads) + 3):
            if i >= 3:
                bank, row, chunk = reads[i - 3]
                lanes = ctx.get(accumulators.read_data).to_bytes(4 * core.lanes, "little")
                result.accumulators[bank, row, chunk * core.lanes :][: core.lanes] = np.frombuffer(lanes, np.int32)
            ctx.set(accumulators.read_en, i < len(reads))
            for port, value in zip(("bank", "row", "chunk"), reads[min(i, len(reads) - 1)], strict=True):
                ctx.set(getattr(accumulators, f"read_{port}"), value)
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return result


def check(core, program, seed=1):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, core.scratchpad_bytes, np.uint8)
    expected = np.zeros((2, core.accumulator_rows, core.cols), np.int64)
    for f in program:
        execute(core, data, expected, f)
    due = times(core, program)
    found = run(core, data, program, due[-1][2] + 3)
    assert found.errors == []
    assert found.issued == [issue for issue, _, _ in due]
    assert found.done == [done for _, _, done in due]
    np.testing.assert_array_equal(found.accumulators, expected.astype(np.int32))


CORES = [make(4, 4, 4, 4), make(8, 8, 4, 3), make(12, 8, 8, 2), make(8, 16, 8, 1), make(20, 4, 4, 5)]


@pytest.mark.parametrize("core", CORES, ids=lambda c: f"{c.rows}x{c.cols}x{c.weight_rows_per_cycle}")
def test_random_instructions_back_to_back(core):
    rng = np.random.default_rng(core.rows * core.cols)
    check(core, drawn(core, rng, rng.permutation([0, 1, 2, 3] * 2)))


@pytest.mark.parametrize("weights", range(4))
def test_one_row_and_many_rows(weights):
    core = CORES[0]
    rng = np.random.default_rng(weights)
    short = draw(core, rng, weights) | {"m0": 1, "m1": 1, "accumulate": 1}
    long = draw(core, rng, weights) | {"m0": 25, "m1": 1, "x": 100, "x_stride0": 7, "k1": 1, "acc": 3, "accumulate": 0}
    check(core, [short, short, long, short | {"bank": long["bank"], "acc": 5}, long | {"accumulate": 1}])


def test_the_extremes_of_a_sum():
    core = make(16, 4, 4, 4)
    data = np.full(core.scratchpad_bytes, 0x80, np.uint8)
    f = fields(w=2048, tail=16, kb=4)
    found = run(core, data, [f], 80)
    assert (found.accumulators[0, 0] == 4 * 16 * 128 * 128).all()


def test_laws_and_rows_beyond_the_accumulators():
    core = make(4, 4, 4, 4, kib=1, accumulator_rows=16)
    data = np.zeros(core.scratchpad_bytes, np.uint8)
    for i, name in enumerate(("m0", "m1", "kb", "k1", "tail", "group_blocks")):
        assert run(core, data, [fields(**{name: 0})], 3).errors == [(1, 2, 1 << i)], name
    assert run(core, data, [fields(tail=core.rows + 1)], 3).errors == [(1, 2, 1 << 4)]
    cs = 1 + core.weight_words
    assert run(core, data, [fields(m0=4, acc=14, w=512)], 20).errors == [(cs + 2 + 1, 4, 16)]
    assert run(core, data, [fields(acc=1 << 23, w=512)], 20).errors == [(cs + 1, 4, 1 << 23)]


def test_a_stop_leaves_the_engine_quiet():
    core = make(4, 4, 4, 4, kib=1, accumulator_rows=16)
    data = np.zeros(core.scratchpad_bytes, np.uint8)
    found = run(core, data, [fields(m0=8, acc=12, kb=3, w=512), fields()], 40)
    assert (len(found.issued), len(found.errors), found.done) == (1, 1, [])
