"""A product and the step on rows that alone reads its result: handed over in the scratchpad, never in DRAM."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from presilicon.compiler.emission import Emission
from presilicon.compiler.emit_product import ProductEmission, plan_product, plan_weights
from presilicon.compiler.emit_rows import RowsEmission
from presilicon.compiler.epilogue import Epilogue
from presilicon.compiler.site import Strand
from presilicon.compiler.steps import Lowered, Product, Rows, reads, writes
from presilicon.template import GROUP

# Rows of a piece of the step on rows, and such pieces whose other results are held at a time.
PIECE_ROWS, PIECES = 2 * GROUP, 2


def handed_over(lowered: Lowered, number: int) -> str:
    """The tensor that step ``number``, a product, hands to the next step, on rows, and to nobody else; empty where none."""
    if number + 1 >= len(lowered.steps):
        return ""
    product, rows = lowered.steps[number : number + 2]
    if not isinstance(product, Product) or not isinstance(rows, Rows) or len(product.outputs) != 1:
        return ""
    out = product.outputs[0]
    taken = [b for b in rows.streams if b.tensor == out.tensor]
    readers = sum(out.tensor in reads(step) for step in lowered.steps)
    writers = sum(out.tensor in writes(step) for step in lowered.steps)
    tensor = lowered.tensors[out.tensor]
    whole = not out.column and not out.row and len(taken) == 1 and not taken[0].column and not taken[0].row
    widths = [lowered.tensors[b.tensor].columns - b.column for b in rows.outputs if not rows.program.output(b.name).scalar]
    width = min(widths, default=0)
    same = tensor.columns == int(lowered.constants[product.weights].shape[1]) == width
    kept = out.tensor in (*lowered.outputs, *lowered.states)
    return out.tensor if whole and same and readers == writers == 1 and not kept else ""


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
            self.on_rows.panel(range(first + rows.start, first + rows.stop), range(columns), columns, strand.operands, ready)
        strand.operands.free(*(place for place, _ in held.values()))
        strand.results.free(tile)
        if panel + 1 < self.plan.panels:
            yield "matmul"
            site.step = self.numbers[0]


def fits(strand: Strand, product: Product, rows: Rows) -> bool:
    """Whether a strand's panels of the product fit beside what the step on rows makes of some of their rows."""
    plan = plan_product(strand, product)
    if not plan.m:
        return True
    on_rows = RowsEmission(strand, rows)
    size = strand.site.matrix(product.outputs[0].tensor)[2]
    columns, lanes = on_rows.columns, strand.core.lanes
    stream = next(b.name for b in rows.streams if b.tensor == product.outputs[0].tensor)
    # Outputs of the rows may take the place of what is handed over and of nothing else.
    elsewhere = [name for name in on_rows.merged.values() if name != stream]
    if columns % lanes or elsewhere or Epilogue(strand, product, plan.n).merging:
        return False
    piece = min(PIECE_ROWS, plan.panel_rows)
    outs = sum(on_rows.out_bytes(b, columns) for b in rows.outputs if b.name not in on_rows.merged)
    ins = sum(columns * on_rows.size(b) for b in rows.streams if b.tensor != product.outputs[0].tensor)
    parameters = 4 * columns * len(rows.columns)
    return (
        plan.panel_rows * columns * size + PIECES * piece * outs + 1024 <= strand.results.size
        and parameters + PIECES * piece * ins <= strand.operands.size // 2
    )


def fuse(strands: list[Strand], emissions: list[Emission], after: tuple[int, ...]) -> list[Emission]:
    """The emissions of a model's steps, pairs that can be fused as one: the second one then does nothing of its own."""
    found = list(emissions)
    lowered = strands[0].lowered
    for number in range(len(lowered.steps) - 1):
        product, rows = lowered.steps[number : number + 2]
        if not handed_over(lowered, number) or after[number + 1] >= 0:
            continue
        assert isinstance(product, Product)
        assert isinstance(rows, Rows)
        if all(fits(strand, product, rows) for strand in strands):
            found[number] = Emission(emit=partial(_both, rows, number), plan=plan_weights)
            found[number + 1] = Emission(emit=_nothing)
    return found


def _both(rows: Rows, number: int, strand: Strand, product: Product) -> Iterator[str | None]:
    if len(strand.rows(strand.lowered.tensors[product.x].rows)):
        yield from _Fused(strand, product, RowsEmission(strand, rows), (number, number + 1)).run()


def _nothing(strand: Strand, step: Rows) -> Iterator[str | None]:
    return iter(())
