"""Vector programs on whole rows: some rows at a time through the scratchpad, loads and stores beside the vector unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from presilicon.compiler.emission import Emission
from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.memory import Arena
from presilicon.compiler.parameters import dtypes
from presilicon.compiler.site import Strand
from presilicon.compiler.steps import Binding, Rows
from presilicon.compiler.vectors import Loop
from presilicon.errors import CapacityError, CheckError
from presilicon.isa import reg
from presilicon.template import GROUP

# Panels that a strand's rows are cut into at least: the first is stored while the next is worked on.
PANELS = 4


def shape_of(strand: Strand, step: Rows) -> tuple[int, int]:
    """Rows and columns of a step's matrix: those of its first stream that is no cache's, cut to what the outputs have."""
    tensors, program = strand.lowered.tensors, step.program
    written = [b for b in step.outputs if not program.output(b.name).scalar]
    for b in step.streams:
        if b.tensor in tensors and not b.row:
            columns = min([tensors[b.tensor].columns - b.column, *(tensors[o.tensor].columns - o.column for o in written)])
            return tensors[b.tensor].rows, columns
    raise CheckError("no stream says how many rows there are", where=step.name)


class _Emission:
    """One strand's rows of a step under way."""

    def __init__(self, strand: Strand, step: Rows) -> None:
        self.strand, self.site, self.core, self.step = strand, strand.site, strand.core, step
        total, self.columns = shape_of(strand, step)
        self.rows = strand.rows(total)
        lanes = self.core.lanes
        self.loops_only = len(step.program.phases) == 1 and isinstance(first := step.program.phases[0], Loop)
        self.loops_only = self.loops_only and not (first.sums or first.maxima)  # type: ignore[union-attr]
        few = len(self.rows) < GROUP and self.columns >= 2 * GROUP * lanes
        self.kernel: CompiledKernel = self.site.compiled(
            step.program,
            ("rows", self.loops_only and few),
            dtypes=dtypes(self.site, step.streams),
            by_strips=self.loops_only and few,
        )
        self.merged = {names[0]: names[1] for names in self.kernel.streams if len(names) > 1}
        self.parts = self._parts()

    def _parts(self) -> tuple[int, int]:
        """Rows and columns that are worked on at a time: all columns, or where each is for itself as many as fit."""
        strand, lanes = self.strand, self.core.lanes
        wide = ceil(self.columns / lanes) * lanes
        columns = wide
        while True:
            held = 4 * columns * len(self.step.columns)
            ins = sum(columns * self.size(b) for b in self.step.streams if b.name not in self.merged.values())
            outs = sum(self.out_bytes(b, columns) for b in self.step.outputs)
            rows = len(self.rows)
            if ins:
                rows = min(rows, (strand.operands.size - held) // ins)
            if outs:
                rows = min(rows, strand.results.size // outs)
            if rows >= 1 and held <= strand.operands.size:
                break
            if not self.loops_only or columns <= lanes:
                raise CapacityError(
                    f"a row of {self.columns} columns takes {held + ins} bytes of operands and {outs} of results, and there"
                    f" are {strand.operands.size} and {strand.results.size}",
                    where=self.step.name,
                    hint="a core with a larger scratchpad",
                )
            columns = ceil(columns / (2 * lanes)) * lanes
        most = max(1, rows // 2)
        few = ceil(len(self.rows) / PANELS / GROUP) * GROUP
        return min(most, few) if most >= GROUP else most, columns

    def size(self, b: Binding) -> int:
        return self.site.matrix(b.tensor)[2]

    def out_bytes(self, b: Binding, columns: int) -> int:
        """Bytes of a row of an output: a row scalar fills a strip."""
        return (self.core.lanes if self.step.program.output(b.name).scalar else columns) * self.size(b)

    def run(self) -> Iterator[None]:
        rows, columns = self.parts
        operands = self.strand.operands
        for column in range(0, self.columns, columns):
            width = min(columns, self.columns - column)
            held: dict[str, tuple[int, int]] = {}
            for b in self.step.columns:
                at = operands.take(4 * columns, f"column parameter {b.name}")
                self.site.fetch(b.tensor, at, range(0, 1), b.column + column, width, row=b.row)
                held[b.name] = (at, 0)
            for first in range(self.rows.start, self.rows.stop, rows):
                self.panel(range(first, min(first + rows, self.rows.stop)), column, width, columns, held)
                yield
            operands.free(*(at for at, _ in held.values()))

    def panel(self, rows: range, column: int, width: int, columns: int, held: Mapping[str, tuple[int, int]]) -> None:
        """Some rows: loaded, worked on, stored."""
        site, step, strand, lanes = self.site, self.step, self.strand, self.core.lanes
        at = dict(held)
        given: list[tuple[Arena, int]] = []
        kernel = site.kernel(self.kernel.uops)
        site.tables(step.program.tables)
        for b in step.streams:
            pitch = columns * self.size(b)
            arena = strand.results if b.name in self.merged.values() else strand.operands
            at[b.name] = (arena.take(len(rows) * pitch, f"stream {b.name}"), pitch)
            given.append((arena, at[b.name][0]))
            site.fetch(b.tensor, at[b.name][0], rows, b.column + column, width, pitch=pitch, row=b.row)
        for b in step.outputs:
            if b.name in self.merged:
                at[b.name] = at[self.merged[b.name]]
                continue
            pitch = self.out_bytes(b, columns)
            at[b.name] = (strand.results.take(len(rows) * pitch, f"output {b.name}"), pitch)
            given.append((strand.results, at[b.name][0]))
        valid = reg(site.lowered.register(step.valid)) if step.valid else width
        site.add(
            self.kernel.instruction(at, start=kernel, rows=len(rows), strips=ceil(width / lanes), columns=width, valid=valid)
        )
        for b in step.outputs:
            scalar = step.program.output(b.name).scalar
            place, pitch = at[b.name]
            site.put(
                b.tensor, place, rows, b.column + (0 if scalar else column), 1 if scalar else width, pitch=pitch, row=b.row
            )
        for arena, address in given:
            arena.free(address)


def emit_rows(strand: Strand, step: Rows) -> Iterator[None]:
    """The instructions of a strand's rows of a step."""
    if len(strand.rows(shape_of(strand, step)[0])):
        yield from _Emission(strand, step).run()


EMISSION = Emission(emit=emit_rows)
