"""Modules that are emitted once and placed often; the SRAM wrapper."""

import re

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from presilicon.rtl.build import lint
from presilicon.rtl.hierarchy import emission, place, verilog
from presilicon.rtl.sram import MODULE, Sram


class Stage(wiring.Component):
    """Adds ``step`` and takes a cycle."""

    def __init__(self, step=1, width=8):
        self.step = step
        super().__init__({"x": In(width), "y": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.x + self.step)
        return m


class Chain(wiring.Component):
    x: In(8)
    y: Out(8)

    def elaborate(self, platform):
        m = Module()
        value = self.x
        for i in range(3):
            stage = place(m, Stage(), "stage", f"stage_{i}")
            m.d.comb += stage.x.eq(value)
            value = stage.y
        m.d.comb += self.y.eq(value)
        return m


def test_a_placed_module_is_emitted_once():
    text = verilog(Chain(), "chain")
    assert sorted(re.findall(r"^module (\S+?)\(", text, re.M)) == ["chain", "stage"]
    assert re.findall(r"^  stage (\S+)", text, re.M) == ["stage_0", "stage_1", "stage_2"]
    assert lint(text, "chain") == ""
    assert verilog(Chain(), "chain") == text
    assert emission() is None


def test_placed_modules_run_in_amaranths_simulator():
    dut = Chain()

    async def bench(ctx):
        ctx.set(dut.x, 5)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.y) == 8

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


def test_unlike_modules_of_one_name_are_refused():
    class Mixed(wiring.Component):
        x: In(8)

        def elaborate(self, platform):
            m = Module()
            place(m, Stage(), "stage")
            with pytest.raises(AssertionError, match="stage"):
                place(m, Stage(width=9), "stage")
            return m

    verilog(Mixed(), "mixed")


def test_sram():
    dut = Sram(24, 5, 8)
    rng = np.random.default_rng(3)
    words = [0] * 5

    async def bench(ctx):
        held = 0
        for _ in range(200):
            read, write = (int(rng.integers(5)) for _ in range(2))
            lanes, data, reads = int(rng.integers(8)), int(rng.integers(1 << 24)), bool(rng.integers(2)) and read != write
            ctx.set(dut.read_en, reads)
            ctx.set(dut.read_address, read)
            ctx.set(dut.write_en, lanes)
            ctx.set(dut.write_address, write)
            ctx.set(dut.write_data, data)
            held = words[read] if reads else held
            mask = sum(0xFF << 8 * lane for lane in range(3) if lanes >> lane & 1)
            words[write] = words[write] & ~mask | data & mask
            await ctx.tick()
            assert ctx.get(dut.read_data) == held

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    text = verilog(Sram(24, 5, 8), "memory")
    assert text.count(f"module {MODULE}") == 1
    assert lint(text, "memory") == ""
