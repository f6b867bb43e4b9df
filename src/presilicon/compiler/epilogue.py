"""The vector program of a product or convolution: parameters, streams and outputs of some rows and blocks of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from presilicon.compiler.kernel_operations import COLUMNS
from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.memory import Arena
from presilicon.compiler.parameters import Parameters, dtypes, element_bytes
from presilicon.compiler.site import Strand
from presilicon.compiler.steps import Binding, Convolution, Product
from presilicon.errors import CapacityError

Products = Callable[[int, int, int], None]
"""Adds the matmuls of a block of columns: its number, the accumulator bank, the first accumulator row."""


def rows_at_most(strand: Strand, step: Product | Convolution) -> int:
    """Rows of one block of columns for which there is room; CapacityError, with both numbers, where there is none for one."""
    core, site = strand.core, strand.site
    out, streams = element_bytes(site, step.outputs), element_bytes(site, step.streams)
    rows = len(strand.accumulator_rows)
    for arena, size in ((strand.results, 2 * core.cols * out), (strand.operands, 4 * core.cols * streams)):
        if size and arena.size < size:
            raise CapacityError(
                f"a row of results of {size} bytes does not fit into the {arena.size} bytes of the scratchpad for {arena.name}",
                where=step.name,
                hint="a core with a larger scratchpad",
            )
        rows = min(rows, arena.size // size) if size else rows
    return rows


def blocks_at_most(strand: Strand, step: Product | Convolution, columns: int, rows: int) -> int:
    """Blocks of columns that are worked on together with so many rows, as even as whole blocks allow."""
    core, site = strand.core, strand.site
    blocks = ceil(columns / core.cols)
    out, streams = element_bytes(site, step.outputs), element_bytes(site, step.streams)
    most = [blocks, len(strand.accumulator_rows) // rows]
    for arena, size in (
        (strand.results, 2 * rows * core.cols * out),
        (strand.operands, 4 * rows * core.cols * streams),
        (strand.operands, 4 * Parameters.of(step, columns).block_bytes(core)),
    ):
        most += [arena.size // size] if size else []
    return ceil(blocks / ceil(blocks / max(1, min(most))))


@dataclass(slots=True)
class _Group:
    """Rows and blocks of columns under way: their bank, where their streams and parameters lie, what is to be given back."""

    rows: range
    blocks: range
    bank: int
    parameters: int = 0
    at: dict[str, tuple[int, int]] = field(default_factory=dict)
    taken: list[tuple[Arena, int]] = field(default_factory=list)

    def take(self, arena: Arena, size: int, what: str) -> int:
        """A buffer that is given back at the end."""
        place = arena.take(size, what)
        self.taken.append((arena, place))
        return place


class Epilogue:
    """The vector program of one step on one strand."""

    def __init__(self, strand: Strand, step: Product | Convolution, columns: int) -> None:
        self.strand, self.site, self.core, self.step, self.columns = strand, strand.site, strand.core, step, columns
        self.parameters = Parameters.of(step, columns)
        self.before: _Group | None = None
        self.kernel: CompiledKernel = self.site.compiled(
            step.program, "product", dtypes=dtypes(self.site, step.streams), block_strips=self.core.chunks
        )

    def group(self, rows: range, group: range, products: Products) -> None:
        """Some rows of the outputs and blocks of columns: parameters, streams, products; then the program of the group before.

        So the array has its next products when the vector unit takes up the sums of the last ones.
        """
        site, core, strand = self.site, self.core, self.strand
        column, first = group.start * core.cols, strand.accumulator_rows.start
        width, padded = min(len(group) * core.cols, self.columns - column), len(group) * core.cols
        now = _Group(rows, group, strand.next_bank())
        size = self.parameters.block_bytes(core)
        if size:
            now.parameters = now.take(strand.operands, len(group) * size, "column parameters")
            self.parameters.load(site, self.step.name, now.parameters, group.start, len(group))
        for b in self.step.streams:
            pitch = padded * self.element(b)
            arena = strand.results if self.merged(b.name) else strand.operands
            now.at[b.name] = now.take(arena, len(rows) * pitch, f"stream {b.name}"), pitch
            site.fetch(b.tensor, now.at[b.name][0], rows, b.column + column, width, pitch=pitch, row=b.row)
        for number, block in enumerate(group):
            products(block, now.bank, first + number * len(rows))
        before, self.before = self.before, now
        if before is not None:
            self.finish(before)

    def flush(self) -> None:
        """The program of the last group."""
        before, self.before = self.before, None
        if before is not None:
            self.finish(before)

    def finish(self, now: _Group) -> None:
        """The program on a group's sums, and its stores."""
        site, step, core, strand = self.site, self.step, self.core, self.strand
        column, first, rows, at = now.blocks.start * core.cols, strand.accumulator_rows.start, now.rows, now.at
        width, padded = min(len(now.blocks) * core.cols, self.columns - column), len(now.blocks) * core.cols
        size = self.parameters.block_bytes(core)
        kernel = site.kernel(self.kernel.uops)
        site.tables(step.program.tables)
        for b in step.outputs:
            pitch, shared = padded * self.element(b), self.merged(b.name)
            at[b.name] = at[shared] if shared else (now.take(strand.results, len(rows) * pitch, f"output {b.name}"), pitch)
        for number, block in enumerate(now.blocks):
            ahead = number * core.cols
            places = {b.name: (at[b.name][0] + ahead * self.element(b), at[b.name][1]) for b in (*step.streams, *step.outputs)}
            if size:
                start = now.parameters + number * size
                places[COLUMNS] = (start, 0)
                places |= {name: (start + 4 * core.cols * i, 0) for i, name in enumerate(self.parameters.names)}
            site.add(
                self.kernel.instruction(
                    places,
                    start=kernel,
                    rows=len(rows),
                    strips=core.chunks,
                    columns=min(core.cols, self.columns - block * core.cols),
                    bank=now.bank,
                    acc=first + number * len(rows),
                )
            )
        for b in step.outputs:
            site.put(b.tensor, at[b.name][0], rows, b.column + column, width, pitch=at[b.name][1], row=b.row)
        for arena, place in now.taken:
            arena.free(place)

    def merged(self, name: str) -> str:
        """The input whose place an output takes, or the output that takes an input's; empty where none."""
        for names in self.kernel.streams:
            if len(names) > 1 and name in names:
                return names[1] if name == names[0] else names[0]
        return ""

    def element(self, b: Binding) -> int:
        """Bytes of an element of a stream or output."""
        return self.site.matrix(b.tensor)[2]
