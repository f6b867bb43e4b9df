"""Where do the levels part, for a whole model: bytes that differ, and the cycles of each step on each level.

Steps overlap in time. A cycle is the step's for which the array works in it; where the array rests, the vector unit's; then
that of load, of store; and where nothing works, that of what is done next. So the steps' cycles add up to the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.compiled import ChipPart, Compiled
from presilicon.compiler.ports import Port, taken
from presilicon.compiler.steps import Gather, Lowered
from presilicon.compiler.work import macs, unique_bytes
from presilicon.dram import DramOptions
from presilicon.estimate.program import EstimatedEvent, ProgramEstimate, program_estimate
from presilicon.session import Event, Level, PartRun, Progress, Result, Session, different

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """A step: its cycles by level, utilization of the array while it moves the run on, bytes it must move, what bounds it."""

    name: str
    kind: str
    nodes: tuple[str, ...]
    cycles: Mapping[str, int]
    macs: int
    utilization: float
    bytes: int
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """What came of a model on several levels: bytes that differ between neighbours, cycles, steps, and the runs themselves."""

    mismatches: Mapping[str, int]
    cycles: Mapping[str, int]
    utilization: float | None
    steps: tuple[StepLine, ...]
    results: Mapping[Level, Result] = field(repr=False)

    @property
    def agrees(self) -> bool:
        """Whether every value is equal."""
        return not any(self.mismatches.values())


def check_model(
    compiled: Compiled,
    inputs: Mapping[str, Array],
    *,
    rtl: bool = True,
    options: DramOptions | None = None,
    vcd: Path | None = None,
    progress: Progress | None = None,
) -> ModelCheck:
    """A model with one set of inputs on reference, simulator and (where asked) RTL; ModelError where inputs cannot be taken."""
    levels: list[Level] = ["reference", "simulate", *(["rtl"] if rtl else [])]  # type: ignore[list-item]
    results: dict[Level, Result] = {}
    for level in levels:
        wave = vcd if level == "rtl" else None
        with Session(compiled, level, options=options, events=True, vcd=wave, progress=progress) as session:
            results[level] = session.run(inputs)
    mismatches = {"reference_simulate": different(results["reference"].outputs, results["simulate"].outputs)}
    if rtl:
        mismatches["simulate_rtl"] = different(results["simulate"].outputs, results["rtl"].outputs)
    last = results["rtl" if rtl else "simulate"]
    estimates = _estimates(compiled, inputs, options or DramOptions())
    estimated = round(sum(estimate.cycles for estimate in estimates.values()))
    return ModelCheck(
        mismatches=mismatches,
        cycles={"estimate": estimated} | {level: result.cycles for level, result in results.items() if level != "reference"},
        utilization=last.utilization,
        steps=_lines(compiled, results, estimates),
        results=results,
    )


def _estimates(compiled: Compiled, inputs: Mapping[str, Array], options: DramOptions) -> dict[int, ProgramEstimate]:
    """The estimate of each part on the chip, by its number, with the runtime arguments that the inputs give."""
    found: dict[int, ProgramEstimate] = {}
    for number, part in enumerate(compiled.parts):
        if isinstance(part, ChipPart):
            ports = [port for port in part.inputs if port.argument and port.name in inputs]
            _, arguments = taken(part.lowered, ports, {port.name: inputs[port.name] for port in ports})
            registers = {part.lowered.register(name): value for name, value in arguments.items()}
            beat_cycles = options.num / options.den
            found[number] = program_estimate(
                part.programs, compiled.core, registers, latency=options.latency, beat_cycles=beat_cycles
            )
    return found


def _lines(
    compiled: Compiled, results: Mapping[Level, Result], estimates: Mapping[int, ProgramEstimate]
) -> tuple[StepLine, ...]:
    peak = compiled.core.rows * compiled.core.cols * compiled.core.cores
    found: list[StepLine] = []
    for number, part in enumerate(compiled.parts):
        if not isinstance(part, ChipPart):
            continue
        simulated = results["simulate"].parts[number]
        cycles = {"estimate": step_cycles(part, estimates[number].events), "simulate": step_cycles(part, simulated.events)}
        if "rtl" in results:
            cycles["rtl"] = step_cycles(part, _numbered(simulated, results["rtl"].parts[number]))
        bounds = _bounds(part, simulated.events)
        for at, step in enumerate(part.lowered.steps):
            work = macs(part.lowered, step)
            spent = cycles["simulate"][at]
            found.append(
                StepLine(
                    name=step.name,
                    kind=type(step).__name__,
                    nodes=tuple(part.lowered.origin.get(step.name, ())),
                    cycles={level: each[at] for level, each in cycles.items()},
                    macs=work,
                    utilization=work / (peak * spent) if spent else 0.0,
                    bytes=unique_bytes(part.lowered, step),
                    bound=bounds[at],
                )
            )
    return tuple(found)


def _numbered(simulated: PartRun, hardware: PartRun) -> list[Event]:
    """The RTL's events with the simulator's program counters: the hardware's wrap around the instruction memory."""
    order: dict[tuple[int, str], list[Event]] = {}
    for event in sorted(simulated.events, key=lambda e: e.issue):
        order.setdefault((event.core, event.engine), []).append(event)
    taken: dict[tuple[int, str], int] = {}
    found = []
    for event in sorted(hardware.events, key=lambda e: e.issue):
        key = event.core, event.engine
        at = taken[key] = taken.get(key, -1) + 1
        if at < len(order.get(key, ())):
            found.append(Event(event.core, event.engine, order[key][at].pc, event.issue, event.done))
    return found


def step_cycles(part: ChipPart, events: Sequence[Event] | Sequence[EstimatedEvent]) -> list[int]:
    """Cycles that are each step's, as the module says; with several cores the mean over them."""
    cores = len(part.programs)
    total = np.zeros(len(part.lowered.steps))
    for core in range(cores):
        own = [event for event in events if event.core == core]
        if own:
            total += _owned(part.step_of[core], own, len(total)) / cores
    return [round(n) for n in total]


# Who owns a cycle: later ones take it from earlier ones.
_PRIORITY = ("store", "load", "vector", "matmul")


def _owned(step_of: Sequence[int], events: Sequence[Event | EstimatedEvent], steps: int) -> NDArray[np.float64]:
    """Cycles of each step on one core, from the start of the run to its last ``done``."""
    step = np.array([step_of[e.pc] if 0 <= e.pc < len(step_of) else -1 for e in events])
    start, end = np.array([e.issue for e in events]), np.array([e.done + 1 for e in events])
    borders = np.unique(np.concatenate([[0], start, end]))
    first, last = np.searchsorted(borders, start), np.searchsorted(borders, end)
    owner = np.full(len(borders) - 1, -1)
    for engine in _PRIORITY:
        for number, event in enumerate(events):
            if event.engine == engine and step[number] >= 0:
                owner[first[number] : last[number]] = step[number]
    # What nobody owns is the next one's; at the end, the last one's.
    places = np.where(owner >= 0, np.arange(len(owner)), len(owner))
    following = np.minimum.accumulate(places[::-1])[::-1]
    owner = owner[np.minimum(following, np.flatnonzero(owner >= 0)[-1])]
    return np.bincount(owner, np.diff(borders), steps).astype(np.float64)


def _bounds(part: ChipPart, events: Sequence[Event]) -> list[str]:
    """The engine that is busy longest in each step."""
    busy: list[dict[str, int]] = [{} for _ in part.lowered.steps]
    for event in events:
        steps = part.step_of[event.core]
        step = steps[event.pc] if 0 <= event.pc < len(steps) else -1
        if step >= 0:
            busy[step][event.engine] = busy[step].get(event.engine, 0) + event.done - event.issue + 1
    return [max(one, key=lambda engine: one[engine]) if one else "" for one in busy]


def random_inputs(compiled: Compiled, seed: int = 0) -> dict[str, Array]:
    """Inputs that the model can take: normal floats, indices that its tables have, whole masks, the first positions."""
    rng = np.random.default_rng(seed)
    rows = {name: count for part in compiled.chip_parts for name, count in _tables(part.lowered).items()}
    return {port.name: _drawn(port, rng, rows.get(port.tensor, 2)) for port in compiled.inputs if port.role != "state"}


def _tables(lowered: Lowered) -> dict[str, int]:
    """For each tensor that indexes tables, the rows of the smallest."""
    found: dict[str, int] = {}
    for step in lowered.steps:
        if isinstance(step, Gather):
            array = lowered.constants.get(step.table)
            rows = array.shape[0] if array is not None else lowered.tensors[step.table].rows
            found[step.index] = min(rows, found.get(step.index, rows))
    return found


def _drawn(port: Port, rng: np.random.Generator, rows: int) -> Array:
    shape, dtype = tuple(n or 1 for n in port.shape), np.dtype(port.dtype)
    if port.role == "length":
        return np.ones(shape, dtype)
    if port.role == "position":
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, rows, shape).astype(dtype)
