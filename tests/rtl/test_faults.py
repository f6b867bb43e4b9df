"""Bits flipped in instructions, micro-operations and arguments: the core stops with an error or finishes, and recovers."""

import random

import numpy as np
import pytest

from presilicon import chip
from presilicon.isa import INSTRUCTION_BYTES
from presilicon.rtl.bench import bench
from presilicon.rtl.engine import ERROR_CODES
from presilicon.rtl.runner import Launch, RtlMachine, RtlRun
from presilicon.template import Core

CORE = Core.of(chip.load("core-4x4"))
FLIPS = 1000
WATCHDOG = 2500  # several times what the program takes
PATIENCE = 1200  # cycles from the watchdog to the end of the last burst, and to what a register read takes


@pytest.fixture(scope="module")
def machine():
    with RtlMachine(CORE, np.zeros(len(bench(CORE).memory), np.uint8)) as made:
        yield made


def start(machine: RtlMachine, memory, arguments) -> RtlRun:
    machine.memory[:] = memory
    program = bench(CORE).program
    launch = Launch(address=program.address, size_bytes=INSTRUCTION_BYTES * len(program.instructions), arguments=arguments)
    return machine.run([launch], watchdog=WATCHDOG, max_cycles=WATCHDOG + PATIENCE)


def test_a_core_never_hangs_on_broken_instructions(machine):
    given = bench(CORE)
    program, arguments = given.program, dict(given.arguments[0])
    draw = random.Random(11)
    sound = start(machine, given.memory, arguments)
    assert sound.fault is None
    right = machine.memory.copy()

    instructions = range(program.address, program.address + INSTRUCTION_BYTES * len(program.instructions))
    kernels = range(program.kernel_address, program.kernel_address + len(program.kernels[0].encode()))
    region = program.region("y")
    result = slice(region.address, region.address + region.bytes)
    ends: dict[str, int] = {}
    for _ in range(FLIPS):
        memory, changed = given.memory.copy(), dict(arguments)
        where = draw.random()
        if where < 0.1:
            number = draw.randrange(1, 16)
            changed[number] = changed.get(number, 0) ^ 1 << draw.randrange(40)
        else:
            at = draw.choice(instructions if where < 0.8 else kernels)
            memory[at] ^= 1 << draw.randrange(8)
        run = start(machine, memory, changed)
        if run.fault is None:
            same = np.array_equal(machine.memory[result], right[result])
            end = "same result" if same else "other result"
        else:
            end = ERROR_CODES[run.fault.code]
            assert run.cycles <= WATCHDOG + 5
            machine.write("CONTROL", 2)
            for _ in range(PATIENCE):
                if not machine.read("STATUS") & 8:
                    break
            assert machine.read("STATUS") == 0
        ends[end] = ends.get(end, 0) + 1
    # After all of it the core works as before.
    again = start(machine, given.memory, arguments)
    assert again.fault is None
    assert again.cycles == sound.cycles
    assert np.array_equal(machine.memory, right)
    assert {"same result", "other result", "illegal opcode", "illegal field", "watchdog"} <= set(ends), ends
