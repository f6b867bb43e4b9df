"""The self-checking test bench: a small matmul with its memory before and after, and the Verilog that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from presilicon.isa import Kernel, Program, Region, Segment, barrier, halt, kernel_text, load, matmul, reg, store, vector
from presilicon.rtl.register_map import REGISTERS
from presilicon.template import Core

ROWS = 12
BLOCKS = 3
SCALE = 2.0**-9
_PAGE = 4096
_SEED = 2026


@dataclass(frozen=True, slots=True)
class Bench:
    """A program for each core (all the same), each core's register r1, and DRAM before the start."""

    program: Program
    arguments: tuple[Mapping[int, int], ...]
    memory: NDArray[np.uint8]


def bench(core: Core) -> Bench:
    """12 rows times almost three blocks of rows of weights, requantised to int8; core c takes its own rows at r1."""
    random = np.random.default_rng(_SEED)
    k = BLOCKS * core.rows
    tile = core.weight_words * core.weight_rows_per_cycle * core.cols
    rows, out, weights = ROWS * k, ROWS * core.cols, BLOCKS * tile
    at, end = {}, _PAGE
    for name, size in (("w", weights), ("x", rows * core.cores), ("y", out * core.cores)):
        at[name] = end
        end += -(-size // _PAGE) * _PAGE

    # Operands that are used at once lie in banks of their own.
    bank = core.bank_bytes
    kernel = Kernel("requantise", 0, kernel_text(f"stream0 = acc * imm({SCALE})"))
    program = Program.build(
        core,
        [
            load(dram=reg(1) + at["x"], spad=0, run=rows),
            load(dram=at["w"], spad=_banks(rows, bank), run=weights, signal=("matmul",)),
            load(dram=_PAGE // 2, spad=0, run=kernel.slots * 16, target="kernels", signal=("vector",)),
            matmul(
                x=0, w=_banks(rows, bank), m0=ROWS, kb=BLOCKS, tail=core.rows - 1, x_stride0=k, wait=("load",),
                signal=("vector",),
            ),
            vector(
                kernel=0, rows=ROWS, strips=core.chunks, columns=core.cols, streams=(core.scratchpad_bytes - bank,),
                pitches=(core.cols,), formats=("int8",), zero_point=3, wait=("load", "matmul"), signal=("store",),
            ),
            store(dram=reg(2) + at["y"], spad=core.scratchpad_bytes - bank, run=out, wait=("vector",)),
            barrier(),
            halt(),
        ],
        kernels=[kernel],
        kernel_address=_PAGE // 2,
        data=[
            Segment(at["w"], _int8(random, weights)),
            Segment(at["x"], _int8(random, rows * core.cores)),
        ],
        regions=[Region("y", "output", "int8", (core.cores * ROWS, core.cols), at["y"])],
    )  # fmt: skip
    arguments = tuple({1: number * rows, 2: number * out} for number in range(core.cores))
    return Bench(program, arguments, program.memory())


def _int8(random: np.random.Generator, size: int) -> bytes:
    return random.integers(-128, 128, size, np.int8).tobytes()


def _banks(size: int, bank: int) -> int:
    """The first address of the bank behind ``size`` bytes."""
    return -(-size // bank) * bank


def bench_files(core: Core, given: Bench, after: NDArray[np.uint8], cycles: int) -> dict[str, str]:
    """The bench's files by name: ``after`` is DRAM after the run, ``cycles`` what a run takes (0: not compared)."""
    sizes = {
        "BUS_BYTES": core.bus_bytes,
        "CORES": core.cores,
        "ID_BITS": max(1, (core.cores - 1).bit_length()),
        "MEMORY_BYTES": len(given.memory),
        "PROGRAM": given.program.address,
        "PROGRAM_BYTES": 64 * len(given.program.instructions),
        "CYCLES": cycles,
        "LIMIT": 100 * max(cycles, 10_000),
    }
    lines = [f"`define BENCH_{name} {value}" for name, value in sizes.items()]
    lines += [f"`define {name} 16'h{r.offset + 4 * half:04x}" for r in REGISTERS for half, name in enumerate(r.word_names())]
    arguments = "".join(f"{given.arguments[core].get(register, 0):010x}\n" for core in range(core.cores) for register in (1, 2))
    return {
        "bench/presilicon_bench.v": (resources.files("presilicon.rtl") / "presilicon_bench.v").read_text(encoding="utf-8"),
        "bench/presilicon_bench.vh": "\n".join(lines) + "\n",
        "bench/before.hex": _hex(given.memory),
        "bench/after.hex": _hex(after),
        "bench/arguments.hex": arguments,
    }


def _hex(memory: NDArray[np.uint8]) -> str:
    """Bytes as $readmemh reads them, 32 a line."""
    text = memory.tobytes().hex(" ")
    return "\n".join(text[i : i + 96].rstrip() for i in range(0, len(text), 96)) + "\n"
