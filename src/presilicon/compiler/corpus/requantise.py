"""Kernels that turn int32 sums into int8: ``sat8(rne(float(sum + bias) * scale) + zero_point)``, per column.

Formula: ONNX operator QLinearMatMul with an int32 bias, as ONNX Runtime computes it.
"""

from __future__ import annotations

from presilicon.isa import Kernel, Uop
from presilicon.template import Core

# Column parameters that stay in registers, two a strip; cores with more strips a row load them in a loop.
STRIPS_IN_REGISTERS = 4
# Streams of the kernels.
OUT, BIAS, SCALE = 0, 1, 2
REGISTER, SUM, STREAM = 0, 3, 2


def requantise(core: Core, start: int) -> Kernel:
    """The kernel for one block of ``core.cols`` columns, ``strips`` = ``core.chunks``; bias int32, scale fp32 by column."""
    if core.chunks > STRIPS_IN_REGISTERS:
        loop = [
            Uop(op="move", a_kind=STREAM, read_stream=BIAS, to_en=True, to=0, loop_begin=True),
            Uop(op="move", a_kind=STREAM, read_stream=SCALE, to_en=True, to=1),
            Uop(a_kind=SUM, a_reg=0, b_reg=1, write_en=True, write_stream=OUT, loop_end=True, step=1, last=True),
        ]
        return Kernel("requantise", start, tuple(loop))
    uops = []
    for strip in range(core.chunks):
        for number, stream in enumerate((BIAS, SCALE)):
            uops.append(
                Uop(op="move", a_kind=STREAM, read_stream=stream, to_en=True, to=2 * strip + number, offset=strip, once=True)
            )
    for strip in range(core.chunks):
        uops.append(
            Uop(
                a_kind=SUM,
                a_reg=2 * strip,
                b_kind=REGISTER,
                b_reg=2 * strip + 1,
                write_en=True,
                write_stream=OUT,
                offset=strip,
                last=strip == core.chunks - 1,
            )
        )
    return Kernel("requantise", start, tuple(uops))
