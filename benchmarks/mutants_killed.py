"""At least nine of ten changed operators of the RTL are noticed: ``python -m pytest -s benchmarks/mutants_killed.py``.

A mutant is killed where a run of a corpus program, a random one, a broken or an illegal one differs from what the unchanged
RTL does in a byte of memory, a cycle of an instruction, a register, a counter or a fault, or where it never halts; what is
left meets cocotbext-axi at its ports. The unchanged RTL itself is held against simulator and reference by ``test_levels``, its
faults by ``test_illegal`` and ``test_faults``, its counters by ``test_control``. The core is the smallest whose rows, columns
and lanes differ, and whose stationary tiles take several reads.
"""

import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "rtl"))

import numpy as np
from dma_bench import UNEVEN
from illegal import PROGRAM, illegal, image
from mutants import Mutant, mutated
from test_axi_cocotb import build_ports, run_ports

from levels import STALLED
from presilicon.compiler.corpus import CORPUS, Case, prepare, random_case
from presilicon.dram import DramOptions
from presilicon.errors import PresiliconError
from presilicon.isa import INSTRUCTION_BYTES
from presilicon.rtl.register_map import ARGUMENTS
from presilicon.rtl.runner import Launch, RtlMachine, verilog_of

MUTANTS = int(os.environ.get("PRESILICON_MUTANTS", "150"))
SEED = int(os.environ.get("PRESILICON_MUTANTS_SEED", "2026"))
MEMORY_BYTES = 1 << 20


def _image(case: Case, spoilt: int | None) -> tuple[np.ndarray, Launch]:
    """A case's memory, and its launch; ``spoilt``: the seed of a bit that is flipped in one of its instructions."""
    memory = np.zeros(MEMORY_BYTES, np.uint8)
    image = case.program.memory()
    memory[: image.size] = image
    for region in case.program.regions:
        if region.name in case.inputs:
            data = np.ascontiguousarray(case.inputs[region.name]).reshape(-1).view(np.uint8)
            memory[region.address : region.address + data.size] = data
    size = INSTRUCTION_BYTES * len(case.program.instructions)
    if spoilt is not None:
        bit = int(np.random.default_rng(spoilt).integers(0, 8 * size))
        memory[case.program.address + bit // 8] ^= 1 << bit % 8
    # Registers that a program does not take are given, too, and must be found again.
    given = {number: 0x11_0101_0101 * number for number in range(1, ARGUMENTS + 1)} | dict(case.arguments[0])
    return memory, Launch(address=case.program.address, size_bytes=size, arguments=given)


def _behaviour(machine: RtlMachine, image: np.ndarray, launch: Launch) -> object:
    """All that a run shows; the error's text where it does not end."""
    machine.reset()
    machine.memory[:] = image
    try:
        done = machine.run([launch], max_cycles=60_000, watchdog=50_000, events=True)
    except PresiliconError as error:
        return type(error).__name__
    registers = tuple(machine.read(f"ARG{number}") for number in range(1, ARGUMENTS + 1))
    counters = tuple(sorted(done.counters[0].items()))
    return done.cycles, done.faults, done.events, counters, registers, machine.memory.tobytes()


def _told(mutants: list[Mutant]) -> str:
    return "\n".join(f"{m.number} {m.module}, line {m.line + 1}: {m.before} became {m.after}" for m in mutants)


def test_mutants_are_killed(tmp_path: Path) -> None:
    selector = tmp_path / "mutant"
    sizes = UNEVEN
    verilog, mutants = mutated(verilog_of(sizes), MUTANTS, SEED, selector)
    assert len(mutants) >= 100
    cases = [random_case(sizes, seed) for seed in range(12)]
    cases += [prepare(name, sizes) for name in CORPUS if name != "exchange"]
    stimuli = [_image(case, None) for case in cases]
    stimuli += [_image(cases[seed % 6], seed) for seed in range(60)]
    for one in illegal(sizes):
        memory = np.frombuffer(bytes(image(one, MEMORY_BYTES)), np.uint8)
        stimuli.append((memory, Launch(address=PROGRAM, size_bytes=len(one.data))))
    memories = (DramOptions(), STALLED, DramOptions(back_pressure=40, stall_seed=5))

    def choose(number: int) -> None:
        selector.write_text(f"{number}\n")

    def run(number: int) -> list[object]:
        choose(number)
        opened = [RtlMachine(sizes, np.zeros(MEMORY_BYTES, np.uint8), options, verilog=verilog) for options in memories]
        found = []
        for at, (memory, launch) in enumerate(stimuli):
            found.append(_behaviour(opened[at % len(opened)], memory, launch))
            if number and found[-1] != unchanged[at]:
                break
        for machine in opened:
            machine.close()
        return found

    unchanged: list[object] = []
    unchanged = run(0)
    assert run(0) == unchanged
    survived: list[Mutant] = [mutant for mutant in mutants if run(mutant.number) == unchanged]
    print(f"{len(mutants) - len(survived)} of {len(mutants)} killed by whole runs\n{_told(survived)}", flush=True)

    ports = tmp_path / "ports"
    build_ports(ports, verilog)
    choose(0)
    assert run_ports(ports, uneven=True)

    def passes(mutant: Mutant) -> bool:
        choose(mutant.number)
        try:
            return run_ports(ports, uneven=True)
        except (RuntimeError, SystemExit):  # the simulation broke off, or its tests failed
            return False

    survived = [mutant for mutant in survived if passes(mutant)]
    killed = 1 - len(survived) / len(mutants)
    print(f"{killed:.1%} of {len(mutants)} mutants killed\n{_told(survived)}")
    assert killed >= 0.9, Counter(m.module for m in survived)
