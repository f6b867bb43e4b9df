"""LOAD and STORE alone in Amaranth's simulator, beside a memory of Python; and their cycles, straight from the template."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from amaranth.sim import Simulator

from presilicon.dram import Dram, DramOptions
from presilicon.rtl.load import Load
from presilicon.rtl.store import Store
from presilicon.template import Core

CORES = {
    "4x4": Core(
        rows=4,
        cols=4,
        lanes=4,
        bus_bytes=16,
        weight_rows_per_cycle=4,
        scratchpad_bytes=1 << 14,
        scratchpad_banks=4,
        accumulator_rows=64,
    ),
    "32x16": Core(
        rows=32,
        cols=16,
        lanes=16,
        bus_bytes=32,
        weight_rows_per_cycle=2,
        scratchpad_bytes=1 << 15,
        scratchpad_banks=4,
        accumulator_rows=64,
    ),
    "16x64": Core(
        rows=16,
        cols=64,
        lanes=32,
        bus_bytes=64,
        weight_rows_per_cycle=1,
        scratchpad_bytes=1 << 16,
        scratchpad_banks=4,
        accumulator_rows=64,
    ),
}
# The smallest core whose rows, columns and lanes differ, with tiles of several reads.
UNEVEN = replace(CORES["4x4"], cols=8, weight_rows_per_cycle=2)
READ_LATENCY = 3
LEAST = {"n1": 1, "n2": 1, "n3": 1}


def filled(opcode: str, **given: int) -> dict[str, int]:
    """All fields of an instruction, the ones not given at their least."""
    from presilicon.isa.layout import LAYOUT

    return {f.name: given.get(f.name, LEAST.get(f.name, 0)) for f in LAYOUT[opcode]}


# The meaning and the time of an instruction, straight from sections 4 and 5 ------------------------------------------------


@dataclass
class Entry:
    """A burst or a fill."""

    data: bool
    place: int
    bytes: int
    address: int = 0
    last: bool = False


def rows(f: dict[str, int]) -> list[tuple[int, int, int]]:
    """(i1, DRAM address without gather, scratchpad address) of each row in order."""
    made, q = [], 0
    for i3 in range(f["n3"]):
        for i2 in range(f["n2"]):
            for i1 in range(f["n1"]):
                address = f["dram"] + i1 * f["stride1"] + i2 * f["stride2"] + i3 * f["stride3"]
                made.append((i1, address % (1 << 40), f["spad"] + q * f["pitch"]))
                q += 1
    return made


def bursts(address: int, place: int, run: int) -> list[Entry]:
    made = []
    while run:
        size = min(run, 4096 - address % 4096)
        made.append(Entry(True, place, size, address))
        address, place, run = address + size, place + size, run - size
    return made


def load_entries(f: dict[str, int], indices: np.ndarray) -> list[Entry]:
    made: list[Entry] = []
    for i1, address, place in rows(f):
        if f["gather"]:
            address = (f["dram"] + int(indices[f["index0"] + i1]) * f["stride1"]) % (1 << 40)
        if f["limit"] and not 0 <= f["y0"] + i1 < f["limit"]:
            made.append(Entry(False, place, f["left"] + f["run"] + f["right"]))
            continue
        if f["left"]:
            made.append(Entry(False, place, f["left"]))
        made += bursts(address, place + f["left"], f["run"])
        if f["right"]:
            made.append(Entry(False, place + f["left"] + f["run"], f["right"]))
    made[-1].last = True
    return made


def store_entries(f: dict[str, int]) -> list[Entry]:
    made: list[Entry] = []
    for _, address, place in rows(f):
        made += bursts(address, place, f["run"])
    made[-1].last = True
    return made


@dataclass
class LoadTime:
    """Cycles of a sequence of LOADs."""

    bus: int
    dram: Dram
    completed: list[int] = field(default_factory=list)
    issued: int = -1

    def run(self, f: dict[str, int], entries: list[Entry], issue: int) -> tuple[int, int]:
        """Cycle in which it is ready again and cycle of done."""
        first = issue + (4 if f["gather"] else 2)
        for entry in entries:
            e = max(first, self.issued + 1, self.completed[-8] + 1 if len(self.completed) >= 8 else 0)
            s = max(e + 1, self.completed[-1] + 1 if self.completed else 0)
            if entry.data:
                base = entry.address - entry.address % self.bus
                beats = -(-(entry.address + entry.bytes - base) // self.bus)
                start, _ = self.dram.serve(e, beats, base)
                c = s - 1
                valid = 0
                for j in range(beats):
                    valid = max(self.dram.beat(start, j), valid + 1)
                    taken = max(valid, c + 1)
                    valid = taken
                    c = taken + (self.bus // 4 - 1 if f["target"] == 1 else 0)
            else:
                c = s + -(-entry.bytes // self.bus) - 1
            self.issued = e
            self.completed.append(c)
        return self.issued + 1, self.completed[-1] + 4


@dataclass
class StoreTime:
    """Cycles of a sequence of STOREs, WREADY always high."""

    bus: int
    dram: Dram
    answered: list[int] = field(default_factory=list)
    after: int = -1

    def run(self, f: dict[str, int], entries: list[Entry], issue: int) -> tuple[int, int]:
        for k, entry in enumerate(entries):
            base = entry.address - entry.address % self.bus
            beats = -(-(entry.address + entry.bytes - base) // self.bus)
            a = max(issue + 2 if k == 0 else 0, self.after, self.answered[-8] + 1 if len(self.answered) >= 8 else 0)
            _, free = self.dram.serve(a + beats + 3, beats, base, write=True)
            self.answered.append(self.dram.response(free))
            self.after = a + beats + 1
        return self.after, self.answered[-1] + 1


# The engines in the simulator ----------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What was seen: cycle of each issue, ready-again and done, errors as (cycle, code, info), AXI quiet at the end."""

    issues: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    errors: list[tuple[int, int, int]] = field(default_factory=list)
    cycles: int = 0
    idle: bool = False
    bursts: int = 0


def _ready(rng: np.random.Generator | None, percent: int) -> bool:
    return rng is None or not rng.random() * 100 < percent


def run_load(
    core: Core,
    program: list[dict[str, int]],
    memory: np.ndarray,
    options: DramOptions,
    *,
    scratchpad: np.ndarray,
    side: dict[tuple[int, int], bytes],
    gaps: list[int] | None = None,
    bad: range = range(0),
    seed: int | None = None,
    limit: int = 20000,
) -> Result:
    """Run LOADs as soon as ready (plus ``gaps``); ``bad``: addresses that answer with an error; ``seed``: back-pressure."""
    dut = Load(core)
    bus = core.bus_bytes
    dram = Dram(options)
    rng = None if seed is None else np.random.default_rng(seed)
    percent = options.back_pressure
    result = Result()

    async def bench(ctx) -> None:
        queue: deque[tuple[int, int, int]] = deque()  # (earliest cycle, address, last)
        todo = deque(program)
        wait = deque(gaps or [0] * len(program))
        hold = None
        offered = None
        stop = False
        drained = 0
        for t in range(limit):
            ctx.set(dut.stop, stop)
            arready = _ready(rng, percent)
            ctx.set(dut.axi.arready, arready)
            if offered is None and queue and queue[0][0] <= t and _ready(rng, percent):
                offered = queue.popleft()
                address = offered[1]
                beat = memory[address : address + bus].tobytes() if address + bus <= len(memory) else bytes(bus)
                ctx.set(dut.axi.rdata, int.from_bytes(beat, "little"))
                ctx.set(dut.axi.rresp, 2 if address in bad or address + bus > len(memory) else 0)
                ctx.set(dut.axi.rlast, offered[2])
            ctx.set(dut.axi.rvalid, offered is not None)
            ready = ctx.get(dut.ready)
            if ready and len(result.ready) < len(result.issues):
                result.ready.append(t)
            start = bool(ready and todo and not stop)
            if start and wait[0]:
                wait[0] -= 1
                start = False
            ctx.set(dut.start, start)
            if start:
                wait.popleft()
                ctx.set(dut.payload, todo.popleft())
                result.issues.append(t)
            if ctx.get(dut.axi.arvalid):
                now = (ctx.get(dut.axi.araddr), ctx.get(dut.axi.arlen))
                assert hold in (None, now), "AR changed before it was taken"
                hold = now
                if arready:
                    address, beats = now[0], now[1] + 1
                    assert address % bus == 0
                    assert address // 4096 == (address + beats * bus - 1) // 4096, "a burst crosses 4 KB"
                    begin, _ = dram.serve(t, beats, address)
                    assert len(queue) + beats <= 8 * 4096 // bus
                    queue.extend((dram.beat(begin, j), address + j * bus, j == beats - 1) for j in range(beats))
                    hold = None
                    result.bursts += 1
            else:
                assert hold is None, "AR was withdrawn"
            if offered is not None and ctx.get(dut.axi.rready):
                offered = None
            if ctx.get(dut.spad_en):
                place, count = ctx.get(dut.spad_address), ctx.get(dut.spad_count)
                data = ctx.get(dut.spad_data).to_bytes(bus, "little")
                scratchpad[place : place + count] = np.frombuffer(data[:count], np.uint8)
            if ctx.get(dut.side_en):
                target, place = ctx.get(dut.side_target), ctx.get(dut.side_address)
                assert (target, place) not in side
                side[target, place] = ctx.get(dut.side_data).to_bytes(bus, "little")[: 4 if target == 1 else bus]
            if ctx.get(dut.done):
                result.done.append(t)
            if ctx.get(dut.error):
                result.errors.append((t, ctx.get(dut.error_code), ctx.get(dut.error_info)))
                stop = True
            result.cycles = t
            result.idle = bool(ctx.get(dut.idle))
            if result.idle and not queue and offered is None and (stop or not todo):
                drained += 1
                if drained > 12:
                    break
            await ctx.tick()
        else:
            raise AssertionError("did not end")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return result


def run_store(
    core: Core,
    program: list[dict[str, int]],
    memory: np.ndarray,
    options: DramOptions,
    *,
    scratchpad: np.ndarray,
    gaps: list[int] | None = None,
    bad: range = range(0),
    seed: int | None = None,
    limit: int = 20000,
) -> Result:
    """Run STOREs as soon as ready (plus ``gaps``)."""
    dut = Store(core)
    bus = core.bus_bytes
    dram = Dram(options)
    rng = None if seed is None else np.random.default_rng(seed)
    percent = options.back_pressure
    result = Result()

    async def bench(ctx) -> None:
        awaiting: deque[list[int]] = deque()  # [address, beats left, first address, beats, bad] of bursts whose W is not over
        answers: deque[tuple[int, int]] = deque()
        reads: deque[int] = deque([0] * READ_LATENCY)
        todo = deque(program)
        wait = deque(gaps or [0] * len(program))
        hold_aw = hold_w = None
        stop = False
        drained = 0
        for t in range(limit):
            ctx.set(dut.stop, stop)
            awready, wready = _ready(rng, percent), _ready(rng, percent)
            ctx.set(dut.axi.awready, awready)
            ctx.set(dut.axi.wready, wready)
            answer = bool(answers and answers[0][0] <= t)
            ctx.set(dut.axi.bvalid, answer)
            ctx.set(dut.axi.bresp, answers[0][1] if answer else 0)
            ctx.set(dut.spad_data, reads.popleft())
            ready = ctx.get(dut.ready)
            if ready and len(result.ready) < len(result.issues):
                result.ready.append(t)
            start = bool(ready and todo and not stop)
            if start and wait[0]:
                wait[0] -= 1
                start = False
            ctx.set(dut.start, start)
            if start:
                wait.popleft()
                ctx.set(dut.payload, todo.popleft())
                result.issues.append(t)
            if ctx.get(dut.axi.wvalid):
                now = (ctx.get(dut.axi.wdata), ctx.get(dut.axi.wstrb), ctx.get(dut.axi.wlast))
                assert hold_w in (None, now), "W changed before it was taken"
                hold_w = now
                if wready:
                    hold_w = None
                    assert awaiting, "W before AW"
                    burst = awaiting[0]
                    data = np.frombuffer(now[0].to_bytes(bus, "little"), np.uint8)
                    strobe = np.array([now[1] >> k & 1 for k in range(bus)], bool)
                    if burst[0] + bus <= len(memory):
                        memory[burst[0] : burst[0] + bus][strobe] = data[strobe]
                    burst[0] += bus
                    burst[1] -= 1
                    assert (burst[1] == 0) == bool(now[2]), "WLAST"
                    if now[2]:
                        _, free = dram.serve(t, burst[3], burst[2], write=True)
                        answers.append((dram.response(free), 2 if burst[2] in bad else 0))
                        awaiting.popleft()
            else:
                assert hold_w is None, "W was withdrawn"
            if ctx.get(dut.axi.awvalid):
                now_aw = (ctx.get(dut.axi.awaddr), ctx.get(dut.axi.awlen))
                assert hold_aw in (None, now_aw), "AW changed before it was taken"
                hold_aw = now_aw
                if awready:
                    hold_aw = None
                    address, beats = now_aw[0], now_aw[1] + 1
                    assert address % bus == 0
                    assert address // 4096 == (address + beats * bus - 1) // 4096, "a burst crosses 4 KB"
                    awaiting.append([address, beats, address, beats])
                    assert len(awaiting) + len(answers) <= 8
                    result.bursts += 1
            else:
                assert hold_aw is None, "AW was withdrawn"
            if answer:
                answers.popleft()
            if ctx.get(dut.spad_en):
                place, count = ctx.get(dut.spad_address), ctx.get(dut.spad_count)
                data = bytes(scratchpad[place : place + count]) + bytes([0xEE]) * (bus - count)
                reads.append(int.from_bytes(data, "little"))
            else:
                reads.append(0)
            if ctx.get(dut.done):
                result.done.append(t)
            if ctx.get(dut.error):
                result.errors.append((t, ctx.get(dut.error_code), ctx.get(dut.error_info)))
                stop = True
            result.cycles = t
            result.idle = bool(ctx.get(dut.idle))
            if result.idle and not awaiting and not answers and (stop or not todo):
                drained += 1
                if drained > 12:
                    break
            await ctx.tick()
        else:
            raise AssertionError("did not end")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return result
