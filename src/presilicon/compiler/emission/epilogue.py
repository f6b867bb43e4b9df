"""The vector program of a product or convolution: parameters, streams and outputs of some rows and blocks of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from presilicon.compiler.emission.memory import Arena
from presilicon.compiler.emission.parameters import Parameters, dtypes, element_bytes
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.kernel_operations import COLUMNS
from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.steps import Binding, Convolution, Product
from presilicon.errors import CapacityError
from presilicon.template import GROUP

# Column parameters that fit so often among the operands are held for all of a step.
HELD = 4

# Rows of a panel are at least so many times the cycles that a tile's fetch takes, and so many groups of the vector unit's rows.
LEAST_FETCHES, LEAST_GROUPS = 1.25, 2

Products = Callable[[int, int, int], None]
"""Adds the matmuls of a block of columns: its number, the accumulator bank, the first accumulator row."""


@dataclass(slots=True)
class _Part:
    """Rows and columns whose streams and outputs lie in the scratchpad: where, and what is to be given back."""

    rows: range
    column: int
    width: int
    at: dict[str, tuple[int, int]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    taken: list[tuple[Arena, int]] = field(default_factory=list)

    def take(self, arena: Arena, size: int, what: str) -> int:
        """A buffer that is given back at the end."""
        place = arena.take(size, what)
        self.taken.append((arena, place))
        return place


@dataclass(slots=True)
class _Group:
    """Blocks of columns under way: the part that they belong to, their bank, where their parameters lie."""

    blocks: range
    bank: int
    part: _Part
    parameters: int = 0


class Epilogue:
    """The vector program of one step on one strand.

    ``whole_rows``: groups come panel by panel, all blocks of one after the other, in at most so many rows: their streams and
    outputs are loaded and stored in one run. 0: each group has its own. ``most``: rows and blocks of the largest group; buffers
    are of its size, so that each fits where one was before.
    """

    def __init__(
        self, strand: Strand, step: Product | Convolution, columns: int, whole_rows: int = 0, most: tuple[int, int] = (1, 1)
    ) -> None:
        self.strand, self.site, self.core, self.step, self.columns = strand, strand.site, strand.core, step, columns
        self.whole_rows = whole_rows
        self.most = (whole_rows, columns) if whole_rows else (most[0], min(columns, most[1] * strand.core.cols))
        self.parameters = Parameters.of(step, columns)
        # Outputs that stay on the chip, for the rows at hand: address and pitch of their whole rows.
        self.kept: dict[str, tuple[int, int]] = {}
        self.before: _Group | None = None
        self.part: _Part | None = None
        # Where column parameters lie: those of all blocks where they are few beside the operands, else a group's.
        self.held = 0 < HELD * self.columns_bytes() <= strand.operands.size
        self.place = -1
        # Whole strips are read: of the last block up to its columns, be they there or not.
        self.slack = 4 * self.core.cols
        self.kernel: CompiledKernel = self.site.compiled(
            step.program, "product", dtypes=dtypes(self.site, step.streams), block_strips=self.core.chunks
        )

    def group(self, rows: range, group: range, products: Products) -> None:
        """Some rows of the outputs and blocks of columns: parameters, streams, products; then the program of the group before.

        So the array has its next products when the vector unit takes up the sums of the last ones.
        """
        strand, first = self.strand, self.strand.accumulator_rows.start
        self.load_parameters(range(ceil(self.columns / self.core.cols)) if self.held else group)
        now = _Group(group, strand.next_bank(), self.part_of(rows, group), self.place)
        for number, block in enumerate(group):
            products(block, now.bank, first + number * len(rows))
        before, self.before = self.before, now
        if before is not None:
            self.finish(before)

    def load_parameters(self, blocks: range) -> None:
        """Column parameters of some blocks: once where all of them are held."""
        size, operands = self.parameters.block_bytes(self.core), self.strand.operands
        if size and (not self.held or self.place < 0):
            operands.rewind()
            self.strand.results.rewind()
            self.place = operands.take(len(blocks) * size, "column parameters")
            self.parameters.load(self.site, self.step.name, self.place, blocks.start, len(blocks))

    def part_of(self, rows: range, group: range) -> _Part:
        """The rows and columns that are loaded and stored together: all columns of a panel, or the group's."""
        if self.whole_rows and group.start and self.part is not None:
            return self.part
        column = 0 if self.whole_rows else group.start * self.core.cols
        width = self.columns if self.whole_rows else min(len(group) * self.core.cols, self.columns - column)
        self.part = part = _Part(rows, column, width)
        elements = max(self.most[0], len(rows)) * max(self.most[1], width)
        for name, (at, pitch) in self.kept.items():
            part.at[name] = at + column * self.element(next(b for b in self.step.outputs if b.name == name)), pitch
            part.kept.add(name)
        for b in [b for b in (*self.step.streams, *self.step.outputs) if b.name not in part.kept]:
            stream, shared, pitch = b in self.step.streams, self.merged(b.name), width * self.element(b)
            if stream or not shared:
                arena = self.strand.operands if stream and not shared else self.strand.results
                part.at[b.name] = arena.take(elements * self.element(b) + self.slack, b.name), pitch
                part.taken.append((arena, part.at[b.name][0]))
            else:
                part.at[b.name] = part.at[shared]
            if stream:
                self.site.fetch(b.tensor, part.at[b.name][0], rows, b.column + column, width, pitch=pitch, row=b.row)
        return part

    def flush(self) -> None:
        """The program of the last group."""
        before, self.before = self.before, None
        if before is not None:
            self.finish(before)
        if self.held and self.place >= 0:
            self.strand.operands.free(self.place)
            self.place = -1

    def finish(self, now: _Group) -> None:
        """The program on a group's sums; the stores of its part where it is the last there."""
        site, step, core, strand, part = self.site, self.step, self.core, self.strand, now.part
        size, count = self.parameters.block_bytes(core), len(part.rows)
        kernel = site.kernel(self.kernel.uops)
        site.tables(step.program.tables)
        for number, block in enumerate(now.blocks):
            ahead = block * core.cols - part.column
            places = {b.name: self.ahead(part, b, ahead) for b in (*step.streams, *step.outputs)}
            if size:
                start = now.parameters + (block if self.held else number) * size
                places[COLUMNS] = (start, 0)
                places |= {name: (start + 4 * core.cols * i, 0) for i, name in enumerate(self.parameters.names)}
            site.add(
                self.kernel.instruction(
                    places,
                    start=kernel,
                    rows=count,
                    strips=core.chunks,
                    columns=min(core.cols, self.columns - block * core.cols),
                    bank=now.bank,
                    acc=strand.accumulator_rows.start + number * count,
                )
            )
        if size and not self.held:
            strand.operands.free(now.parameters)
        if now.blocks.stop * core.cols < part.column + part.width:
            return
        for b in [b for b in step.outputs if b.name not in part.kept]:
            at, pitch = part.at[b.name]
            site.put(b.tensor, at, part.rows, b.column + part.column, part.width, pitch=pitch, row=b.row)
        for arena, place in part.taken:
            arena.free(place)

    def ahead(self, part: _Part, b: Binding, columns: int) -> tuple[int, int]:
        """Address and pitch of a stream or output so many columns into a part."""
        at, pitch = part.at[b.name]
        return at + columns * self.element(b), pitch

    def columns_bytes(self) -> int:
        """Bytes of all column parameters."""
        return ceil(self.columns / self.core.cols) * self.parameters.block_bytes(self.core)

    @property
    def merging(self) -> bool:
        """Whether an output takes an input's place."""
        return any(len(names) > 1 for names in self.kernel.streams)

    def merged(self, name: str) -> str:
        """The input whose place an output takes, or the output that takes an input's; empty where none."""
        for names in self.kernel.streams:
            if len(names) > 1 and name in names:
                return names[1] if name == names[0] else names[0]
        return ""

    def element(self, b: Binding) -> int:
        """Bytes of an element of a stream or output."""
        return self.site.matrix(b.tensor)[2]


@dataclass(frozen=True, slots=True)
class Limits:
    """How many rows and blocks of columns of a step's results there is room for on a strand.

    ``results`` and ``operands``: bytes of one element among results (streams whose place they take among them) and among
    operands; ``parameters``: bytes of a block's column parameters, ``held``: those of all, where they stay.
    """

    strand: Strand
    columns: int
    results: int
    operands: int
    parameters: int
    held: int

    @classmethod
    def of(cls, strand: Strand, step: Product | Convolution, columns: int) -> Limits:
        """Those of a step; CapacityError, with both numbers, where there is no room for one row of one block."""
        epilogue = Epilogue(strand, step, columns)
        kept = [b for b in step.streams if not epilogue.merged(b.name)]
        results, operands = element_bytes(strand.site, step.outputs), element_bytes(strand.site, kept)
        held = epilogue.columns_bytes() if epilogue.held else 0
        found = cls(strand, columns, results, operands, epilogue.parameters.block_bytes(strand.core), held)
        cols = strand.core.cols
        if not found._rows(cols):
            raise CapacityError(
                f"{cols} results take {cols * results} and {cols * operands + found.parameters} bytes, and too few of them fit"
                f" into {strand.results.size} and {strand.operands.size} bytes of the scratchpad",
                where=step.name,
                hint="a core with a larger scratchpad",
            )
        return found

    @property
    def blocks(self) -> int:
        """Blocks of columns."""
        return ceil(self.columns / self.strand.core.cols)

    def rows_at_most(self) -> int:
        """Rows of one block, of which two are under way at a time."""
        return self._rows(self.strand.core.cols)

    def whole_rows(self) -> int:
        """Rows that fit twice with all their columns; 0 where not one does."""
        return self._rows(self.columns)

    def pays(self, rows: int) -> bool:
        """Whether so few rows at a time keep the array busy while tiles are fetched, and the vector unit's groups full."""
        return rows >= max(LEAST_FETCHES * self.strand.core.weight_words, LEAST_GROUPS * GROUP)

    def blocks_at_most(self, rows: int) -> int:
        """Blocks that are worked on together with so many rows, as even as whole blocks allow."""
        count = min(self.blocks, max(1, len(self.strand.accumulator_rows) // rows))
        while count > 1 and self._rows(count * self.strand.core.cols) < rows:
            count -= 1
        return ceil(self.blocks / ceil(self.blocks / count))

    def _rows(self, columns: int) -> int:
        """Rows of so many columns that fit twice, parameters of two groups of blocks beside them."""
        cols, strand = self.strand.core.cols, self.strand
        parameters = self.held or 3 * (ceil(columns / cols) * self.parameters + strand.operands.align)
        # Parameters that come and go between lie in the way of two buffers: there is room for a third.
        times = 2 if self.held or not self.parameters else 3
        rows = len(strand.accumulator_rows)
        for arena, size, less, count in (
            (strand.results, self.results, 0, 2),
            (strand.operands, self.operands, parameters, times),
        ):
            # Up to three streams or outputs, each with its slack.
            room = arena.size - less - 3 * count * (4 * cols + arena.align)
            rows = min(rows, room // (count * columns * size)) if size else rows
        return max(0, rows)
