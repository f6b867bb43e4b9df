"""Runs inside the simulator (see test_axi_cocotb.py): programs of LOADs and STOREs, an independent memory on the bus."""

from __future__ import annotations

import itertools
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiResp, AxiSlave
from dma_bench import CORES, UNEVEN, load_entries, store_entries

from presilicon import isa
from presilicon.rtl.register_map import IDENTITY, offset

CORE = UNEVEN if os.environ.get("PRESILICON_UNEVEN") else CORES["4x4"]
MEMORY_BYTES = 1 << 18
PROGRAM, DATA, RESULT = 0x1000, 0x4000, 0x20000
DONE, ERROR = 2, 4  # bits of STATUS


def moves(rng: random.Random, count: int) -> list[isa.Instruction]:
    """A scratchpad full of zeros, then LOADs of awkward rows, each followed by a STORE of awkward rows of what it brought."""
    made = [
        isa.load(dram=0, spad=0, run=CORE.scratchpad_bytes, y0=-1, limit=1, signal=("store",)),
        isa.sync(engine="store", wait=("load",)),
    ]
    for _ in range(count):
        n1, n2, run = rng.choice(((5, 3, 37), (9, 1, 3), (2, 2, 700), (1, 1, 9000)))
        left, right = (rng.choice((0, 0, 5, 21)) for _ in range(2)) if run < 9000 else (0, 0)
        shape = {"n1": n1, "n2": n2, "run": run}
        pitch = left + run + right
        made.append(
            isa.load(
                dram=DATA + rng.randrange(8192), spad=rng.randrange(60), **shape, stride1=rng.randrange(-300, 800), stride2=911,
                pitch=pitch, left=left, right=right, fill=rng.randrange(256), limit=rng.choice((0, n1)),
                y0=rng.choice((-1, 0, 1)),
                wait=("store",) if len(made) > 2 else (), signal=("store",),
            )
        )  # fmt: skip
        made.append(
            isa.store(
                dram=RESULT + rng.randrange(8192), spad=rng.randrange(90), **shape, stride1=run + rng.randrange(9),
                stride2=(run + 9) * n1, pitch=pitch, wait=("load",), signal=("load",),
            )
        )  # fmt: skip
    return [*made, isa.sync(engine="load", wait=("store",)), isa.halt()]


def meaning(program: list[isa.Instruction], memory: bytes) -> bytes:
    """The memory behind a program of LOADs and STOREs that wait for each other."""
    dram, spad = bytearray(memory), bytearray(CORE.scratchpad_bytes)
    for instruction in program:
        f = instruction.resolve([0] * 16)
        if instruction.op == "load":
            for e in load_entries(f, ()):
                spad[e.place : e.place + e.bytes] = (
                    dram[e.address : e.address + e.bytes] if e.data else bytes([f["fill"]]) * e.bytes
                )
        elif instruction.op == "store":
            for e in store_entries(f):
                dram[e.address : e.address + e.bytes] = spad[e.place : e.place + e.bytes]
    return bytes(dram)


class Faulty:
    """A memory that a page of addresses is missing from: what raises is answered with SLVERR."""

    def __init__(self, memory: bytearray) -> None:
        self.memory = memory
        self.missing = range(0)

    async def read(self, address: int, length: int) -> bytes:
        if address in self.missing:
            raise ValueError(address)
        return bytes(self.memory[address : address + length])

    async def write(self, address: int, data: bytes) -> None:
        if address in self.missing:
            raise ValueError(address)
        self.memory[address : address + len(data)] = data


class Bench:
    """The chip with a clock, a master on its registers and a memory on its bus."""

    def __init__(self, dut, memory: object, seed: int = 1) -> None:
        self.dut, self.rng = dut, random.Random(seed)
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        bus = AxiBus.from_prefix(dut, "m_axi")
        if isinstance(memory, Faulty):
            self.memory = AxiSlave(bus, dut.clk, dut.rst, target=memory)
        else:
            self.memory = AxiRam(bus, dut.clk, dut.rst, size=MEMORY_BYTES)
            self.memory.write(0, memory)

    def pause(self, percent: int) -> None:
        """Every channel of both ports waits at random."""
        reads, writes = self.memory.read_if, self.memory.write_if
        channels = [reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel]
        channels += [self.registers.read_if.r_channel, self.registers.write_if.aw_channel, self.registers.write_if.b_channel]
        for channel in channels:
            rng = random.Random(self.rng.random())
            channel.set_pause_generator(rng.random() * 100 < percent for _ in itertools.count())

    async def reset(self) -> None:
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    async def write(self, name: str, value: int, words: int = 1) -> None:
        for word in range(words):
            answer = await self.registers.write(
                offset(name) + 4 * word, (value >> 32 * word & 0xFFFFFFFF).to_bytes(4, "little")
            )
            assert answer.resp == AxiResp.OKAY

    async def read(self, name: str) -> int:
        answer = await self.registers.read(offset(name), 4)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def run(self, size_bytes: int) -> int:
        """Start the program, wait for the interrupt, and return STATUS."""
        await self.write("PROGRAM", PROGRAM, 2)
        await self.write("PROGRAM_BYTES", size_bytes)
        await self.write("IRQ_ENABLE", 3)
        await self.write("CONTROL", 1)
        if not self.dut.irq.value:
            await with_timeout(RisingEdge(self.dut.irq), 2, "ms")
        await self.write("IRQ_STATUS", 3)
        return await self.read("STATUS")


def image(program: list[isa.Instruction], seed: int = 5) -> bytearray:
    """A memory full of noise with the program in it."""
    memory = bytearray(random.Random(seed).randbytes(MEMORY_BYTES))
    code = b"".join(instruction.encode() for instruction in program)
    memory[PROGRAM : PROGRAM + len(code)] = code
    return memory


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def registers(dut) -> None:
    """Words of registers, at random times; what is no register, or not a whole word, is refused."""
    bench = Bench(dut, bytes(64))
    bench.pause(30)
    await bench.reset()
    assert await bench.read("ID") == IDENTITY
    digest = await bench.registers.read(offset("DIGEST"), 8)
    assert digest.data[::-1].hex() == CORE.digest()
    await bench.write("PROGRAM", 0x12_3456_7890, 2)
    assert (await bench.registers.read(offset("PROGRAM"), 8)).data == (0x12_3456_7890).to_bytes(8, "little")
    # Only whole words are written: a part of one is refused and changes nothing.
    assert (await bench.registers.write(offset("PROGRAM") + 1, b"\xab")).resp != AxiResp.OKAY
    assert await bench.read("PROGRAM") == 0x3456_7890
    assert (await bench.registers.read(0xFF0, 4)).resp != AxiResp.OKAY
    assert (await bench.registers.write(0xFF0, bytes(4))).resp != AxiResp.OKAY
    assert await bench.read("STATUS") & (DONE | ERROR) == 0


async def run_moves(dut, percent: int, count: int, seed: int) -> None:
    program = moves(random.Random(seed), count)
    memory = image(program)
    bench = Bench(dut, bytes(memory), seed)
    if percent:
        bench.pause(percent)
    await bench.reset()
    status = await bench.run(64 * len(program))
    assert status & (DONE | ERROR) == DONE, hex(status)
    assert bench.memory.read(0, MEMORY_BYTES) == meaning(program, bytes(memory))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def moves_as_fast_as_it_goes(dut) -> None:
    """Unaligned, short and long rows, fill, over pages: byte for byte in an independent memory."""
    await run_moves(dut, 0, 6, 3)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def moves_under_back_pressure(dut) -> None:
    """The same with every channel waiting at random."""
    await run_moves(dut, 40, 6, 4)


async def fail_and_recover(dut, missing: range, code: int, engine: int) -> None:
    """An error response stops the core and is reported; a reset through the register, and the same program runs."""
    program = moves(random.Random(9), 3)
    memory = image(program)
    faulty = Faulty(bytearray(memory))
    faulty.missing = missing
    bench = Bench(dut, faulty)
    bench.pause(20)
    await bench.reset()
    status = await bench.run(64 * len(program))
    assert status & (DONE | ERROR) == ERROR, hex(status)
    assert (status >> 8 & 0xFF, status >> 16 & 7) == (code, engine)
    assert program[await bench.read("ERROR_PC")].op == ("load", "store")[engine]
    await ClockCycles(dut.clk, 400)
    for _ in range(50):
        assert not any(int(getattr(dut, f"m_axi_{name}").value) for name in ("arvalid", "awvalid", "wvalid"))
        await RisingEdge(dut.clk)
    faulty.missing = range(0)
    faulty.memory[:] = memory
    await bench.write("CONTROL", 2)
    while await bench.read("STATUS") & 8:
        pass
    assert await bench.read("STATUS") & (DONE | ERROR) == 0
    status = await bench.run(64 * len(program))
    assert status & (DONE | ERROR) == DONE, hex(status)
    assert faulty.memory == meaning(program, bytes(memory))


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def read_error(dut) -> None:
    await fail_and_recover(dut, range(DATA, DATA + 0x4000), 9, 0)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def write_error(dut) -> None:
    await fail_and_recover(dut, range(RESULT, RESULT + 0x10000), 10, 1)
