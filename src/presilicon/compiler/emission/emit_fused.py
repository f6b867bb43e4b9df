"""Steps done together, so that what one hands to the next never lies in DRAM: products with steps on rows, rows looked up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from presilicon.compiler.emission.emit_product import ProductEmission, plan_product, plan_weights
from presilicon.compiler.emission.emit_rows import RowsEmission, shape_of
from presilicon.compiler.emission.epilogue import Epilogue
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.steps import Gather, Lowered, Product, Rows, reads, writes
from presilicon.errors import CapacityError
from presilicon.template import GROUP

# Rows of a piece of the step on rows, and such pieces whose other results are held at a time.
PIECE_ROWS, PIECES = 2 * GROUP, 2
# Bytes that alignment and strips beyond the columns may take.
SLACK = 1024


def handed_over(lowered: Lowered, number: int) -> str:
    """The tensor that step ``number`` hands to the next step, on rows, and to nobody else; empty where none."""
    if number + 1 >= len(lowered.steps):
        return ""
    first, rows = lowered.steps[number : number + 2]
    if not isinstance(first, Product | Rows) or not isinstance(rows, Rows) or len(first.outputs) != 1:
        return ""
    out = first.outputs[0]
    taken = [b for b in rows.streams if b.tensor == out.tensor]
    readers = sum(out.tensor in reads(step) for step in lowered.steps)
    writers = sum(out.tensor in writes(step) for step in lowered.steps)
    whole = not out.column and not out.row and len(taken) == 1 and not taken[0].column and not taken[0].row
    widths = [lowered.tensors[b.tensor].columns - b.column for b in rows.outputs if not rows.program.output(b.name).scalar]
    same = lowered.tensors[out.tensor].columns == min(widths, default=0) and not first.program.outputs[0].scalar
    kept = out.tensor in (*lowered.outputs, *lowered.states)
    return out.tensor if whole and same and readers == writers == 1 and not kept else ""


def only_looked_up(lowered: Lowered, step: Gather) -> bool:
    """Whether the rows that a gather writes are read by steps on rows alone, which may look them up themselves."""
    readers = [one for one in lowered.steps if step.out in reads(one)]
    streams = [[b for b in one.streams if b.tensor == step.out] for one in readers if isinstance(one, Rows)]
    as_streams = all(len(found) == 1 and not found[0].row for found in streams)
    constant = step.table in lowered.constants and step.index in lowered.inputs
    return constant and bool(readers) and len(streams) == len(readers) and as_streams and step.out not in lowered.outputs


class _Fused(ProductEmission):
    """One strand's product and step on rows under way."""

    def __init__(self, strand: Strand, product: Product, rows: RowsEmission, numbers: tuple[int, int]) -> None:
        super().__init__(strand, product)
        self.on_rows, self.numbers = rows, numbers
        self.name = product.outputs[0].name
        self.stream = next(b.name for b in rows.step.streams if b.tensor == product.outputs[0].tensor)
        self.line = self.plan.n * self.site.matrix(product.outputs[0].tensor)[2]

    def begin(self, panel: int) -> None:
        """Room for a panel's result."""
        rows = len(self.plan.rows_of(panel))
        self.epilogue.kept[self.name] = self.strand.results.take(rows * self.line, "a handed over result"), self.line

    def end(self, panel: int) -> Iterator[str | None]:
        """The step on rows of a panel, some rows at a time."""
        self.epilogue.flush()
        site, strand = self.site, self.strand
        tile, line = self.epilogue.kept.pop(self.name)
        panel_rows, first = self.plan.rows_of(panel), self.rows.start
        columns = self.on_rows.columns
        held = self.on_rows.load_columns(strand.operands, 0, columns, columns)
        for at in range(panel_rows.start, panel_rows.stop, PIECE_ROWS):
            yield "vector"
            site.step = self.numbers[1]
            rows = range(at, min(at + PIECE_ROWS, panel_rows.stop))
            ready = {**held, self.stream: (tile + (at - panel_rows.start) * line, line)}
            moved = range(first + rows.start, first + rows.stop)
            self.on_rows.panel(moved, range(columns), columns, strand.operands, ready, strand.results)
        strand.operands.free(*(place for place, _ in held.values()))
        strand.results.free(tile)
        if panel + 1 < self.plan.panels:
            yield "matmul"
            site.step = self.numbers[0]


def takes_over(rows: RowsEmission, tensor: str) -> bool:
    """Whether a step on rows can find a tensor on the chip: in whole strips, and no output takes another input's place."""
    stream = next(b.name for b in rows.step.streams if b.tensor == tensor)
    return not rows.columns % rows.core.lanes and all(name == stream for name in rows.merged.values())


def product_fits(strand: Strand, product: Product, rows: Rows) -> bool:
    """Whether a strand's panels of the product fit beside what the step on rows makes of some of their rows."""
    plan = plan_product(strand, product)
    if not plan.m:
        return True
    on_rows, tensor = RowsEmission(strand, rows), product.outputs[0].tensor
    if not takes_over(on_rows, tensor) or Epilogue(strand, product, plan.n).merging or on_rows.columns != plan.n:
        return False
    piece = min(PIECE_ROWS, plan.panel_rows)
    held, ins, outs = on_rows.bytes_of(plan.n, tensor)
    tile = plan.panel_rows * plan.n * strand.site.matrix(tensor)[2]
    room = tile + PIECES * piece * outs + SLACK <= strand.results.size
    return room and held + PIECES * piece * ins <= strand.operands.size // 2


def rows_fit(strand: Strand, first: Rows, then: Rows) -> bool:
    """Whether two steps on rows can be done together, all columns of some rows at a time."""
    if not len(strand.rows(shape_of(strand, first)[0])):
        return True
    try:
        later = RowsEmission(strand, then)
        both = RowsEmission(strand, first, later)
    except CapacityError:
        return False
    alike = both.columns == later.columns <= both.parts[1] and not both.merged
    return alike and takes_over(later, first.outputs[0].tensor)


def fuse(strands: list[Strand], emissions: list[Emission], after: tuple[int, ...]) -> list[Emission]:
    """The emissions of a model's steps where some are done together: what is done with another does nothing of its own."""
    found = list(emissions)
    lowered = strands[0].lowered
    for number, step in enumerate(lowered.steps):
        if isinstance(step, Gather) and only_looked_up(lowered, step):
            found[number] = Emission(emit=_nothing, idle=True)
            for strand in strands:
                strand.site.looked_up[step.out] = step
    last = -1
    for number, (first, rows) in enumerate(pairwise(lowered.steps)):
        if number == last or after[number + 1] >= 0 or not handed_over(lowered, number) or not isinstance(rows, Rows):
            continue
        if isinstance(first, Product) and all(product_fits(strand, first, rows) for strand in strands):
            found[number] = Emission(emit=partial(_product_then, rows, number), plan=plan_weights)
        elif isinstance(first, Rows) and all(rows_fit(strand, first, rows) for strand in strands):
            found[number] = Emission(emit=partial(_rows_then, rows))
        else:
            continue
        found[number + 1] = Emission(emit=_nothing, idle=True)
        last = number + 1
    return found


def _product_then(rows: Rows, number: int, strand: Strand, product: Product) -> Iterator[str | None]:
    if len(strand.rows(strand.lowered.tensors[product.x].rows)):
        yield from _Fused(strand, product, RowsEmission(strand, rows), (number, number + 1)).run()


def _rows_then(then: Rows, strand: Strand, first: Rows) -> Iterator[str | None]:
    if len(strand.rows(shape_of(strand, first)[0])):
        yield from RowsEmission(strand, first, RowsEmission(strand, then)).run()


def _nothing(strand: Strand, step: Rows | Gather) -> Iterator[str | None]:
    return iter(())
