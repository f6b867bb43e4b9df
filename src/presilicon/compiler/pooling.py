"""Pooling on the vector unit: a window's places are streams of one image, three an instruction, the result so far the fourth.

With a stride of 1 along the width a row of results is one run of elements, and all rows of a band go together; else an
instruction has one row of results, a result's channels a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal

from presilicon.compiler.steps import Pool
from presilicon.compiler.vectors import ONE, Constant, Loop, Operand, Output, Stream, VectorProgram, larger, plus, product
from presilicon.compiler.windows import Band, Windows, image_size

# Places of a window that one instruction reads beside its result.
PLACES = 3
SO_FAR, RESULT = "so_far", "y"
Dtype = Literal["float32", "int8"]


def place_name(number: int) -> str:
    """The stream of a place of the window."""
    return f"place{number}"


@cache
def places_program(kind: str, places: int, carried: bool, scale: float | None, dtype: Dtype) -> VectorProgram:
    """Largest element or sum of so many places, and of the result so far where it is ``carried``; a sum times ``scale``."""
    streams: list[Operand] = [Stream(place_name(number)) for number in range(places)]
    value: Operand = Stream(SO_FAR) if carried else Constant(0.0)
    if kind == "max":
        value = value if carried else product(streams.pop(0), ONE)
        for one in streams:
            value = larger(one, value)
    else:
        for one in streams:
            value = plus(one, value)
        value = value if scale is None else product(value, Constant(scale))
    return VectorProgram(phases=(Loop(outputs=((RESULT, value),)),), outputs=(Output(RESULT, dtype),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One vector instruction of a band: bytes from the start of its image (``places``) and of its result (``out``)."""

    program: VectorProgram
    places: tuple[int, ...]
    out: int
    place_pitch: int
    out_pitch: int
    rows: int
    columns: int
    carried: bool


def _counts(start: int, count: int, stride: int, kernel: int, size: int) -> list[tuple[int, int, int]]:
    """Results along an axis in runs that see equally many pixels inside the image: first, last, that number."""
    inside = [min(size, i * stride + start + kernel) - max(0, i * stride + start) for i in range(count)]
    runs, first = [], 0
    for pixels, members in groupby(inside):
        last = first + len(list(members))
        runs.append((first, last, pixels))
        first = last
    return runs


def _areas(step: Pool, band: Band) -> Iterator[tuple[Band, float | None]]:
    """Parts of a band, rows and columns from its own first on, with the scale of their sums."""
    kernel_h, kernel_w = step.kernel
    whole = Band(0, band.rows, 0, band.columns)
    if step.kind == "max":
        yield whole, None
    elif step.count_padding:
        yield whole, 1.0 / (kernel_h * kernel_w)
    else:
        top, left = (band.row * step.stride[0] - step.padding[0], band.column * step.stride[1] - step.padding[1])
        for row, next_row, high in _counts(top, band.rows, step.stride[0], kernel_h, step.height):
            for column, next_column, wide in _counts(left, band.columns, step.stride[1], kernel_w, step.width):
                yield Band(row, next_row - row, column, next_column - column), 1.0 / (high * wide)


def passes(step: Pool, windows: Windows, band: Band, dtype: Dtype) -> Iterator[Pass]:
    """The instructions of a band, whose results lie dense one pixel behind the other."""
    pitch, pixel = image_size(windows, band)[1], windows.pixel_bytes
    element = windows.source_bytes // step.channels
    channels = pixel // element
    down, along = step.stride[0] * pitch, step.stride[1] * pixel
    offsets = [y * pitch + x * pixel for y in range(step.kernel[0]) for x in range(step.kernel[1])]
    for area, scale in _areas(step, band):
        start = area.row * down + area.column * along
        out = (area.row * band.columns + area.column) * pixel
        if step.stride[1] == 1:
            lines = [(start, out, down, band.columns * pixel, area.rows, area.columns * channels)]
        else:
            lines = [
                (start + row * down, out + row * band.columns * pixel, along, pixel, area.columns, channels)
                for row in range(area.rows)
            ]
        for first_place, first_out, place_pitch, out_pitch, rows, columns in lines:
            for first in range(0, len(offsets), PLACES):
                some = offsets[first : first + PLACES]
                last = first + PLACES >= len(offsets)
                yield Pass(
                    program=places_program(step.kind, len(some), first > 0, scale if last else None, dtype),
                    places=tuple(first_place + offset for offset in some),
                    out=first_out,
                    place_pitch=place_pitch,
                    out_pitch=out_pitch,
                    rows=rows,
                    columns=columns,
                    carried=first > 0,
                )
