"""Functions of elements alone, on tensors that all lie alike: one run of elements, whatever their rows and columns were."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from presilicon.compiler.emission.memory import Arena
from presilicon.compiler.emission.parameters import dtypes
from presilicon.compiler.emission.site import Site, Strand
from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.steps import Binding, Rows
from presilicon.compiler.vectors import Loop
from presilicon.isa import load, store
from presilicon.template import GROUP

# Strips of a row of elements at most, and pieces that a strand's elements are cut into at least: one is loaded beside another.
STRIPS, PIECES = 8, 4


def kernel_of(site: Site, step: Rows) -> CompiledKernel:
    """The step's kernel."""
    return site.compiled(step.program, "elements", dtypes=dtypes(site, step.streams))


def are_alike(site: Site, step: Rows) -> bool:
    """Whether a step is a function of elements alone and all that it reads and writes are whole tensors of one shape."""
    first = step.program.phases[0]
    if len(step.program.phases) > 1 or not isinstance(first, Loop) or first.sums or first.maxima or step.columns or step.valid:
        return False
    bound = (*step.streams, *step.outputs)
    shapes = {site.matrix(b.tensor)[:2] for b in bound}
    whole = not any(b.column or b.row for b in bound) and not any(output.scalar for output in step.program.outputs)
    return whole and len(shapes) == 1 and not any(u.b == "exchange" for u in kernel_of(site, step).uops)


class _Emission:
    """One strand's elements of a step under way."""

    def __init__(self, strand: Strand, step: Rows) -> None:
        self.strand, self.site, self.step, self.lanes = strand, strand.site, step, strand.core.lanes
        rows, columns, _ = self.site.matrix(step.streams[0].tensor)
        own = strand.rows(rows)
        self.elements = range(own.start * columns, own.stop * columns)
        self.kernel = kernel_of(self.site, step)
        self.merged = {names[0]: names[1] for names in self.kernel.streams if len(names) > 1}
        count = len(self.elements)
        self.width = self.lanes * min(STRIPS, max(1, count // (GROUP * self.lanes)))
        self.piece = self._piece()

    def _piece(self) -> int:
        """Elements that are worked on at a time: whole rows of `width`."""
        strand, slack = self.strand, 4 * self.lanes + self.strand.operands.align
        kept = self.merged.values()
        inputs = [self.size(b) for b in self.step.streams if b.name not in kept]
        outputs = [self.size(b) for b in self.step.outputs]
        room = len(self.elements)
        for arena, sizes in ((strand.operands, inputs), (strand.results, outputs)):
            room = min(room, (arena.size // 3 - len(sizes) * slack) // sum(sizes)) if sizes else room
        unit = GROUP * self.width if room >= GROUP * self.width else self.width if room >= self.width else self.lanes
        self.width = min(self.width, unit)
        return max(unit, min(room // unit * unit, ceil(len(self.elements) / PIECES / unit) * unit))

    def size(self, b: Binding) -> int:
        return self.site.matrix(b.tensor)[2]

    def run(self) -> Iterator[None]:
        for first in range(self.elements.start, self.elements.stop, self.piece):
            if first > self.elements.start:
                yield
            self.work(range(first, min(first + self.piece, self.elements.stop)))

    def work(self, part: range) -> None:
        """Some elements: loaded, worked on, stored."""
        site, step, strand = self.site, self.step, self.strand
        at: dict[str, int] = {}
        given: list[tuple[Arena, int]] = []
        for b in (*step.streams, *step.outputs):
            if b.name in self.merged:
                at[b.name] = at[self.merged[b.name]]
                continue
            in_results = b in step.outputs or b.name in self.merged.values()
            arena = strand.results if in_results else strand.operands
            at[b.name] = arena.take(len(part) * self.size(b) + 4 * self.lanes, b.name)
            given.append((arena, at[b.name]))
            if b in step.streams:
                source = site.address(b.tensor) + part.start * self.size(b)
                site.add(load(dram=source, spad=at[b.name], run=len(part) * self.size(b)))
        whole = len(part) // self.width
        self.vector(at, 0, whole, self.width)
        self.vector(at, whole * self.width, 1, len(part) - whole * self.width)
        for b in step.outputs:
            target = site.address(b.tensor) + part.start * self.size(b)
            site.add(store(dram=target, spad=at[b.name], run=len(part) * self.size(b)))
        for arena, place in given:
            arena.free(place)

    def vector(self, at: dict[str, int], first: int, rows: int, columns: int) -> None:
        """The kernel on rows of elements, from an element of the part on; nothing where there are none."""
        if not rows or not columns:
            return
        start = self.site.kernel(self.kernel.uops)
        self.site.tables(self.step.program.tables)
        bound = (*self.step.streams, *self.step.outputs)
        places = {b.name: (at[b.name] + first * self.size(b), columns * self.size(b)) for b in bound}
        strips = ceil(columns / self.lanes)
        self.site.add(self.kernel.instruction(places, start=start, rows=rows, strips=strips, columns=columns))


def emit_elements(strand: Strand, step: Rows) -> Iterator[None]:
    """The instructions of a strand's elements of a step whose tensors `are_alike`."""
    emission = _Emission(strand, step)
    if emission.elements:
        yield from emission.run()
