"""The whole core: every error with its code, engine and place; reset, interrupt, counters, and the bench's program."""

from dataclasses import replace

import numpy as np
import pytest

from presilicon import chip
from presilicon.dram import DramOptions
from presilicon.isa import (
    INSTRUCTION_BYTES,
    Instruction,
    Kernel,
    Program,
    halt,
    kernel_text,
    load,
    matmul,
    reg,
    set_,
    store,
    sync,
    vector,
)  # fmt: skip
from presilicon.rtl.bench import bench
from presilicon.rtl.register_map import COUNTERS
from presilicon.rtl.runner import Launch, RtlFault, RtlMachine, RtlRun
from presilicon.simulate.machine import run as simulate
from presilicon.template import ENGINES, Core

CORE = Core.of(chip.load("core-4x4"))
BAD = range(0x8000, 0x9000)  # addresses of DRAM that answer with an error
BANK = CORE.bank_bytes
SIZE = 1 << 16
RESET, ERROR, RESETTING = 2, 4, 8
KERNEL_AT = 0x2000
KERNEL = Kernel("copy", 0, kernel_text("stream0 = acc * imm(1)"))


@pytest.fixture(scope="module")
def machine():
    with RtlMachine(CORE, np.zeros(SIZE, np.uint8), bad=BAD) as made:
        yield made


def launch(machine: RtlMachine, program: Program, arguments=(), memory=None, **options) -> RtlRun:
    machine.reset()
    image = program.memory(SIZE) if memory is None else memory
    machine.memory[:] = 0
    machine.memory[: len(image)] = image
    size = INSTRUCTION_BYTES * len(program.instructions)
    return machine.run([Launch(address=program.address, size_bytes=size, arguments=dict(arguments))], **options)


def works(machine: RtlMachine) -> None:
    """The bench's program gives what the simulator says, in as many cycles."""
    given = bench(CORE)
    after = given.memory.copy()
    wanted = simulate(given.program, CORE, arguments=given.arguments, dram=after)
    found = launch(machine, given.program, given.arguments[0], given.memory, max_cycles=10_000)
    assert found.fault is None
    assert found.cycles == wanted.cycles
    assert np.array_equal(machine.memory[: len(after)], after)
    counters = found.counters[0]
    assert counters["CYCLES"] == wanted.cycles
    assert counters["READ_BYTES"] == wanted.dram_read_bytes
    assert counters["WRITE_BYTES"] == wanted.dram_written_bytes
    assert counters["MOVING_ROWS"] == 12 * 3
    assert counters["BUS_STALLS"] == 0
    assert counters["WAITS"] > 0
    assert set(counters) == {name for name, _ in COUNTERS}
    for number, name in enumerate(ENGINES[:4]):
        spans = [(e.issue, e.done) for e in wanted.events[0] if e.engine == number]
        busy = {cycle for issue, done in spans for cycle in range(issue + 1, done + 1)}
        assert counters[f"BUSY_{name.upper()}"] == len(busy), name


def recover(machine: RtlMachine) -> None:
    """Reset by the register, and work again."""
    machine.write("CONTROL", RESET)
    for _ in range(100):
        if not machine.read("STATUS") & RESETTING:
            break
    assert machine.read("STATUS") == 0
    works(machine)


def zero(name: str) -> Instruction:
    """An instruction that is refused because register r1, added to one of its fields, is 0."""
    one = reg("r1")
    return {
        "load": load(dram=0, spad=0, n1=one, run=16),
        "store": store(dram=0, spad=0, n2=one, run=16),
        "matmul": matmul(x=0, w=BANK, m0=1, kb=one, tail=4, x_stride0=4),
        "vector": vector(kernel=0, rows=one, strips=1, columns=4),
    }[name]


KERNELS = load(dram=KERNEL_AT, spad=0, run=64, target="kernels", signal=("vector",))
GOES = {"kernel": 0, "rows": 1, "strips": 1, "columns": 4, "pitches": (16,), "formats": ("fp32",), "wait": ("load",)}
PRODUCT = {"w": BANK, "m0": 1, "tail": 4, "x_stride0": 4}
WRONG: dict[str, tuple[list[Instruction], RtlFault]] = {
    **{f"law of {name}": ([halt(), zero(name)], RtlFault(2, name, 1, -1)) for name in ENGINES[:4]},
    "load beyond the scratchpad": (
        [load(dram=0, spad=CORE.scratchpad_bytes - 16, run=32)], RtlFault(3, "load", 0, 4 << 28 | CORE.scratchpad_bytes),
    ),
    "store beyond the scratchpad": ([store(dram=0x4000, spad=(1 << 24) - 16, run=16)], RtlFault(3, "store", 0, -1)),
    "matmul beyond the scratchpad": ([matmul(x=CORE.scratchpad_bytes, **PRODUCT)], RtlFault(3, "matmul", 0, -1)),
    "vector beyond the scratchpad": (
        [KERNELS, vector(streams=(CORE.scratchpad_bytes - 8,), **GOES)], RtlFault(3, "vector", 1, -1),
    ),
    "matmul beyond the accumulators": (
        [matmul(x=0, acc=CORE.accumulator_rows, **PRODUCT)], RtlFault(4, "matmul", 0, CORE.accumulator_rows),
    ),
    "vector beyond the accumulators": (
        [KERNELS, vector(streams=(0,), acc=CORE.accumulator_rows + 3, **GOES)], RtlFault(4, "vector", 1, -1),
    ),
    "matmul reads one bank twice": (
        [matmul(x=0, kb=4, **(PRODUCT | {"w": 64, "m0": 9}))], RtlFault(5, "matmul", 0, -1),
    ),
    "a semaphore overflows": (
        [*[sync("load", signal=("store",))] * 64], RtlFault(7, "load", -1, ENGINES.index("load") << 3 | ENGINES.index("store")),
    ),
    "bus error of a read": ([load(dram=BAD.start - 64, spad=0, run=4096)], RtlFault(9, "load", 0, -1)),
    "bus error of a write": ([store(dram=BAD.start, spad=0, run=48)], RtlFault(10, "store", 0, -1)),
    "the watchdog": ([sync("load", wait=("vector",)), halt()], RtlFault(11, "sequencer", 1, 0)),
    "a kernel without end": (
        [vector(streams=(0,), **(GOES | {"kernel": CORE.kernel_slots - 1, "wait": ()}))], RtlFault(12, "vector", 0, -1),
    ),
    "instructions off the bus": ([load(dram=8, spad=reg("r2"), run=16, target="instructions")], RtlFault(13, "load", 0, -1)),
    "an index that is not there": (
        [load(dram=0, spad=0, n1=4, run=16, gather=1, index0=CORE.index_slots - 2)], RtlFault(14, "load", 0, -1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_error_stops_the_core_and_says_where_and_a_reset_helps(machine, name):
    instructions, wanted = WRONG[name]
    if wanted.pc == 1 and instructions[0] == halt():  # the first is only there to take its place
        instructions = [set_("r3"), *instructions[1:]]
    program = Program.build(CORE, [*instructions, halt()], kernels=[KERNEL], kernel_address=KERNEL_AT)
    found = launch(machine, program, watchdog=3000, max_cycles=5000)
    assert found.fault is not None
    told = replace(found.fault, **{key: -1 for key in ("pc", "info") if getattr(wanted, key) == -1})
    assert told == wanted
    assert machine.read("STATUS") & 7 == ERROR
    recover(machine)


def test_a_reset_in_the_middle_of_a_run_waits_for_the_bursts(machine):
    """Pulled at every stage of the bench's program, without an error; the core works afterwards."""
    given = bench(CORE)
    for cycles in range(3, 300, 23):
        with pytest.raises(Exception, match="did not halt"):
            launch(machine, given.program, given.arguments[0], given.memory, max_cycles=cycles)
        recover(machine)


@pytest.mark.parametrize(
    "options",
    [
        DramOptions(stall_seed=5, stall_max=30, stall_percent=40),
        DramOptions(latency=100, num=3, den=2, refresh_interval=300, refresh_cycles=40),
        DramOptions(row_bytes=256, banks=2, row_miss=20),
    ],
)
def test_cycles_are_the_simulators_whatever_the_memory(options):
    given = bench(CORE)
    after = given.memory.copy()
    wanted = simulate(given.program, CORE, arguments=given.arguments, dram=after, options=options)
    with RtlMachine(CORE, given.memory.copy(), options) as machine:
        size = INSTRUCTION_BYTES * len(given.program.instructions)
        found = machine.run([Launch(address=0, size_bytes=size, arguments=given.arguments[0])], max_cycles=20_000)
        assert found.cycles == wanted.cycles
        assert np.array_equal(machine.memory, after)


def test_values_hold_where_the_bus_stalls_each_beat():
    given = bench(CORE)
    after = given.memory.copy()
    simulate(given.program, CORE, arguments=given.arguments, dram=after)
    with RtlMachine(CORE, given.memory.copy(), DramOptions(back_pressure=50, stall_seed=3)) as machine:
        size = INSTRUCTION_BYTES * len(given.program.instructions)
        found = machine.run([Launch(address=0, size_bytes=size, arguments=given.arguments[0])], max_cycles=20_000)
        assert found.fault is None
        assert found.counters[0]["BUS_STALLS"] > 0
        assert np.array_equal(machine.memory, after)
