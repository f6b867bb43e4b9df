"""A lowered model as programs, one a core: the face of the emission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from presilicon.compiler.emission import (
    emit_attention,
    emit_convolution,
    emit_decode,
    emit_gather,
    emit_move,
    emit_pool,
    emit_product,
    emit_reduce,
    emit_rows,
)
from presilicon.compiler.emission.emit_fused import fuse
from presilicon.compiler.emission.memory import Dram, banks, rounded
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.schedule import allocate, emit_core, order
from presilicon.compiler.emission.site import Constants, Site, Strand
from presilicon.compiler.steps import Attention, Convolution, Gather, Lowered, Move, Pool, Product, Reduce, Rows, Step
from presilicon.errors import CheckError
from presilicon.isa import INSTRUCTION_BYTES, UOP_BYTES, Instruction, Program, Region, link
from presilicon.template import Core

# How each kind of step is emitted.
EMISSIONS: Mapping[type, Emission] = {
    Product: emit_product.EMISSION,
    Rows: emit_rows.EMISSION,
    Attention: emit_attention.EMISSION,
    Convolution: emit_convolution.EMISSION,
    Move: emit_move.EMISSION,
    Reduce: emit_reduce.EMISSION,
    Pool: emit_pool.EMISSION,
    Gather: emit_gather.EMISSION,
}
# A second strand pays from so many rows of each on, where the array does so many multiply-adds for one of a lane: its weights
# pass twice, its vector work hides the other's. Found on MiniLM-L6 at 128 tokens on the cores of the library.
STRAND_ROWS, STRAND_MACS = 32, 32
# Up to so many rows the weights of products are what costs.
FEW_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """Programs, one a core; ``step_of``: by core, the step of each instruction (-1: none). Regions are those of programs[0]."""

    programs: tuple[Program, ...]
    step_of: tuple[tuple[int, ...], ...]


def emission_of(step: Step) -> Emission:
    """How a step is emitted; CheckError where its kind cannot be yet."""
    if isinstance(step, Attention) and step.position:
        return emit_decode.EMISSION
    try:
        return EMISSIONS[type(step)]
    except KeyError:
        raise CheckError(f"a {type(step).__name__} cannot be emitted", where=step.name) from None


def emit(lowered: Lowered, core: Core, *, strands: int = 0) -> Emitted:
    """The programs of a model on a core; ``strands`` of rows on each core are interleaved (0: chosen).

    CapacityError where something does not fit, with both numbers.
    """
    emissions = [emission_of(step) for step in lowered.steps]
    few = max((lowered.tensors[step.x].rows for step in lowered.steps if isinstance(step, Product)), default=1) <= FEW_ROWS
    strands = strands or strands_for(lowered, core)
    parts = core.cores * strands
    where = order(lowered, emissions, parts, core.cores)
    dram = Dram()
    addresses = allocate(lowered, where, dram)
    constants = Constants(lowered, dram)
    rows = core.accumulator_rows // strands
    sites, every = [], []
    for number in range(core.cores):
        site = Site(core, lowered, addresses, constants)
        own = [
            Strand(site, number * strands + i, parts, arenas, range(i * rows, (i + 1) * rows), few)
            for i, arenas in enumerate(banks(core, strands, few))
        ]
        sites.append(site)
        every.append(own)
    emissions = fuse([strand for own in every for strand in own], emissions, where.after)
    for site, own in zip(sites, every, strict=True):
        emit_core(site, own, emissions, where)
    programs, steps = [], []
    for number, site in enumerate(sites):
        kernel_address = dram.take(UOP_BYTES * sum(kernel.slots for kernel in site.kernels))
        instructions = site.finish(kernel_address)
        linked = link(instructions, core, dram.end)
        address = dram.take(INSTRUCTION_BYTES * len(linked))
        steps.append(_steps(instructions, linked, site.step_of))
        programs.append((site, linked, address, kernel_address, number))
    size = rounded(dram.end, 64)
    return Emitted(
        programs=tuple(
            Program.build(
                core,
                linked,
                kernels=site.kernels,
                data=dram.segments if number == 0 else (),
                regions=_regions(lowered, addresses) if number == 0 else (),
                address=address,
                kernel_address=kernel_address,
                dram_bytes=size,
            )
            for site, linked, address, kernel_address, number in programs
        ),
        step_of=tuple(steps),
    )


def strands_for(lowered: Lowered, core: Core) -> int:
    """Strands of rows that a core interleaves: 2 where there are rows and room for both and the vector unit is what costs."""
    products = [step for step in lowered.steps if isinstance(step, Product)]
    windows = any(isinstance(step, Convolution) for step in lowered.steps)
    each = max((lowered.tensors[step.x].rows for step in products), default=0) // (2 * core.cores)
    if windows or core.scratchpad_banks < 8 or each < STRAND_ROWS or core.rows * core.chunks < STRAND_MACS:
        return 1
    widest = max(int(lowered.constants[step.weights].shape[0]) for step in products)
    room = core.scratchpad_bytes // 8
    return 2 if widest * min(each, 2 * STRAND_ROWS) <= room else 1


def _regions(lowered: Lowered, addresses: Mapping[str, int]) -> list[Region]:
    """Inputs, outputs and states by name, and tensors that are gathered from."""
    kinds = {name: "scratch" for step in lowered.steps if isinstance(step, Gather) for name in [step.table]}
    kinds |= (
        dict.fromkeys(lowered.outputs, "output")
        | dict.fromkeys(lowered.states, "state")
        | dict.fromkeys(lowered.inputs, "input")
    )
    found = []
    for name, kind in kinds.items():
        if name in lowered.tensors:
            tensor = lowered.tensors[name]
            found.append(Region(name, kind, tensor.dtype, (tensor.rows, tensor.columns), addresses[name]))
    return found


def _steps(instructions: tuple[Instruction, ...], linked: tuple[Instruction, ...], step_of: list[int]) -> tuple[int, ...]:
    """The step of each linked instruction: what the overlays put between is nobody's."""
    known = [*step_of, -1]
    found, at = [], 0
    for one in linked:
        if at < len(instructions) and one is instructions[at]:
            found.append(known[at])
            at += 1
        else:
            found.append(-1)
    assert at == len(instructions)
    return tuple(found)
