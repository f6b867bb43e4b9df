"""Decode steps of a 100-million-parameter decoder in int8 and int4, and the compilation of one with 1.1 billion weights.

python benchmarks/decode.py            # a minute
python benchmarks/decode.py --billion  # the large one too: 2.2 GB of disk, two minutes more

Weights are random, shapes Llama's (``frontend.decoder_shape``); the chip is core-32x32, 32 bytes a cycle. Bars: int8 at least
90 % of the memory's bandwidth at every position; int4 in groups of 64 at least 1.75 times faster while the cache is short, and
with four weight rows a cycle at every position (the cache is int8 in both); 1.1 billion weights in 60 s and 4 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from presilicon import chip as chips
from presilicon.compiler.emission import emit
from presilicon.compiler.lower import lower_onnx
from presilicon.frontend.decoder_file import write_decoder
from presilicon.frontend.decoder_shape import LLAMA_1B, LLAMA_100M, DecoderShape, RandomWeights
from presilicon.simulate.machine import run
from presilicon.template import Core

POSITIONS = (0, 100, 1023)
LEAST_BANDWIDTH, LEAST_GAIN = 0.90, 1.75
MOST_SECONDS, MOST_GB = 60.0, 4.0


def lowered_of(path: Path, shape: DecoderShape, weights: str):
    """The step of one token, calibrated on random tokens."""
    ids = np.random.default_rng(0).integers(0, shape.vocabulary, (1, 32))
    data = {"input_ids": ids, "position_ids": np.arange(32)[None]}
    dims = {"sequence": 1, "past": shape.context - 1}
    return lower_onnx(path, dims=dims, calibration=data, weights=weights).lowered


def cycles_of(lowered, core: Core) -> list[tuple[int, float]]:
    """Cycles and share of the bandwidth at each position."""
    emitted = emit(lowered, core)
    found = []
    for position in POSITIONS:
        done = run(emitted.programs, core, arguments={1: position}, values=False, events=False)
        moved = done.dram_read_bytes + done.dram_written_bytes
        found.append((done.cycles, moved / core.bus_bytes / done.cycles))
    return found


def steps(folder: Path) -> bool:
    """The decode steps; whether all bars are met."""
    (path,) = write_decoder(folder / "d.onnx", LLAMA_100M, RandomWeights(LLAMA_100M), stored="float16")
    two = Core.of(chips.load("core-32x32"))
    four = replace(two, weight_rows_per_cycle=4)
    int8, int4 = (lowered_of(path, LLAMA_100M, weights) for weights in ("int8", "int4"))
    base = cycles_of(int8, two)
    print("weights  rows a cycle  position      cycles  bandwidth   gain")
    good = True
    for name, core, found in (("int8", two, base), ("int4", two, cycles_of(int4, two)), ("int4", four, cycles_of(int4, four))):
        for position, (cycles, share), (plain, _) in zip(POSITIONS, found, base, strict=True):
            gain = plain / cycles
            print(f"{name:9}{core.weight_rows_per_cycle:12}{position:10}{cycles:12,}{100 * share:9.1f} %{gain:7.3f}")
            if name == "int8":
                good &= share >= LEAST_BANDWIDTH
            elif core is four or position <= 100:
                good &= gain >= LEAST_GAIN
    return good


def _compile(path: Path, results) -> None:
    began = time.perf_counter()
    lowered = lowered_of(path, LLAMA_1B, "int8")
    halfway = time.perf_counter()
    emitted = emit(lowered, Core.of(chips.load("core-32x32")))
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    results.put((halfway - began, ended - halfway, peak, len(emitted.programs[0].instructions)))


def billion(folder: Path) -> bool:
    """The large model, compiled in a process of its own."""
    path, _ = write_decoder(folder / "b.onnx", LLAMA_1B, RandomWeights(LLAMA_1B), stored="float16")
    start = multiprocessing.get_context("spawn")
    results = start.Queue()
    process = start.Process(target=_compile, args=(path, results))
    process.start()
    lowering, emission, peak, instructions = results.get()
    process.join()
    print(
        f"{LLAMA_1B.parameters / 1e9:.2f} billion weights: lowered in {lowering:.1f} s, emitted in {emission:.1f} s"
        f" ({instructions:,} instructions), peak {peak:.2f} GB"
    )
    return lowering + emission <= MOST_SECONDS and peak <= MOST_GB


def main() -> int:
    """0 where all bars are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--billion", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = steps(Path(folder))
        if given.billion:
            good &= billion(Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
