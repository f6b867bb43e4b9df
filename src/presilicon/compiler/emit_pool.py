"""Poolings: bands of the image among the vector unit's operands, a pass of its kernel for each few places of the windows."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from presilicon.compiler.emission import Emission
from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.pooling import RESULT, SO_FAR, Dtype, Pass, passes, place_name
from presilicon.compiler.site import Strand
from presilicon.compiler.steps import Pool
from presilicon.compiler.windows import Band, Windows, areas, bands, edge_loads, image_bytes, image_loads
from presilicon.errors import CapacityError, CheckError
from presilicon.isa import Instruction


class _Emission:
    """One strand's pooling under way."""

    def __init__(self, strand: Strand, step: Pool) -> None:
        self.strand, self.site, self.core, self.step = strand, strand.site, strand.core, step
        self.dtype: Dtype = self._dtype()
        self.windows = Windows.of(step, self.site.matrix(step.x)[2])
        pixel = self.windows.pixel_bytes
        # Whole strips are read: up to one more than there is.
        self.slack = 4 * self.core.lanes
        room, results = strand.operands.size // 2 - self.slack, strand.results.size // 2 - self.slack
        if results < pixel:
            raise CapacityError(
                f"a pixel of {pixel} bytes does not fit into {results} bytes of the scratchpad", where=step.name
            )
        shares = areas(self.windows, strand.rows(step.batch * self.windows.rows * self.windows.columns))
        self.bands = [(image, band) for image, area in shares for band in bands(self.windows, room, results // pixel, area)]

    def _dtype(self) -> Dtype:
        dtype = self.strand.lowered.tensors[self.step.x].dtype
        if dtype == "int32" or (dtype == "int8" and self.step.kind == "mean"):
            raise CheckError(
                f"a {self.step.kind} over windows of {dtype}", where=self.step.name, hint="fp32, or a largest int8"
            )
        return dtype

    def run(self) -> Iterator[None]:
        following: int | None = None
        for number, (image, band) in enumerate(self.bands):
            x = self.load(number) if following is None else following
            assert x is not None
            following = self.load(number + 1, needed=False) if number + 1 < len(self.bands) else None
            y = self.strand.results.take(band.rows * band.columns * self.windows.pixel_bytes + self.slack, "a band of results")
            for one in passes(self.step, self.windows, band, self.dtype):
                self.work(one, x, y)
            first = (image * self.windows.rows + band.row) * self.windows.columns + band.column
            self.site.put(self.step.out, y, range(first, first + band.rows * band.columns), 0, self.step.channels)
            self.strand.operands.free(x)
            self.strand.results.free(y)
            yield

    def load(self, number: int, needed: bool = True) -> int | None:
        """Loads the image under a band; None where there is no room yet and it is not needed at once."""
        (image, band), windows = self.bands[number], self.windows
        arena, size = self.strand.operands, image_bytes(windows, band) + self.slack
        at = arena.take(size, "a band of the image") if needed else arena.find(size)
        if at is None:
            return None
        source = self.site.address(self.step.x) + image * windows.height * windows.width * windows.pixel_bytes
        for one in self.loads(band, source, at):
            self.site.add(one)
        return at

    def loads(self, band: Band, source: int, at: int) -> list[Instruction]:
        """What counts in the padding: nothing of a maximum, zeros of a sum."""
        return (edge_loads if self.step.kind == "max" else image_loads)(self.windows, band, source, at)

    def work(self, one: Pass, x: int, y: int) -> None:
        """One pass over a band."""
        kernel = self.kernel(one)
        places = {place_name(i): (x + place, one.place_pitch) for i, place in enumerate(one.places)}
        out = y + one.out, one.out_pitch
        start = self.site.kernel(kernel.uops)
        self.site.add(
            kernel.instruction(
                {**places, RESULT: out, SO_FAR: out},
                start=start,
                rows=one.rows,
                strips=ceil(one.columns / self.core.lanes),
                columns=one.columns,
            )
        )

    def kernel(self, one: Pass) -> CompiledKernel:
        """The kernel of a pass, whose result stands in the place of the result so far."""
        names = [*one.program.streams]
        kernel = self.site.compiled(one.program, ("pool", self.dtype), dtypes=dict.fromkeys(names, self.dtype))
        assert all(pair in ((RESULT, SO_FAR), pair[:1]) for pair in kernel.streams)
        return kernel


def emit_pool(strand: Strand, step: Pool) -> Iterator[None]:
    """The instructions of a strand's share of a pooling."""
    emission = _Emission(strand, step)
    if emission.bands:
        yield from emission.run()


EMISSION = Emission(emit=emit_pool, whole=lambda step: (step.x,))
