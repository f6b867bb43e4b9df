"""Verilog of template cores of many sizes, emitted and linted: ``python benchmarks/rtl_sizes.py [--all]``.

Rows and columns are any multiple of 4 from 4 to 128. Without ``--all`` each value of either is met once, beside a value of the
other that a step of 11 chooses, with lanes, bus, weight rows and cores in turn (32 cores); with it every pair is (1,024).
"""

import sys
import time

from presilicon.errors import ChipError
from presilicon.rtl.build import lint
from presilicon.rtl.emit import modules
from presilicon.template import Core

VALUES = range(4, 129, 4)


def core_of(rows: int, cols: int, turn: int) -> Core:
    """A core with this array and, by turns, other parts."""
    lanes = [n for n in (4, 8, 16, 32) if cols % n == 0]
    bus = (16, 32, 64)[turn % 3]
    per_cycle = max(1, -(-bus // cols))
    if per_cycle > rows:  # a tiny array cannot use a wide bus
        bus, per_cycle = 16, -(-16 // cols)
    vector = lanes[turn % len(lanes)]
    widest = max(rows, cols * per_cycle, 4 * vector, bus)
    banks = (4, 8)[turn % 2]
    size = 4 * banks << (widest - 1).bit_length()
    return Core(
        rows=rows, cols=cols, lanes=vector, bus_bytes=bus, weight_rows_per_cycle=per_cycle, scratchpad_bytes=size,
        scratchpad_banks=banks, accumulator_rows=32, cores=1 + (turn % 5 == 4),
    )  # fmt: skip


def main() -> int:
    """Emit and lint each; 1 where one fails."""
    every = "--all" in sys.argv[1:]
    pairs = [(r, c) for r in VALUES for c in VALUES]
    if not every:
        pairs = [(VALUES[i], VALUES[11 * i % len(VALUES)]) for i in range(len(VALUES))]
    wrong = []
    for turn, (rows, cols) in enumerate(pairs):
        began = time.perf_counter()
        try:
            texts = modules(core_of(rows, cols, turn))
            told = lint("\n".join(texts.values()))
        except ChipError as error:
            told = str(error)
        megabytes = sum(map(len, texts.values())) / 1e6
        print(f"{rows:4} x {cols:<4} {megabytes:5.2f} MB {time.perf_counter() - began:6.1f} s {told[:200]}", flush=True)
        if told:
            wrong.append((rows, cols))
    print(f"{len(pairs) - len(wrong)} of {len(pairs)} sizes are clean")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
