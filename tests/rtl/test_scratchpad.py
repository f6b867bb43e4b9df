"""Scratchpad: any byte address, any count, all ports at once, to the cycle; what it reports as errors."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from presilicon.rtl.scratchpad import PORTS, READS, WRITES, Scratchpad, port_bytes
from presilicon.template import ENGINES, Core


def make(rows, cols, lanes, bus, wrpc, banks, rows_per_bank):
    core = Core(
        rows=rows,
        cols=cols,
        lanes=lanes,
        bus_bytes=bus,
        weight_rows_per_cycle=wrpc,
        scratchpad_bytes=1 << 24,
        scratchpad_banks=banks,
        accumulator_rows=16,
    )
    size = core.width_bytes * rows_per_bank * banks
    fields = {name: getattr(core, name) for name in core.__slots__}
    return Core(**(fields | {"scratchpad_bytes": size}))


CORES = [make(4, 4, 4, 16, 4, 4, 4), make(12, 8, 4, 16, 3, 2, 4), make(16, 32, 8, 32, 1, 8, 4), make(20, 16, 16, 16, 1, 4, 8)]


def number(data):
    return int.from_bytes(bytes(data), "little")


def simulate(core, bench):
    dut = Scratchpad(core)
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)

    async def run(ctx):
        await bench(ctx, dut)

    simulator.add_testbench(run)
    simulator.run()


def set_port(ctx, dut, port, en, address=0, count=0, data=None):
    ctx.set(getattr(dut, f"{port}_en"), en)
    ctx.set(getattr(dut, f"{port}_address"), address)
    ctx.set(getattr(dut, f"{port}_count"), count)
    if data is not None:
        ctx.set(getattr(dut, f"{port}_data"), number(data))


@pytest.mark.parametrize("core", CORES, ids=lambda c: f"{c.rows}x{c.cols}-{c.width_bytes}")
def test_random_accesses_of_all_ports(core):
    rng = np.random.default_rng(core.rows)
    width = port_bytes(core)

    def banks_of(address, count):
        return set(range(address // core.bank_bytes, (address + count - 1) // core.bank_bytes + 1)) if count else set()

    def accesses(ports):
        """At random one access for some of the ports, no two in one bank."""
        taken, made = set(), {}
        for port in rng.permutation(ports):
            count = int(rng.integers(0, width[port] + 1)) if rng.random() < 0.5 else width[port]
            if rng.random() < 0.4:  # across a border of rows or banks
                border = int(rng.integers(1, core.scratchpad_bytes // core.width_bytes)) * core.width_bytes
                address = min(max(border - int(rng.integers(0, count + 1)), 0), core.scratchpad_bytes - count)
            else:
                address = int(rng.integers(0, core.scratchpad_bytes - count + 1))
            if rng.random() < 0.7 and not banks_of(address, count) & taken:
                taken |= banks_of(address, count)
                made[port] = (address, count)
        return made

    async def bench(ctx, dut):
        memory = np.zeros(core.scratchpad_bytes, np.uint8)
        due, held, stored = [], {}, []
        for cycle in range(150):
            for at, address, data in [s for s in stored if s[0] == cycle]:
                memory[address : address + len(data)] = data
                stored.remove((at, address, data))
            for port in PORTS:
                set_port(ctx, dut, port, 0)
            for port, (address, count) in accesses(WRITES).items():
                data = rng.integers(0, 256, width[port], np.uint8)
                set_port(ctx, dut, port, 1, address, count, data)
                stored.append((cycle + core.scratchpad_write_cycles, address, data[:count].tolist()))
            # What is written in the last cycles may or may not be seen: not read here.
            fresh = {a + i for _, a, d in stored for i in range(len(d))}
            for port, (address, count) in accesses(READS).items():
                if fresh.isdisjoint(range(address, address + count)):
                    set_port(ctx, dut, port, 1, address, count)
                    expected = np.zeros(width[port], np.uint8)
                    expected[:count] = memory[address : address + count]
                    if count:
                        due.append((cycle + core.scratchpad_read_cycles, port, number(expected)))
            for at, port, expected in [d for d in due if d[0] == cycle]:
                held[port] = expected
                due.remove((at, port, expected))
            for port, expected in held.items():
                assert ctx.get(getattr(dut, f"{port}_data")) == expected, (cycle, port)
            assert not ctx.get(dut.error)
            await ctx.tick()

    simulate(core, bench)


def test_a_write_is_seen_after_its_cycles_and_not_before():
    core = CORES[0]

    async def bench(ctx, dut):
        set_port(ctx, dut, "l", 1, 13, 4, range(1, 1 + core.bus_bytes))
        await ctx.tick()
        set_port(ctx, dut, "l", 0)
        await ctx.tick().repeat(core.scratchpad_write_cycles - 1)
        set_port(ctx, dut, "s", 1, 12, 6)
        await ctx.tick()
        set_port(ctx, dut, "s", 0)
        await ctx.tick().repeat(core.scratchpad_read_cycles - 1)
        assert ctx.get(dut.s_data) == number([0, 1, 2, 3, 4, 0])

    simulate(core, bench)


def test_errors_name_port_and_address():
    core = CORES[0]
    size, bank = core.scratchpad_bytes, core.bank_bytes
    cases = [
        ({"x": (size - 2, 3)}, (3, "x", size - 2)),
        ({"x": (size - 3, 3)}, None),
        ({"vw": (size, 1)}, (3, "vw", size)),
        ({"v": (0xFFFFFF, 16)}, (3, "v", 0xFFFFFF)),
        ({"x": (0, 4), "s": (bank - 1, 1)}, (5, "s", bank - 1)),
        ({"x": (0, 4), "s": (bank, 1)}, None),
        ({"w": (bank - 1, 2), "v": (2 * bank - 4, 4)}, (5, "v", 2 * bank - 4)),
        ({"l": (3 * bank, 1), "vw": (3 * bank - 1, 2)}, (6, "vw", 3 * bank - 1)),
        ({"l": (3 * bank, 1), "vw": (3 * bank - 1, 1), "s": (3 * bank, 1)}, None),
        ({"l": (0, 1), "vw": (0, 0)}, None),
    ]

    async def bench(ctx, dut):
        for accesses, expected in cases:
            for port, (address, count) in accesses.items():
                set_port(ctx, dut, port, 1, address, count)
            await ctx.tick()
            for port in accesses:
                set_port(ctx, dut, port, 0)
            assert ctx.get(dut.error) == (expected is not None), accesses
            if expected is not None:
                code, port, address = expected
                assert ctx.get(dut.error_code) == code
                assert ENGINES[ctx.get(dut.error_engine)] == PORTS[port]
                assert ctx.get(dut.error_info) == address | list(PORTS).index(port) << 28
            await ctx.tick()
            assert not ctx.get(dut.error)

    simulate(core, bench)
