"""Poolings: bands of the image among the vector unit's operands, a pass of its kernel for each few places of the windows."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.pooling import RESULT, SO_FAR, Dtype, Pass, passes, place_name
from presilicon.compiler.steps import Pool
from presilicon.compiler.windows import Band, Windows, areas, bands, edge_loads, image_bytes, image_loads
from presilicon.errors import CapacityError, CheckError

# One window.
_ONE = Band(0, 1, 0, 1)


class _Emission:
    """One strand's pooling under way."""

    def __init__(self, strand: Strand, step: Pool) -> None:
        self.strand, self.site, self.core, self.step = strand, strand.site, strand.core, step
        self.dtype: Dtype = self._dtype()
        # Whole strips are read: up to one more than there is.
        self.slack = 4 * self.core.lanes
        self.parts = self._parts(Windows.of(step, self.site.matrix(step.x)[2]))

    def _parts(self, whole: Windows) -> list[tuple[int, Windows, int, Band]]:
        """First channel, windows, image of the batch and band of each piece of work: all channels, or as many as fit."""
        strand, step = self.strand, self.step
        element = whole.pixel_bytes // step.channels
        shares = areas(whole, strand.rows(step.batch * whole.rows * whole.columns))
        room, results = strand.operands.size // 2 - self.slack, strand.results.size // 2 - self.slack
        channels, unit = step.channels, self.core.lanes
        while channels > unit and (image_bytes(whole.part(0, channels * element), _ONE) > room or channels * element > results):
            channels = ceil(channels / 2 / unit) * unit
        size = channels * element
        if size > results:
            raise CapacityError(f"a pixel of {size} bytes does not fit into {results} bytes of the scratchpad", where=step.name)
        cut = [(image, band) for image, a in shares for band in bands(whole.part(0, size), room, results // size, a)]
        return [
            (first, whole.part(first * element, min(channels, step.channels - first) * element), image, band)
            for first in range(0, step.channels, channels)
            for image, band in cut
        ]

    def _dtype(self) -> Dtype:
        dtype = self.strand.lowered.tensors[self.step.x].dtype
        if dtype == "int32" or (dtype == "int8" and self.step.kind == "mean"):
            raise CheckError(
                f"a {self.step.kind} over windows of {dtype}", where=self.step.name, hint="fp32, or a largest int8"
            )
        return dtype

    def run(self) -> Iterator[None]:
        following: int | None = None
        for number, (channel, windows, image, band) in enumerate(self.parts):
            x = self.load(number) if following is None else following
            following = self.load(number + 1, needed=False) if number + 1 < len(self.parts) else None
            assert x is not None
            y = self.strand.results.take(band.rows * band.columns * windows.pixel_bytes + self.slack, "a band of results")
            for one in passes(self.step, windows, band, self.dtype):
                self.work(one, x, y)
            first = (image * windows.rows + band.row) * windows.columns + band.column
            width = windows.pixel_bytes * self.step.channels // windows.source_bytes
            self.site.put(self.step.out, y, range(first, first + band.rows * band.columns), channel, width)
            self.strand.operands.free(x)
            self.strand.results.free(y)
            yield

    def load(self, number: int, needed: bool = True) -> int | None:
        """Loads the image under a band; None where there is no room yet and it is not needed at once."""
        _, windows, image, band = self.parts[number]
        arena, size = self.strand.operands, image_bytes(windows, band) + self.slack
        at = arena.take(size, "a band of the image") if needed else arena.find(size)
        if at is None:
            return None
        source = self.site.address(self.step.x) + image * windows.height * windows.line_bytes
        # What counts in the padding: nothing of a maximum, zeros of a sum.
        make = edge_loads if self.step.kind == "max" else image_loads
        for one in make(windows, band, source, at):
            self.site.add(one)
        return at

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
    if emission.parts:
        yield from emission.run()


EMISSION = Emission(emit=emit_pool, whole=lambda step: (step.x,))
