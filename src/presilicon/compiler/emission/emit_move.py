"""Copies between tensors: a load and a store with the same order of elements, in pieces that fit the scratchpad."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.steps import Move
from presilicon.isa import Slot, load, store
from presilicon.isa.footprint import Box

# Counts of a load or store beside the run.
COUNTS = 3
Axis = tuple[int, int, int]
"""Elements along an axis, and their distance in the source and in the result."""


def axes_of(step: Move) -> tuple[Axis, ...]:
    """The axes of a copy, neighbours joined where both sides allow it; one at least."""
    found: list[Axis] = []
    for size, source, out in zip(step.shape, step.strides, step.out_strides, strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == size * source and found[-1][2] == size * out:
            found[-1] = found[-1][0] * size, source, out
        else:
            found.append((size, source, out))
    return tuple(found) or ((1, 1, 1),)


def pieces(axes: tuple[Axis, ...], most: int) -> Iterator[tuple[int, int, tuple[Axis, ...]]]:
    """A copy in pieces of at most ``most`` elements and `COUNTS` counts: where each begins on both sides, and its axes."""
    run = axes[-1][1] == axes[-1][2] == 1
    size, source, out = axes[0]
    inner = prod(axis[0] for axis in axes[1:])
    if len(axes) - run <= COUNTS and size * inner <= most:
        yield 0, 0, axes
        return
    together = max(1, most // inner) if len(axes) - run <= COUNTS else 1
    for first in range(0, size, together):
        count = min(together, size - first)
        part = ((count, source, out), *axes[1:]) if count > 1 or len(axes) == 1 else axes[1:]
        for a, b, rest in pieces(part, most):
            yield first * source + a, first * out + b, rest


class _Emission:
    """A copy under way."""

    def __init__(self, strand: Strand, step: Move) -> None:
        self.strand, self.site, self.step = strand, strand.site, step
        self.size = self.site.matrix(step.source)[2]

    def run(self) -> Iterator[None]:
        results = self.strand.results
        room = (results.size // 2 - results.align) // self.size
        for source, out, axes in pieces(axes_of(self.step), room):
            at = results.take(prod(axis[0] for axis in axes) * self.size, "a part of a copy")
            self.move(source, out, axes, at)
            results.free(at)
            yield

    def move(self, source: int, out: int, axes: tuple[Axis, ...], at: int) -> None:
        """One piece, through the scratchpad at an address."""
        step, size = self.step, self.size
        run = axes[-1][0] if axes[-1][1] == axes[-1][2] == 1 else 1
        counts = axes[:-1] if run > 1 or axes[-1][0] == 1 else axes
        fields: dict[str, Any] = {"run": run * size, "pitch": run * size} | {
            f"n{i}": a[0] for i, a in enumerate(reversed(counts), 1)
        }
        dram, box = self.address(step.source, step.start + source, step.source_row, step.source_pitch)
        strides: dict[str, Any] = {f"stride{i}": axis[1] * size for i, axis in enumerate(reversed(counts), 1)}
        self.site.add(load(dram=dram, spad=at, **fields, **strides), box)
        dram, box = self.address(step.out, step.out_start + out, step.out_row, step.out_pitch)
        strides = {f"stride{i}": axis[2] * size for i, axis in enumerate(reversed(counts), 1)}
        self.site.add(store(dram=dram, spad=at, **fields, **strides), box)

    def address(self, name: str, start: int, row: str, pitch: int) -> tuple[int | Slot, Box | None]:
        """Where an element lies, and where the copy may touch DRAM if only the run knows."""
        first = self.site.address(name) + start * self.size
        if not row:
            return first, None
        rows, columns, size = self.site.matrix(name)
        return self.site.scaled(row, pitch * size, first), Box("dram", self.site.address(name), rows * columns * size)


def emit_move(strand: Strand, step: Move) -> Iterator[None]:
    """The instructions of a copy."""
    yield from _Emission(strand, step).run()


EMISSION = Emission(emit=emit_move, split=False)
