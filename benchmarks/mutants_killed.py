"""At least nine of ten changed operators of the RTL are noticed: ``python -m pytest -s benchmarks/mutants_killed.py``.

A mutant is killed where a run of a corpus program, a random one or a broken one differs from what the unchanged RTL does in a
byte of memory, a cycle of an instruction, a counter or a fault, or where it never halts. The unchanged RTL itself is held
against simulator and reference by ``test_levels``, faults and counters by ``test_faults`` and ``test_control``.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from mutants import Mutant, mutated

from presilicon.compiler.corpus import CORPUS, Case, prepare, random_case
from presilicon.dram import DramOptions
from presilicon.errors import PresiliconError
from presilicon.isa import INSTRUCTION_BYTES
from presilicon.rtl.runner import Launch, RtlMachine, verilog_of

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from levels import STALLED, core

MUTANTS = 120
CORE = "core-4x4"
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
    return memory, Launch(address=case.program.address, size_bytes=size, arguments=case.arguments[0])


def _behaviour(machine: RtlMachine, image: np.ndarray, launch: Launch) -> object:
    """All that a run shows; the error's text where it does not end."""
    machine.reset()
    machine.memory[:] = image
    try:
        done = machine.run([launch], max_cycles=40_000, watchdog=30_000, events=True)
    except PresiliconError as error:
        return type(error).__name__
    return done.cycles, done.faults, done.events, tuple(sorted(done.counters[0].items())), machine.memory.tobytes()


def test_mutants_are_killed(tmp_path: Path) -> None:
    selector = tmp_path / "mutant"
    sizes = core(CORE)
    verilog, mutants = mutated(verilog_of(sizes), MUTANTS, 2026, selector)
    assert len(mutants) >= 100
    cases = [random_case(sizes, seed) for seed in range(6)]
    cases += [prepare(name, sizes) for name in CORPUS if name != "exchange"]
    stimuli = [_image(case, None) for case in cases]
    stimuli += [_image(cases[seed % 6], seed) for seed in range(40)]
    memories = (DramOptions(), STALLED, DramOptions(back_pressure=40, stall_seed=5))

    def machines(number: int) -> list[RtlMachine]:
        selector.write_text(f"{number}\n")
        return [RtlMachine(sizes, np.zeros(MEMORY_BYTES, np.uint8), options, verilog=verilog) for options in memories]

    def run(number: int) -> list[object]:
        opened = machines(number)
        found = []
        for at, (image, launch) in enumerate(stimuli):
            found.append(_behaviour(opened[at % len(opened)], image, launch))
            if number and found[-1] != unchanged[at]:
                break
        for machine in opened:
            machine.close()
        return found

    unchanged: list[object] = []
    unchanged = run(0)
    assert run(0) == unchanged
    survived: list[Mutant] = [mutant for mutant in mutants if run(mutant.number) == unchanged]
    killed = 1 - len(survived) / len(mutants)
    told = "\n".join(f"{m.module}: {m.before} became {m.after}" for m in survived)
    print(f"{killed:.1%} of {len(mutants)} mutants killed\n{told}")
    assert killed >= 0.9, f"{Counter(m.module for m in survived)}\n{told}"
