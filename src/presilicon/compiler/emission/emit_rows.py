"""Vector programs on whole rows: some rows at a time through the scratchpad, loads and stores beside the vector unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from presilicon.compiler.emission.emit_elements import are_alike, emit_elements
from presilicon.compiler.emission.emit_gather import load_gathered
from presilicon.compiler.emission.memory import Arena
from presilicon.compiler.emission.parameters import dtypes
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.kernels import CompiledKernel
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


class RowsEmission:
    """One strand's rows of a step under way; ``then``: the step that alone reads its output, done with it."""

    def __init__(self, strand: Strand, step: Rows, then: RowsEmission | None = None) -> None:
        self.then = then
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
        # Where outputs take their inputs' places, panels change between two arenas, so that loads, vector unit and stores never
        # meet at a bank's port; column parameters then lie in a third.
        self.arenas = [strand.operands, strand.results] if self.merged else [strand.operands]
        self.held = strand.moving if self.merged else strand.operands
        self.parts = self._parts()

    def _parts(self) -> tuple[int, int]:
        """Rows and columns that are worked on at a time: all columns, or where each is for itself as many as fit."""
        strand, lanes = self.strand, self.core.lanes
        columns = ceil(self.columns / lanes) * lanes
        while True:
            held, ins, outs = self.bytes_of(columns)
            if self.then is not None:
                more = self.then.bytes_of(columns, self.step.outputs[0].tensor)
                held, ins, outs = held + more[0], ins + more[1], outs + more[2]
            rows = self.fitting(held, ins, outs)
            if rows >= 1:
                break
            if not self.loops_only or columns <= lanes:
                raise CapacityError(
                    f"a row of {self.columns} columns takes {held + ins} bytes of operands and {outs} of results, and there"
                    f" are {strand.operands.size} and {strand.results.size}",
                    where=self.step.name,
                    hint="a core with a larger scratchpad",
                )
            columns = ceil(columns / (2 * lanes)) * lanes
        few = ceil(len(self.rows) / PANELS / GROUP) * GROUP
        return min(rows // GROUP * GROUP, few) if rows >= GROUP else rows, columns

    def bytes_of(self, columns: int, handed: str = "") -> tuple[int, int, int]:
        """Bytes of parameters, and of inputs (but for what is ``handed`` over) and outputs a row."""
        ins = sum(columns * self.size(b) for b in self.step.streams if b.tensor != handed)
        outs = sum(self.out_bytes(b, columns) for b in self.step.outputs if b.name not in self.merged)
        return 4 * columns * len(self.step.columns), ins, outs

    def fitting(self, held: int, ins: int, outs: int) -> int:
        """Rows of a panel for which there is room, with so many bytes of parameters, and of inputs and outputs a row."""
        strand = self.strand
        if self.merged:
            room = min(strand.operands.size, strand.results.size)
            return min(len(self.rows), room // (ins + outs)) if held <= strand.moving.size else 0
        rows = len(self.rows)
        for room, size in ((strand.operands.size - held, ins), (strand.results.size, outs)):
            # Two panels at a time where they fit.
            rows = min(rows, max(room // (2 * size), min(1, room // size))) if size else rows
        return rows

    def size(self, b: Binding) -> int:
        return self.site.matrix(b.tensor)[2]

    def out_bytes(self, b: Binding, columns: int) -> int:
        """Bytes of a row of an output: a row scalar fills a strip."""
        return (self.core.lanes if self.step.program.output(b.name).scalar else columns) * self.size(b)

    def run(self) -> Iterator[None]:
        rows, columns = self.parts
        for column in range(0, self.columns, columns):
            width = min(columns, self.columns - column)
            held = self.load_columns(self.held, column, width, columns)
            later = self.then.load_columns(self.held, column, width, columns) if self.then is not None else {}
            for number, first in enumerate(range(self.rows.start, self.rows.stop, rows)):
                if column or number:
                    yield
                arena = self.arenas[number % len(self.arenas)]
                panel = range(first, min(first + rows, self.rows.stop))
                self.panel(panel, range(column, column + width), columns, arena, held, later=later)
            self.held.free(*(at for at, _ in (*held.values(), *later.values())))

    def load_columns(self, arena: Arena, column: int, width: int, columns: int) -> dict[str, tuple[int, int]]:
        """Loads the column parameters; where they lie, and their pitch of 0."""
        held = {}
        for b in self.step.columns:
            at = arena.take(4 * columns, f"column parameter {b.name}")
            self.site.fetch(b.tensor, at, range(0, 1), b.column + column, width, row=b.row)
            held[b.name] = (at, 0)
        return held

    def panel(
        self,
        rows: range,
        part: range,
        columns: int,
        arena: Arena,
        held: Mapping[str, tuple[int, int]],
        results: Arena | None = None,
        later: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Some rows and columns: loaded into an arena, worked on, stored; ``held`` is on the chip already.

        ``results``: where outputs lie that do not take an input's place; ``later``: what ``then`` has on the chip.
        """
        site, step, lanes = self.site, self.step, self.core.lanes
        at = dict(held)
        results = results or (arena if self.merged else self.strand.results)
        given: list[tuple[Arena, int]] = []
        kernel = site.kernel(self.kernel.uops)
        site.tables(step.program.tables)
        for b in [b for b in step.streams if b.name not in held]:
            pitch = columns * self.size(b)
            at[b.name] = (arena.take(len(rows) * pitch, f"stream {b.name}"), pitch)
            given.append((arena, at[b.name][0]))
            if b.tensor in site.looked_up:
                load_gathered(site, site.looked_up[b.tensor], at[b.name][0], rows, b.column + part.start, len(part), pitch)
            else:
                site.fetch(b.tensor, at[b.name][0], rows, b.column + part.start, len(part), pitch=pitch, row=b.row)
        for b in step.outputs:
            if b.name in self.merged:
                at[b.name] = at[self.merged[b.name]]
                continue
            pitch = self.out_bytes(b, columns)
            at[b.name] = (results.take(len(rows) * pitch, f"output {b.name}"), pitch)
            given.append((results, at[b.name][0]))
        valid = reg(site.lowered.register(step.valid)) if step.valid else len(part)
        strips = ceil(len(part) / lanes)
        site.add(self.kernel.instruction(at, start=kernel, rows=len(rows), strips=strips, columns=len(part), valid=valid))
        if self.then is not None:
            handed = step.outputs[0]
            stream = next(b.name for b in self.then.step.streams if b.tensor == handed.tensor)
            with site.doing(self.then.step):
                self.then.panel(rows, part, columns, arena, {**(later or {}), stream: at[handed.name]}, results)
        for b in step.outputs if self.then is None else ():
            column, width = (0, 1) if step.program.output(b.name).scalar else (part.start, len(part))
            site.put(b.tensor, at[b.name][0], rows, b.column + column, width, pitch=at[b.name][1], row=b.row)
        for where, address in given:
            where.free(address)


def emit_rows(strand: Strand, step: Rows) -> Iterator[None]:
    """The instructions of a strand's rows of a step."""
    looked_up = any(b.tensor in strand.site.looked_up for b in step.streams)
    if not looked_up and are_alike(strand.site, step):
        yield from emit_elements(strand, step)
    elif len(strand.rows(shape_of(strand, step)[0])):
        yield from RowsEmission(strand, step).run()


EMISSION = Emission(emit=emit_rows)
