"""Control registers through AXI4-Lite: identity, runs, arguments, interrupt, watchdog, reset, counters; and the arbiter."""

import random
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In
from amaranth.sim import Simulator

from presilicon.rtl.arbiter import Arbiter, Turn
from presilicon.rtl.axi_lite import OKAY, SLVERR, AxiLite, axi_lite_members
from presilicon.rtl.control import Control
from presilicon.rtl.faults import Faults
from presilicon.rtl.register_file import RegisterFile
from presilicon.rtl.register_map import COUNTER_BITS, COUNTERS, IDENTITY, REGISTERS, VERSION, offset, register
from presilicon.template import Core

CORE = Core(8, 8, 8, 16, 4, 1 << 16, 8, 64, cores=2)
START, RESET, START_ALL = 1, 2, 4
BUSY, DONE, ERROR, RESETTING = 1, 2, 4, 8


class Registers(Component):
    """AXI4-Lite in front of the registers of one core, and its register file."""

    def __init__(self) -> None:
        super().__init__(axi_lite_members(""))
        self.front, self.control = AxiLite(), Control(CORE)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.front, m.submodules.control = front, control = self.front, self.control
        m.submodules.file = file = RegisterFile(1)
        for name, member in self.signature.members.items():
            mine, theirs = getattr(self, name), getattr(front, name)
            m.d.comb += theirs.eq(mine) if member.flow == In else mine.eq(theirs)
        m.d.comb += [
            control.number.eq(1),
            control.write.eq(front.write),
            control.read.eq(front.read),
            control.offset.eq(front.address),
            control.data.eq(front.data),
            front.answer.eq(control.answer),
            front.refused.eq(control.refused),
            control.start_request.eq(control.start_all),
            file.number[0].eq(control.argument),
            control.argument_value.eq(file.value[0]),
            file.host_en.eq(control.argument_en),
            file.host_high.eq(control.argument_high),
            file.host_number.eq(control.argument),
            file.host_value.eq(control.argument_data),
        ]
        return m


class Manager:
    """A manager of AXI4-Lite that takes its time, from a seed."""

    def __init__(self, ctx, port, draw: random.Random) -> None:
        self.ctx, self.port, self.draw = ctx, port, draw

    async def send(self, channel: str, **values: int) -> None:
        for name, value in values.items():
            self.ctx.set(getattr(self.port, name), value)
        await self.ctx.tick().repeat(self.draw.randrange(1, 3))
        self.ctx.set(getattr(self.port, channel + "valid"), 1)
        while not self.ctx.get(getattr(self.port, channel + "ready")):
            await self.ctx.tick()
        await self.ctx.tick()
        self.ctx.set(getattr(self.port, channel + "valid"), 0)

    async def answer(self, channel: str) -> tuple[int, int]:
        while not self.ctx.get(getattr(self.port, channel + "valid")):
            await self.ctx.tick()
        for _ in range(self.draw.randrange(3)):
            await self.ctx.tick()
            assert self.ctx.get(getattr(self.port, channel + "valid"))
        found = self.ctx.get(getattr(self.port, channel + "resp")), self.ctx.get(self.port.rdata)
        self.ctx.set(getattr(self.port, channel + "ready"), 1)
        await self.ctx.tick()
        self.ctx.set(getattr(self.port, channel + "ready"), 0)
        return found

    async def write(self, address: int, data: int, strobes: int = 15) -> int:
        sends = [self.send("aw", awaddr=address), self.send("w", wdata=data, wstrb=strobes)]
        self.draw.shuffle(sends)
        for one in sends:
            await one
        return (await self.answer("b"))[0]

    async def read(self, address: int) -> tuple[int, int]:
        await self.send("ar", araddr=address)
        return await self.answer("r")

    async def get(self, name: str) -> int:
        """The value of a register, both words of a wide one."""
        value = 0
        for half in range(register(name).words):
            code, word = await self.read(offset(name) + 4 * half)
            assert code == OKAY, name
            value |= word << 32 * half
        return value

    async def put(self, name: str, value: int) -> None:
        for half in range(register(name).words):
            assert await self.write(offset(name) + 4 * half, value >> 32 * half & 0xFFFFFFFF) == OKAY, name


def simulate(component, *benches) -> None:
    simulator = Simulator(component)
    simulator.add_clock(1e-9)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()


def with_registers(test, seed=0) -> None:
    """Run ``test(manager, control, ctx)`` on the registers."""
    registers = Registers()

    async def bench(ctx):
        await test(Manager(ctx, registers, random.Random(seed)), registers.control, ctx)

    simulate(registers, bench)


@pytest.mark.parametrize("seed", range(2))
def test_every_word_answers_as_the_map_says(seed):
    async def test(manager, control, ctx):
        ctx.set(control.quiet, 1)
        assert await manager.get("ID") == IDENTITY
        assert await manager.get("VERSION") == VERSION
        assert await manager.get("DIGEST") == int(CORE.digest(), 16)
        assert await manager.get("CORES") == 2 | 1 << 16
        known = {r.offset + 4 * half: (r, half) for r in REGISTERS for half in range(r.words)}
        for address in [*range(0, 0x180, 4), 0x200, 0xFFC]:
            code, _ = await manager.read(address)
            assert code == (OKAY if address in known else SLVERR), hex(address)
            if address != offset("CONTROL"):
                code = await manager.write(address, 0)
                allowed = address in known and known[address][0].access != "r"
                assert code == (OKAY if allowed else SLVERR), hex(address)
        for name, value in {"PROGRAM": 0xAB_1234_5678, "PROGRAM_BYTES": 0xFFFF_0040, "WATCHDOG": 0x80_0000_0001}.items():
            await manager.put(name, value)
            assert await manager.get(name) == value
            assert await manager.write(offset(name), 0x77, strobes=7) == SLVERR
            assert await manager.get(name) == value
        assert ctx.get(control.program_address) == 0xAB_1234_5678
        await manager.put("IRQ_ENABLE", 0xFFFFFFFF)
        assert await manager.get("IRQ_ENABLE") == 3

    with_registers(test, seed)


def test_a_run_from_start_to_done():
    length = 57

    async def test(manager, control, ctx):
        ctx.set(control.busy, 0b0101)
        ctx.set(control.waits, 3)
        ctx.set(control.stalls, 2)
        ctx.set(control.read_beat, 1)
        await manager.put("IRQ_ENABLE", 1)
        for _ in range(2):
            await manager.put("CONTROL", START)
            assert await manager.get("STATUS") == BUSY
            assert await manager.write(offset("CONTROL"), START) == SLVERR
            assert await manager.write(offset("ARG3"), 1) == SLVERR
            while not ctx.get(control.done):
                await ctx.tick()
            await ctx.tick().repeat(2)
            assert ctx.get(control.irq)
            assert await manager.get("STATUS") == DONE
            want = {"CYCLES": length, "BUSY_LOAD": length, "BUSY_STORE": 0, "BUSY_MATMUL": length, "BUSY_VECTOR": 0}
            want |= {"MOVING_ROWS": 0, "WAITS": 3 * length, "READ_BYTES": 16 * length, "WRITE_BYTES": 0}
            for name, value in (want | {"BUS_STALLS": 2 * length}).items():
                assert await manager.get(name) == value, name
            assert await manager.get("IRQ_STATUS") == 1
            await manager.put("IRQ_STATUS", 1)
            await ctx.tick()
            assert not ctx.get(control.irq)
            assert await manager.get("IRQ_STATUS") == 0

    registers = Registers()

    async def bench(ctx):
        await test(Manager(ctx, registers, random.Random(1)), registers.control, ctx)

    async def core(ctx):
        """Done in cycle ``length`` of both runs."""
        for _ in range(2):
            await ctx.tick().until(registers.control.start)
            await ctx.tick().repeat(length - 1)
            ctx.set(registers.control.done, 1)
            await ctx.tick()
            ctx.set(registers.control.done, 0)

    simulate(registers, bench, core)


def test_arguments_reach_the_register_file_and_come_back():
    async def test(manager, control, ctx):
        draw = random.Random(2)
        values = {number: draw.randrange(1 << 40) for number in range(1, 16)}
        for number, value in values.items():
            await manager.put(f"ARG{number}", value)
        for number, value in values.items():
            assert await manager.get(f"ARG{number}") == value

    with_registers(test)


def test_an_error_ends_the_run_and_only_a_reset_when_quiet_helps():
    async def test(manager, control, ctx):
        await manager.put("IRQ_ENABLE", 2)
        await manager.put("CONTROL", START_ALL)
        for name, value in {"error_code": 9, "error_engine": 3, "error_pc": 77, "error_info": 0x12345678, "error": 1}.items():
            ctx.set(getattr(control, name), value)
        await ctx.tick().repeat(2)
        assert ctx.get(control.irq)
        assert await manager.get("STATUS") == ERROR | 9 << 8 | 3 << 16
        assert await manager.get("ERROR_PC") == 77
        assert await manager.get("ERROR_INFO") == 0x12345678
        assert await manager.get("IRQ_STATUS") == 2
        cycles = await manager.get("CYCLES")
        assert await manager.write(offset("CONTROL"), START) == SLVERR
        await manager.put("CONTROL", RESET)
        assert await manager.get("STATUS") & (ERROR | RESETTING) == ERROR | RESETTING
        assert ctx.get(control.stop)
        await ctx.tick().repeat(50)
        assert not ctx.get(control.reset)
        ctx.set(control.quiet, 1)
        await ctx.tick()
        assert ctx.get(control.reset)
        ctx.set(control.error, 0)
        await ctx.tick()
        assert not ctx.get(control.reset)
        assert not ctx.get(control.stop)
        assert await manager.get("STATUS") & (BUSY | DONE | ERROR | RESETTING) == 0
        assert await manager.get("CYCLES") == cycles
        await manager.put("CONTROL", START)
        assert await manager.get("STATUS") & BUSY

    with_registers(test)


def test_the_watchdog_barks_when_its_limit_is_reached():
    async def test(manager, control, ctx):
        await manager.put("CONTROL", START)
        await ctx.tick().repeat(300)
        assert not ctx.get(control.watchdog)
        await manager.put("WATCHDOG", 200)
        assert ctx.get(control.watchdog)
        ctx.set(control.error, 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(control.watchdog)
        # The next run has its own time, however long the one before was.
        ctx.set(control.quiet, 1)
        await manager.put("CONTROL", RESET)
        ctx.set(control.error, 0)
        await ctx.tick().repeat(5)
        await manager.put("CONTROL", START)
        for _ in range(100):
            assert not ctx.get(control.watchdog)
            await ctx.tick()

    with_registers(test)


def test_a_counter_is_read_in_one_piece():
    """The high word is kept when the low one is read."""

    async def test(manager, control, ctx):
        ctx.set(control.read_beat, 1)
        await manager.put("CONTROL", START)
        low = (await manager.read(offset("READ_BYTES")))[1]
        await ctx.tick().repeat(20)
        assert (await manager.read(offset("READ_BYTES") + 4))[1] == 0
        assert (await manager.read(offset("READ_BYTES")))[1] > low
        assert COUNTER_BITS < 64
        assert len(COUNTERS) == 10

    with_registers(test)


def test_the_first_error_is_kept():
    faults = Faults(3)

    async def bench(ctx):
        for number, code in ((1, 5), (2, 6)):
            ctx.set(faults.sources[number], {"error": 1, "code": code, "engine": number, "pc": 10 + number, "info": 99})
        assert ctx.get(faults.now)
        await ctx.tick()
        ctx.set(faults.sources[0], {"error": 1, "code": 1})
        assert not ctx.get(faults.now)
        await ctx.tick()
        kept = ctx.get(faults.kept)
        assert (kept["error"], kept["code"], kept["engine"], kept["pc"], kept["info"]) == (1, 5, 1, 11, 99)

    simulate(faults, bench)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_turns_are_fair_and_an_offer_stands(count):
    draw = random.Random(count)
    turn = Turn(count)

    async def bench(ctx):
        served, waiting, offer = [0] * count, [0] * count, None
        requests = 0
        for _ in range(2000):
            for number in range(count):
                requests |= (draw.random() < 0.3) << number
            ready = draw.random() < 0.5
            ctx.set(turn.requests, requests)
            ctx.set(turn.served, ready)
            assert ctx.get(turn.offered) == bool(requests)
            if requests:
                chosen = ctx.get(turn.chosen)
                assert requests >> chosen & 1
                assert offer in (None, chosen)
                offer = chosen
                if ready:
                    offer = None
                    requests &= ~(1 << chosen)
                    served[chosen] += 1
                    waiting[chosen] = 0
                    for number in range(count):
                        waiting[number] += requests >> number & 1
                    assert max(waiting) < count + 1
            await ctx.tick()
        assert max(served) - min(served) < 100

    simulate(turn, bench)


@pytest.mark.parametrize("cores", [2, 3])
def test_the_arbiter_brings_each_burst_to_its_core(cores):
    """Random bursts of all cores on a memory that answers late and in order of the addresses."""
    draw = random.Random(cores)
    arbiter = Arbiter(cores, 16, 8)

    async def bench(ctx):
        reads = [[(draw.randrange(1 << 40), draw.randrange(1, 5)) for _ in range(20)] for _ in range(cores)]
        writes = [[(draw.randrange(1 << 40), draw.randrange(1, 5)) for _ in range(20)] for _ in range(cores)]
        expected_r: list[list[int]] = [[] for _ in range(cores)]  # beats each core has asked for, in order
        to_send: list[list[tuple[int, int]]] = [[] for _ in range(cores)]  # write beats: data, last
        at_port: list[list[int]] = []  # write data due at the port, a list per burst in address order
        queue_r: list[tuple[int, int, int]] = []  # id, data, last
        owed_b: list[int] = []
        got_b = [0] * cores
        for cycle in range(1500):
            port_r, port_w = arbiter.read, arbiter.write
            ready = {n: draw.random() < 0.6 for n in ("ar", "aw", "w")}
            ctx.set(port_r.arready, ready["ar"])
            ctx.set(port_w.awready, ready["aw"])
            ctx.set(port_w.wready, ready["w"])
            for c in range(cores):
                ctx.set(arbiter.reads[c].arvalid, bool(reads[c]))
                if reads[c]:
                    ctx.set(arbiter.reads[c].araddr, reads[c][0][0])
                    ctx.set(arbiter.reads[c].arlen, reads[c][0][1] - 1)
                ctx.set(arbiter.writes[c].awvalid, bool(writes[c]))
                if writes[c]:
                    ctx.set(arbiter.writes[c].awaddr, writes[c][0][0])
                    ctx.set(arbiter.writes[c].awlen, writes[c][0][1] - 1)
                ctx.set(arbiter.writes[c].wvalid, bool(to_send[c]))
                if to_send[c]:
                    ctx.set(arbiter.writes[c].wdata, to_send[c][0][0])
                    ctx.set(arbiter.writes[c].wlast, to_send[c][0][1])
                ctx.set(arbiter.reads[c].rready, draw.random() < 0.7)
                ctx.set(arbiter.writes[c].bready, 1)
            offers_r, offers_b = bool(queue_r) and draw.random() < 0.7, bool(owed_b) and draw.random() < 0.5
            ctx.set(port_r.rvalid, offers_r)
            ctx.set(port_w.bvalid, offers_b)
            if offers_r:
                ctx.set(arbiter.rid, queue_r[0][0])
                ctx.set(port_r.rdata, queue_r[0][1])
                ctx.set(port_r.rlast, queue_r[0][2])
            if offers_b:
                ctx.set(arbiter.bid, owed_b[0])
            # What happens in this cycle
            if ctx.get(port_w.wvalid) and ready["w"]:
                data, last = ctx.get(port_w.wdata), ctx.get(port_w.wlast)
                assert at_port[0].pop(0) == data
                owner = data >> 64
                assert to_send[owner].pop(0) == (data, last)
                if last:
                    assert at_port.pop(0) == []
                    owed_b.append(owner)
            if offers_r:
                takers = [c for c in range(cores) if ctx.get(arbiter.reads[c].rvalid)]
                assert takers == [queue_r[0][0]]
                if ctx.get(port_r.rready):
                    core, data, _ = queue_r.pop(0)
                    assert expected_r[core].pop(0) == data
            if offers_b:
                assert [c for c in range(cores) if ctx.get(arbiter.writes[c].bvalid)] == [owed_b[0]]
                got_b[owed_b.pop(0)] += 1
            granted = [c for c in range(cores) if reads[c] and ctx.get(arbiter.reads[c].arready)]
            if ctx.get(port_r.arvalid) and ready["ar"]:
                core = ctx.get(arbiter.arid)
                assert granted == [core]
                address, beats = reads[core].pop(0)
                assert (ctx.get(port_r.araddr), ctx.get(port_r.arlen) + 1) == (address, beats)
                for beat in range(beats):
                    data = draw.randrange(1 << 128)
                    expected_r[core].append(data)
                    queue_r.append((core, data, beat == beats - 1))
            else:
                assert not granted
            granted = [c for c in range(cores) if writes[c] and ctx.get(arbiter.writes[c].awready)]
            if ctx.get(port_w.awvalid) and ready["aw"]:
                core = ctx.get(arbiter.awid)
                assert granted == [core]
                address, beats = writes[core].pop(0)
                assert (ctx.get(port_w.awaddr), ctx.get(port_w.awlen) + 1) == (address, beats)
                data = [core << 64 | cycle << 8 | beat for beat in range(beats)]
                to_send[core] += [(value, beat == beats - 1) for beat, value in enumerate(data)]
                at_port.append(data)
            else:
                assert not granted
            await ctx.tick()
        assert not any([*reads, *writes, queue_r, at_port])
        assert got_b == [20] * cores

    simulate(arbiter, bench)
