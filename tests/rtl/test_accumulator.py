"""Accumulators: additions to the cycle, reads beside them, what is reported as an error."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from presilicon.rtl.accumulator import Accumulators
from presilicon.rtl.array import sum_bits
from presilicon.template import ENGINES, Core

READ_CYCLES = 3


def make(rows, cols, lanes):
    return Core(
        rows=rows,
        cols=cols,
        lanes=lanes,
        bus_bytes=16,
        weight_rows_per_cycle=4,
        scratchpad_bytes=1 << 14,
        scratchpad_banks=2,
        accumulator_rows=16,
    )


def simulate(core, bench):
    dut = Accumulators(core)
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)

    async def run(ctx):
        await bench(ctx, dut)

    simulator.add_testbench(run)
    simulator.run()


def put(ctx, dut, prefix, en, **values):
    ctx.set(getattr(dut, f"{prefix}_en"), en)
    for name, value in values.items():
        ctx.set(getattr(dut, f"{prefix}_{name}"), value)


@pytest.mark.parametrize("core", [make(4, 4, 4), make(16, 16, 4), make(12, 8, 8)], ids=lambda c: f"{c.cols}/{c.lanes}")
def test_random_additions_and_reads(core):
    rng = np.random.default_rng(core.cols)
    bits, cycles = sum_bits(core), 300

    def row():
        return int(rng.integers(2)), int(rng.integers(core.accumulator_rows))

    # In which cycles which rows are added to: (bank, row, whether the old value is kept).
    last = np.full((2, core.accumulator_rows), -9)
    schedule = []
    for cycle in range(cycles):
        at = row()
        free = cycle - last[at] >= core.accumulate_cycles and rng.random() < 0.8
        schedule.append((*at, bool(rng.integers(2))) if free else None)
        last[at] = cycle if free else last[at]

    def readable(cycle, bank, row):
        """Whether what was added is written, and the bank's port is free in the cycle after, when the SRAM is read."""
        pending = [add[:2] for add in schedule[max(cycle - 2, 0) : cycle + 1] if add]
        after = schedule[cycle + 1] if cycle + 1 < cycles else None
        return (bank, row) not in pending and (after is None or after[0] != bank or not after[2])

    async def bench(ctx, dut):
        values = np.zeros((2, core.accumulator_rows, core.cols), np.int64)
        reads, held = {}, None
        for cycle, add in enumerate(schedule):
            if add:
                put(ctx, dut, "add", 1, bank=add[0], row=add[1], keep=add[2])
            else:
                put(ctx, dut, "add", 0, bank=int(rng.integers(2)), row=0, keep=1)
            at, chunk = row(), int(rng.integers(core.chunks))
            read = readable(cycle, *at)
            put(ctx, dut, "read", read, bank=at[0], row=at[1], chunk=chunk)
            if read:
                lanes = values[at][chunk * core.lanes : (chunk + 1) * core.lanes]
                reads[cycle + READ_CYCLES] = lanes.astype(np.int32).tobytes()
            if cycle >= 2 and schedule[cycle - 2]:
                bank, to, keep = schedule[cycle - 2]
                sums = rng.integers(-(1 << bits - 1), 1 << bits - 1, core.cols)
                sums[0] = -(1 << bits - 1)
                ctx.set(dut.sums, sum(int(s) % (1 << bits) << i * bits for i, s in enumerate(sums)))
                values[bank, to] = values[bank, to] * keep + sums
            held = reads.pop(cycle, held)
            assert held is None or ctx.get(dut.read_data) == int.from_bytes(held, "little"), cycle
            assert not ctx.get(dut.error), cycle
            await ctx.tick()

    simulate(core, bench)


def test_errors():
    core = make(4, 4, 4)

    async def bench(ctx, dut):
        async def told(add, read):
            """Code of the error that a read in t and an addition in t + 1 (when the read is at the SRAM) give."""
            put(ctx, dut, "read", 1, **read)
            await ctx.tick()
            put(ctx, dut, "read", 0)
            put(ctx, dut, "add", add is not None, **(add or {}))
            await ctx.tick()
            put(ctx, dut, "add", 0)
            code = ctx.get(dut.error_code) if ctx.get(dut.error) else 0
            if code:
                assert ENGINES[ctx.get(dut.error_engine)] == "vector"
                assert ctx.get(dut.error_info) == read["row"] | read["bank"] << 24
            await ctx.tick()
            assert not ctx.get(dut.error)
            return code

        assert await told(None, {"bank": 1, "row": 15}) == 0
        assert await told(None, {"bank": 1, "row": 16}) == 4
        assert await told(None, {"bank": 0, "row": 0xFFFF}) == 4
        assert await told({"bank": 1, "row": 2, "keep": 1}, {"bank": 1, "row": 5}) == 5
        assert await told({"bank": 1, "row": 2, "keep": 0}, {"bank": 1, "row": 5}) == 0
        assert await told({"bank": 0, "row": 2, "keep": 1}, {"bank": 1, "row": 5}) == 0

    simulate(core, bench)
