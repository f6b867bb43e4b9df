"""Where do the levels part? A case run through reference, simulator and RTL, compared byte for byte and cycle for cycle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.corpus import Case
from presilicon.dram import DramOptions
from presilicon.isa import INSTRUCTION_BYTES, Program, State
from presilicon.isa.corners import corners
from presilicon.isa.in_order import in_order
from presilicon.session import different
from presilicon.simulate.engines import Event
from presilicon.simulate.machine import Run, run
from presilicon.template import ENGINES, Core

if TYPE_CHECKING:
    from presilicon.rtl.measure_energy import Task
    from presilicon.rtl.runner import RtlMachine, RtlRun

Arrays = Mapping[str, NDArray[np.generic]]
# Cycles beyond what the simulator says after which an RTL run has gone astray.
PATIENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of a case: mismatching bytes between neighbouring levels, cycles by level, and the runs themselves.

    ``rtl`` and its entries are missing where the RTL was not asked for. ``parted`` names the first instruction whose times
    differ between simulator and RTL: (engine, program counter, simulator's issue and done, RTL's), None where none does.
    """

    name: str
    mismatches: Mapping[str, int]
    cycles: Mapping[str, int]
    utilization: float
    simulated: Run
    rtl: RtlRun | None
    parted: tuple[str, int, tuple[int, int], tuple[int, int]] | None

    @property
    def agrees(self) -> bool:
        """Whether every value is equal."""
        return not any(self.mismatches.values())


def put(program: Program, memory: NDArray[np.uint8], inputs: Arrays) -> None:
    """Writes inputs (and states) into their regions."""
    for region in program.regions:
        if region.name in inputs:
            data = np.ascontiguousarray(inputs[region.name]).reshape(-1).view(np.uint8)
            memory[region.address : region.address + data.size] = data


def outputs(program: Program, memory: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Copies of the output regions."""
    return {
        region.name: memory[region.address : region.address + region.bytes]
        .view(np.dtype(region.dtype))
        .reshape(region.shape)
        .copy()
        for region in program.regions
        if region.kind == "output"
    }


def simulate(case: Case, core: Core, options: DramOptions | None = None) -> tuple[Run, dict[str, NDArray[np.generic]]]:
    """A case on the simulator: the run, and what it wrote."""
    memory = case.program.memory()
    put(case.program, memory, case.inputs)
    arguments = case.arguments if len(case.arguments) > 1 else case.arguments[0]
    done = run(case.program, core, arguments=arguments, dram=memory, options=options)
    return done, outputs(case.program, memory)


def on_rtl(
    case: Case,
    machine: RtlMachine,
    *,
    max_cycles: int = 1 << 40,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[RtlRun, dict[str, NDArray[np.generic]]]:
    """A case on the RTL: the run, and what it wrote."""
    from presilicon.rtl.runner import Launch

    program = case.program
    memory = program.memory()
    put(program, memory, case.inputs)
    machine.reset()
    machine.memory[:] = 0
    machine.memory[: memory.size] = memory
    each = case.arguments * machine.core.cores if len(case.arguments) == 1 else case.arguments
    size = INSTRUCTION_BYTES * len(program.instructions)
    launches = [Launch(address=program.address, size_bytes=size, arguments=given) for given in each]
    done = machine.run(launches, max_cycles=max_cycles, events=True, progress=progress)
    return done, outputs(program, machine.memory)


def gate_task(case: Case, core: Core) -> Task:
    """A case as ``rtl.measure_energy.run`` takes it: what the simulator makes of it is what the gates must do."""
    from presilicon.rtl.measure_energy import Task

    # A word of the bus behind what the program uses may be read with its last bytes.
    memory = np.zeros(-(-case.program.dram_bytes // 4096) * 4096, np.uint8)
    image = case.program.memory()
    memory[: image.size] = image
    put(case.program, memory, case.inputs)
    after = memory.copy()
    done = run(case.program, core, arguments=case.arguments[0], dram=after)
    return Task(
        name=case.name,
        program=case.program,
        arguments=case.arguments[0],
        memory=memory,
        after=after,
        cycles=done.cycles,
    )


def compare(
    case: Case,
    core: Core,
    *,
    machine: RtlMachine | None = None,
    options: DramOptions | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Checked:
    """A case through reference and simulator, and through the RTL where a machine is given (with the same options)."""
    simulated, wrote = simulate(case, core, options)
    mismatches = {"reference_simulate": different(case.expected, wrote)}
    cycles = {"simulate": simulated.cycles}
    rtl = parted = None
    if machine is not None:
        rtl, found = on_rtl(case, machine, max_cycles=PATIENCE * simulated.cycles + 100_000, progress=progress)
        mismatches["simulate_rtl"] = different(wrote, found)
        cycles["rtl"] = rtl.cycles
        parted = _parted(simulated, rtl)
    macs = core.rows * core.cols * core.cores
    return Checked(
        name=case.name,
        mismatches=mismatches,
        cycles=cycles,
        utilization=case.macs / (macs * (rtl.cycles if rtl else simulated.cycles)),
        simulated=simulated,
        rtl=rtl,
        parted=parted,
    )


def met(case: Case, core: Core) -> Counter[tuple[str, str]]:
    """How often a case's instructions meet each corner of `isa.corners`, over all cores."""
    found: Counter[tuple[str, str]] = Counter()
    for arguments in case.arguments:
        memory = case.program.memory()
        put(case.program, memory, case.inputs)
        state = State(core, memory, values=False)
        for register, value in arguments.items():
            state.scalars[register] = value
        in_order(state, case.program, lambda executed: found.update(corners(executed)))
    return found


def _parted(simulated: Run, rtl: RtlRun) -> tuple[str, int, tuple[int, int], tuple[int, int]] | None:
    """The first instruction, in order of the simulator's issue, whose issue or done differs on the RTL."""
    for number, events in enumerate(simulated.events):
        hardware: dict[int, list[tuple[int, int, int]]] = {}
        for event in sorted((e for e in rtl.events if e.core == number), key=lambda e: e.issue):
            hardware.setdefault(ENGINES.index(event.engine), []).append((event.pc, event.issue, event.done))
        seen: dict[int, int] = {}
        ordered: list[Event] = sorted(events, key=lambda e: e.issue)
        for one in ordered:
            at = seen.get(one.engine, 0)
            seen[one.engine] = at + 1
            of_engine = hardware.get(one.engine, [])
            _, issue, done = of_engine[at] if at < len(of_engine) else (-1, -1, -1)
            if (issue, done) != (one.issue, one.done):
                return ENGINES[one.engine], one.pc, (one.issue, one.done), (issue, done)
    return None
