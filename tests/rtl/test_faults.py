"""Bits flipped in instructions, micro-operations and arguments: the core stops with an error or finishes, and recovers."""

import random

import numpy as np
import pytest

from presilicon import chip
from presilicon.check import put
from presilicon.compiler.corpus import prepare
from presilicon.isa import INSTRUCTION_BYTES, UOP_BYTES
from presilicon.rtl.engine import ERROR_CODES
from presilicon.rtl.runner import Launch, RtlMachine, RtlRun
from presilicon.template import Core

CORE = Core.of(chip.load("core-4x4"))
CASES = ("gather", "padded", "gemm-int4-16x16x16", "layer-norm-9x37", "attention-7-of-40")
FLIPS = 210  # in each case
PATIENCE = 5000  # cycles in which the bursts of a core that was stopped end: 8 of up to 256 beats each way
RESET, RESETTING = 2, 8


@pytest.fixture(scope="module")
def machine():
    with RtlMachine(CORE, np.zeros(1 << 20, np.uint8)) as made:
        yield made


def reset(machine: RtlMachine) -> None:
    machine.write("CONTROL", RESET)
    for _ in range(PATIENCE):
        if not machine.read("STATUS") & RESETTING:
            break
    assert machine.read("STATUS") == 0


@pytest.mark.parametrize("name", CASES)
def test_a_core_never_hangs_on_broken_instructions(machine, name):
    draw = random.Random(name)
    case = prepare(name, CORE)
    program, arguments = case.program, dict(case.arguments[0])
    memory = program.memory()
    put(program, memory, case.inputs)

    def start(memory, arguments, watchdog: int) -> RtlRun:
        machine.memory[:] = 0
        machine.memory[: len(memory)] = memory
        size = INSTRUCTION_BYTES * len(program.instructions)
        launch = Launch(address=program.address, size_bytes=size, arguments=arguments)
        return machine.run([launch], watchdog=watchdog, max_cycles=watchdog + PATIENCE)

    machine.reset()
    sound = start(memory, arguments, 100_000)
    assert sound.fault is None
    right = machine.memory.copy()
    watchdog = 2 * sound.cycles + 500

    flips = [*range(program.address, program.address + INSTRUCTION_BYTES * len(program.instructions))]
    for kernel in program.kernels:
        first = program.kernel_at(kernel.name)
        flips += range(first, first + UOP_BYTES * len(kernel.uops))
    outputs = [slice(r.address, r.address + r.bytes) for r in program.regions if r.kind == "output"]
    ends: dict[str, int] = {}
    for _ in range(FLIPS):
        broken, changed = memory.copy(), dict(arguments)
        if draw.random() < 0.1:
            number = draw.randrange(1, 16)
            changed[number] = changed.get(number, 0) ^ 1 << draw.randrange(40)
        else:
            broken[draw.choice(flips)] ^= 1 << draw.randrange(8)
        run = start(broken, changed, watchdog)
        if run.fault is None:
            same = all(np.array_equal(machine.memory[at], right[at]) for at in outputs)
            end = "same result" if same else "other result"
        else:
            end = ERROR_CODES[run.fault.code]
            assert run.cycles <= watchdog + 5
            reset(machine)
        ends[end] = ends.get(end, 0) + 1
    # After all of it the core works as before.
    again = start(memory, arguments, watchdog)
    assert again.fault is None
    assert again.cycles == sound.cycles
    assert np.array_equal(machine.memory, right)
    assert {"other result", "illegal opcode", "watchdog"} <= set(ends), ends
