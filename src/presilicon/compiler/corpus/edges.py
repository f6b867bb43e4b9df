"""Operands at the edges of fp32 through every micro-operation: ties, cancellation, limits of the formats, special values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.corpus.rows import aligned
from presilicon.compiler.emitter import Emitter
from presilicon.isa import UOP_BYTES, UOPS, Instruction, Program, Region, Uop, halt, kernel, load, place, store, vector
from presilicon.isa.uop import NO_B, RAW, WITH_C
from presilicon.template import Core

ELEMENTS = 512
"""Elements of an operand."""
_BYTES = 4 * ELEMENTS
_TABLES_BYTES = 2048
_FORMATS = ("fp32", "int8", "int32")
_SPECIAL = (0, 0x80000000, 1, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x3F800000)
_FRACTIONS = (0, 1, 2, 3, 0x3FFFFF, 0x400000, 0x400001, 0x555555, 0x7FFFFE, 0x7FFFFF)
# Exponents from far below 1 to beyond int32, twice around 1 and the limits of int8, and at both ends.
_EXPONENTS = (*range(96, 162), *range(124, 137), *range(124, 137), 1, 2, 3, 252, 253, 254)
Words = NDArray[np.uint32]


def edges(rng: np.random.Generator, count: int = ELEMENTS) -> Words:
    """Random fp32 bits at the edges: exponents and fractions where rules change, halves of whole numbers, special values."""
    signs = rng.integers(0, 2, count, dtype=np.uint32) << np.uint32(31)
    exponents = rng.choice(np.array(_EXPONENTS, np.uint32), count) << np.uint32(23)
    fractions = rng.choice(np.array(_FRACTIONS, np.uint32), count)
    free = rng.integers(0, 1 << 23, count, dtype=np.uint32)
    zeros = rng.integers(0, 23, count, dtype=np.uint32)
    kind = rng.random(count)
    fractions = np.where(kind < 0.3, free >> zeros << zeros, np.where(kind < 0.5, free, fractions))
    halves = (rng.integers(-600, 600, count) / 2.0).astype(np.float32).view(np.uint32)
    made = np.where(rng.random(count) < 0.2, halves, signs | exponents | fractions)
    return np.where(rng.random(count) < 0.08, rng.choice(np.array(_SPECIAL, np.uint32), count), made)


def operands(rng: np.random.Generator) -> tuple[Words, Words, Words]:
    """A, b and c: c is often near -(a b), or as much smaller or larger as the adder's shifter reaches."""
    a, b = edges(rng), edges(rng)
    b = np.where(rng.random(ELEMENTS) < 0.3, np.uint32(0x3F800000), b)
    with np.errstate(all="ignore"):
        product = (a.view(np.float32) * b.view(np.float32)).view(np.uint32)
    near = (product ^ np.uint32(0x80000000)) + rng.integers(-3, 4, ELEMENTS).astype(np.uint32)
    apart = rng.integers(-28, 29, ELEMENTS)
    exponent = np.clip((product >> np.uint32(23) & np.uint32(255)).astype(np.int64) + apart, 0, 255).astype(np.uint32)
    shifted = (edges(rng) & np.uint32(0x807FFFFF)) | exponent << np.uint32(23)
    kind = rng.random(ELEMENTS)
    return a, b, np.where(kind < 0.35, near, np.where(kind < 0.75, shifted, edges(rng)))


def _kernel(rng: np.random.Generator, op: str) -> tuple[Uop, ...]:
    """Operands into registers 1 to 3, then the operation on them, written to stream 3."""

    def fetch(stream: int) -> Uop:
        return Uop(op="move", a_kind=2, read_stream=stream, to_en=True, to=stream + 1)

    product = op not in RAW
    last = Uop(
        op=op,
        a_reg=1,
        b_reg=0 if op in NO_B else 2,
        c_reg=3 if op in WITH_C else 0,
        negate_p=product and bool(rng.integers(2)),
        negate_c=op in WITH_C and bool(rng.integers(2)),
        write_en=True,
        write_stream=3,
    )
    fetches = [fetch(stream) for stream in range(3)]
    return kernel((replace(fetches[0], loop_begin=True), *fetches[1:], replace(last, loop_end=True, step=1)))


def edge_program(core: Core, rng: np.random.Generator) -> tuple[Program, NDArray[np.uint8]]:
    """Every operation on ``ELEMENTS`` operands, its results written in every format; and its input ``source``."""
    kernels = place([(op, _kernel(rng, op)) for op in UOPS], core)
    source = np.concatenate([edges(rng, _TABLES_BYTES // 4), *operands(rng)]).view(np.uint8)
    out = aligned(source.size)
    results = len(UOPS) * len(_FORMATS)
    kernel_address = aligned(out + results * _BYTES)
    slots = sum(one.slots for one in kernels)
    banks = [number % core.scratchpad_banks * core.bank_bytes for number in range(4)]
    items: list[Instruction] = [
        load(dram=kernel_address, spad=0, run=UOP_BYTES * slots, target="kernels"),
        load(dram=0, spad=0, run=_TABLES_BYTES, target="tables"),
    ]
    items += [load(dram=_TABLES_BYTES + n * _BYTES, spad=banks[n], run=_BYTES) for n in range(3)]
    wide = 4 * core.lanes
    for number, one in enumerate(kernels):
        for at, form in enumerate(_FORMATS):
            size = 1 if form == "int8" else 4
            strips = 8
            rows = _BYTES // (wide * strips)
            pitch = wide * strips
            items.append(
                vector(
                    kernel=one.start,
                    rows=rows,
                    strips=strips,
                    columns=strips * core.lanes,
                    streams=tuple(banks),
                    pitches=(pitch, pitch, pitch, pitch // 4 * size),
                    formats=("fp32", "fp32", "fp32", form),
                    zero_point=int(rng.integers(-128, 128)),
                )
            )
            items.append(store(dram=out + (number * len(_FORMATS) + at) * _BYTES, spad=banks[3], run=ELEMENTS * size))
    emitter = Emitter(core, kernels)
    for item in items:
        emitter.add(item)
    regions = (
        Region("source", "input", "uint8", (source.size,), 0),
        Region("y", "output", "uint8", (results * _BYTES,), out),
    )
    program = Program.build(
        core,
        emitter.finish(halt()),
        kernels=kernels,
        regions=regions,
        address=aligned(kernel_address + UOP_BYTES * slots),
        kernel_address=kernel_address,
    )
    return program, source
