"""Windows over an image, read in place from the scratchpad: how it is cut into bands, and loads of a band with its padding.

The image lies in the scratchpad as it does in DRAM, pixels x channels, with its padding around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from presilicon.compiler.steps import Convolution, Pool
from presilicon.errors import CapacityError
from presilicon.isa import Instruction, load

# Bytes of fill that one load puts before or after a row.
MOST_FILL = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of a convolution or pooling, ``rows`` x ``columns`` of them, over an image of ``pixel_bytes`` a pixel.

    These are all bytes of a pixel, or some of its ``source_bytes``, from ``offset`` on: some of its channels.
    """

    name: str
    height: int
    width: int
    pixel_bytes: int
    source_bytes: int
    offset: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    rows: int
    columns: int

    @classmethod
    def of(cls, step: Convolution | Pool, element_bytes: int = 1) -> Windows:
        """The windows of a step."""
        rows, columns = step.out_size
        pixel = step.channels * element_bytes
        return cls(
            name=step.name,
            height=step.height,
            width=step.width,
            pixel_bytes=pixel,
            source_bytes=pixel,
            offset=0,
            kernel=step.kernel,
            stride=step.stride,
            padding=step.padding,
            dilation=step.dilation if isinstance(step, Convolution) else (1, 1),
            rows=rows,
            columns=columns,
        )

    def part(self, offset: int, size: int) -> Windows:
        """The same windows over ``size`` bytes of each pixel, from one on."""
        return replace(self, offset=offset, pixel_bytes=size)

    @property
    def line_bytes(self) -> int:
        """Bytes in DRAM from one row of the image to the next."""
        return self.width * self.source_bytes

    def source(self, row: int, column: int) -> int:
        """Where a pixel lies, from the image's first byte on."""
        return row * self.line_bytes + column * self.source_bytes + self.offset


@dataclass(frozen=True, slots=True)
class Band:
    """Rows and columns of the result that are worked out from one part of the image."""

    row: int
    rows: int
    column: int
    columns: int


def _reach(count: int, stride: int, kernel: int, dilation: int) -> int:
    """Pixels along one axis under so many windows."""
    return (count - 1) * stride + (kernel - 1) * dilation + 1


def image_size(windows: Windows, band: Band) -> tuple[int, int]:
    """Rows of the image under a band, padding among them, and bytes of each: its pitch in the scratchpad."""
    rows, columns = (
        _reach(count, *numbers)
        for count, *numbers in zip((band.rows, band.columns), windows.stride, windows.kernel, windows.dilation, strict=True)
    )
    return rows, columns * windows.pixel_bytes


def image_bytes(windows: Windows, band: Band) -> int:
    """Bytes of the image under a band."""
    rows, pitch = image_size(windows, band)
    return rows * pitch


def areas(windows: Windows, results: range) -> tuple[tuple[int, Band], ...]:
    """A range of results, images of a batch one behind the other, as (image, band): whole rows, and parts of rows."""
    found, at, each = [], results.start, windows.rows * windows.columns
    while at < results.stop:
        image, (row, column) = at // each, divmod(at % each, windows.columns)
        left = min(results.stop, (image + 1) * each) - at
        if column or left < windows.columns:
            band = Band(row, 1, column, min(left, windows.columns - column))
        else:
            band = Band(row, left // windows.columns, 0, windows.columns)
        found.append((image, band))
        at += band.rows * band.columns
    return tuple(found)


def bands(windows: Windows, most_bytes: int, most_results: int = 0, area: Band | None = None) -> tuple[Band, ...]:
    """The result, or an area of it, in bands of even size whose images have at most ``most_bytes``.

    Of at most ``most_results`` results (0: any number). Whole rows where one fits, else pieces of single rows. CapacityError
    where not even one window fits, with both numbers.
    """
    area = area or Band(0, windows.rows, 0, windows.columns)

    def fits(rows: int, columns: int) -> bool:
        few = not most_results or rows * columns <= most_results
        return few and image_bytes(windows, Band(0, rows, 0, columns)) <= most_bytes

    if not fits(1, 1):
        need = image_bytes(windows, Band(0, 1, 0, 1))
        raise CapacityError(
            f"one window of {need} bytes does not fit into {most_bytes} bytes of the scratchpad", where=windows.name
        )
    columns, rows = area.columns, 1
    while not fits(1, columns):
        columns -= 1
    while columns == area.columns and rows < area.rows and fits(rows + 1, columns):
        rows += 1
    return tuple(
        Band(area.row + row, next_row - row, area.column + column, next_column - column)
        for row, next_row in _even(area.rows, rows)
        for column, next_column in _even(area.columns, columns)
    )


def _even(total: int, most: int) -> list[tuple[int, int]]:
    """``total`` in the fewest even pieces of at most ``most``: first and last of each."""
    count = ceil(total / most)
    return [(total * i // count, total * (i + 1) // count) for i in range(count)]


def tiles_of(band: Band, most: int) -> tuple[Band, ...]:
    """A band in pieces of at most ``most`` pixels, whole rows where one fits."""
    columns = min(band.columns, most)
    rows = max(1, most // columns)
    return tuple(
        Band(band.row + row, next_row - row, band.column + column, next_column - column)
        for row, next_row in _even(band.rows, rows)
        for column, next_column in _even(band.columns, columns)
    )


# Loads ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """A band along one axis: so many pixels of padding before, of the image from ``first`` on, of padding behind."""

    before: int
    first: int
    inside: int
    behind: int

    @classmethod
    def of(cls, start: int, count: int, size: int) -> _Span:
        before = min(max(0, -start), count)
        behind = min(max(0, start + count - size), count - before)
        return cls(before, max(0, start), count - before - behind, behind)


def _spans(windows: Windows, band: Band) -> tuple[_Span, _Span]:
    rows, pitch = image_size(windows, band)
    top, left = windows.padding[:2]
    return (
        _Span.of(band.row * windows.stride[0] - top, rows, windows.height),
        _Span.of(band.column * windows.stride[1] - left, pitch // windows.pixel_bytes, windows.width),
    )


def image_loads(windows: Windows, band: Band, dram: int, spad: int, fill: int = 0) -> list[Instruction]:
    """Loads that bring the image under a band from ``dram`` to ``spad``, its padding the byte ``fill`` (a signed one too)."""
    (rows, pitch), (down, along) = image_size(windows, band), _spans(windows, band)
    pixel, line, fill = windows.pixel_bytes, windows.line_bytes, fill & 255
    if max(along.before, along.behind) * pixel > MOST_FILL:
        raise CapacityError(f"a row's padding is more than {MOST_FILL} bytes", where=windows.name)

    def filled(first: int, count: int) -> list[Instruction]:
        # Rows beyond the limit: filled, nothing is read.
        at = spad + first * pitch
        return [load(dram=0, spad=at, n1=count, run=pitch, pitch=pitch, y0=1, limit=1, fill=fill)] if count else []

    if not down.inside or not along.inside:
        return filled(0, rows)
    source, target = dram + windows.source(down.first, along.first), spad + down.before * pitch
    if pixel < windows.source_bytes:
        # Some channels: a column of pixels at a time, over what is filled.
        whole = along.inside * pixel == pitch and down.inside == rows
        return ([] if whole else filled(0, rows)) + [
            load(
                dram=source + column * windows.source_bytes,
                spad=target + (along.before + column) * pixel,
                n1=down.inside,
                run=pixel,
                stride1=line,
                pitch=pitch,
            )
            for column in range(along.inside)
        ]
    dense = along.inside * pixel == line == pitch
    inside = load(
        dram=source,
        spad=target,
        n1=1 if dense else down.inside,
        run=down.inside * line if dense else along.inside * pixel,
        stride1=0 if dense else line,
        left=along.before * pixel,
        right=along.behind * pixel,
        fill=fill,
        pitch=0 if dense else pitch,
    )
    return [*filled(0, down.before), *filled(down.before + down.inside, down.behind), inside]


def edge_loads(windows: Windows, band: Band, dram: int, spad: int) -> list[Instruction]:
    """As `image_loads`, the padding being the image's outermost pixels again: what changes no maximum of a window.

    CapacityError where windows lie in the padding altogether.
    """
    pitch, (down, along) = image_size(windows, band)[1], _spans(windows, band)
    pixel, line = windows.pixel_bytes, windows.line_bytes
    last_row, last_column = (windows.rows - 1) * windows.stride[0], (windows.columns - 1) * windows.stride[1]
    top, left = windows.padding[:2]
    if (
        top >= windows.kernel[0]
        or left >= windows.kernel[1]
        or last_row - top >= windows.height
        or last_column - left >= windows.width
    ):
        raise CapacityError("a window lies in the padding altogether", where=windows.name)
    # Along each axis: where in the band, pixels of the image from which one on, how far apart in DRAM.
    vertical = [(0, down.before, 0, 0), (down.before, down.inside, down.first, line)]
    vertical += [(down.before + down.inside, down.behind, windows.height - 1, 0)]
    together = along.inside if pixel == windows.source_bytes else 1
    horizontal = [(place, 1, 0) for place in range(along.before)]
    horizontal += [(along.before + at, together, along.first + at) for at in range(0, along.inside, max(1, together))]
    horizontal += [(along.before + along.inside + place, 1, windows.width - 1) for place in range(along.behind)]
    return [
        load(
            dram=dram + windows.source(first_row, first_column),
            spad=spad + row * pitch + column * pixel,
            n1=rows,
            run=columns * pixel,
            stride1=stride,
            pitch=pitch,
        )
        for row, rows, first_row, stride in vertical
        for column, columns, first_column in horizontal
        if rows and columns
    ]
