"""Depthwise layers on the array and on the vector unit, by arithmetic: the table of docs/decisions/0011-depthwise.md.

python benchmarks/depthwise.py
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from presilicon import chip as chips
from presilicon.compiler.convolution import block_tiles, column_blocks, weight_bytes
from presilicon.compiler.steps import Binding, Convolution
from presilicon.compiler.vectors import ONE, Loop, Output, Sum, VectorProgram, product
from presilicon.template import GROUP, Core

CORES = ("core-8x8", "core-16x16", "core-16x32", "core-32x32")
# (channels, height, width, kernel, stride down, stride along), how many. MobileNet V2 at 224: Sandler et al., 2018, table 2.
MOBILENET_V2 = {
    (32, 112, 112, 3, 1, 1): 1,
    (96, 112, 112, 3, 2, 2): 1,
    (144, 56, 56, 3, 1, 1): 1,
    (144, 56, 56, 3, 2, 2): 1,
    (192, 28, 28, 3, 1, 1): 2,
    (192, 28, 28, 3, 2, 2): 1,
    (384, 14, 14, 3, 1, 1): 4,
    (576, 14, 14, 3, 1, 1): 2,
    (576, 14, 14, 3, 2, 2): 1,
    (960, 7, 7, 3, 1, 1): 3,
}
# The classifier of text direction in rapidocr-onnxruntime, at its 48 x 192.
OCR = {
    (8, 24, 96, 3, 2, 1): 1,
    (24, 12, 96, 3, 2, 1): 1,
    (32, 6, 96, 3, 1, 1): 1,
    (32, 6, 96, 5, 2, 1): 1,
    (88, 3, 96, 5, 1, 1): 2,
    (40, 3, 96, 5, 1, 1): 1,
    (48, 3, 96, 5, 1, 1): 1,
    (104, 3, 96, 5, 2, 1): 1,
    (200, 2, 96, 5, 1, 1): 2,
}
EPILOGUE_OPERATIONS = 2
_SUMS = VectorProgram(phases=(Loop(outputs=(("y", product(Sum(), ONE)),)),), outputs=(Output("y", "int32"),))


def step_of(channels: int, height: int, width: int, kernel: int, down: int, along: int) -> Convolution:
    """A depthwise convolution that keeps the size but for its stride."""
    return Convolution(
        name="depthwise",
        program=_SUMS,
        outputs=(Binding("y", "y"),),
        x="x",
        weights="w",
        height=height,
        width=width,
        channels=channels,
        out_channels=channels,
        kernel=(kernel, kernel),
        stride=(down, along),
        padding=(kernel // 2,) * 4,
        groups=channels,
    )


def cycles(core: Core, steps: Iterable[tuple[Convolution, int]]) -> tuple[int, int, int]:
    """Cycles of the array with the epilogue behind it, of the vector unit with its epilogue, of the tiles' loads."""
    array = vector = epilogue = loads = 0
    for step, count in steps:
        pixels = step.out_size[0] * step.out_size[1]
        blocks = column_blocks(core, step)
        tiles = sum(block_tiles(step, block) for block in blocks)
        fetches = core.weight_words * ceil(pixels / core.accumulator_rows)
        groups = GROUP * ceil(pixels / GROUP) * ceil(step.channels / core.lanes)
        array += count * tiles * max(pixels, fetches)
        vector += count * groups * step.kernel[0] * step.kernel[1]
        epilogue += count * groups * EPILOGUE_OPERATIONS
        loads += count * sum(weight_bytes(core, step, block) for block in blocks) // core.bus_bytes
    return max(array, epilogue), vector + epilogue, loads


def main() -> None:
    """Print the table."""
    print("core        network       array    vector   loads")
    for name in CORES:
        for title, layers in (("OCR", OCR), ("MobileNet V2", MOBILENET_V2)):
            found = cycles(Core.of(chips.load(name)), ((step_of(*sizes), count) for sizes, count in layers.items()))
            print(f"{name:<12}{title:<14}" + "".join(f"{one:<9}" for one in found))


if __name__ == "__main__":
    main()
