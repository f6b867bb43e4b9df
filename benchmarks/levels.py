"""Utilisation and speed of the template's levels, each beside its bar: ``python benchmarks/levels.py [--no-rtl]``.

Matmuls and matrix-vector products of 512 and 4096, whole runs with boot, of which each is run by the simulator and by the RTL:
their cycles must be equal. The memory gives ``bus_bytes`` (32) a cycle after a latency of 40. Speeds are by processor time, so
that other work on the machine counts little, and the best of some runs.
"""

import os
import sys
import time
from dataclasses import replace

import numpy as np

from presilicon import chip as chips
from presilicon.compiler.corpus.gemm import Weights, gemm
from presilicon.dram import DramOptions
from presilicon.isa import INSTRUCTION_BYTES, Program
from presilicon.simulate.machine import run
from presilicon.template import Core

RTL = "--no-rtl" not in sys.argv
failed = []


def processor_s() -> float:
    """Processor time of this process and of those it has waited for, so far."""
    return time.process_time() + sum(os.times()[2:4])


def report(what: str, value: float, bar: float, unit: str = "") -> None:
    """One line, and a note where the bar is missed."""
    missed = value < bar
    print(f"{what:66} {value:12,.4g} {unit:9} bar {bar:,.4g}{'  MISSED' if missed else ''}", flush=True)
    if missed:
        failed.append(what)


def product(core: Core, m: int, k: int, n: int, int4: bool = False) -> Program:
    """The program of a matmul with random weights."""
    rng = np.random.default_rng(0)
    groups = -(-64 // core.rows)
    shape = (-(-k // (core.rows * groups)), n)
    return gemm(
        core,
        m,
        Weights(
            values=rng.integers(-8, 8, (k, n), dtype=np.int8),
            scale=np.full(n, 0.01, np.float32),
            bias=np.zeros(n, np.int32),
            multipliers=rng.integers(1, 16, shape, dtype=np.uint8) if int4 else None,
            group_blocks=groups if int4 else 0,
        ),
    )


def simulated(core: Core, program: Program) -> int:
    """Simulated cycles, timing only."""
    return run(program, core, values=False, events=False, options=DramOptions()).cycles


def on_rtl(core: Core, program: Program, runs: int = 1) -> tuple[int, float]:
    """Cycles of the RTL, and the most of them a second."""
    from presilicon.rtl.runner import Launch, RtlMachine

    best = 0.0
    memory = program.memory()
    launch = Launch(address=program.address, size_bytes=INSTRUCTION_BYTES * len(program.instructions))
    with RtlMachine(core, memory) as machine:
        for _ in range(runs):
            machine.reset()
            memory[:] = program.memory()
            start = processor_s()
            done = machine.run([launch])
            best = max(best, done.cycles / (processor_s() - start))
    return done.cycles, best


def cycles(core: Core, m: int, k: int, n: int, int4: bool = False) -> int:
    """Cycles of a product: of the RTL, which the simulator's equal, or without the RTL the simulator's."""
    program = product(core, m, k, n, int4)
    spent = simulated(core, program)
    if RTL:
        found, _ = on_rtl(core, program)
        if found != spent:
            print(f"{m}x{k}x{n}: the simulator says {spent} cycles, the RTL {found}")
            failed.append(f"{m}x{k}x{n}")
        return found
    return spent


def main() -> int:
    """Every figure; 1 where a bar is missed."""
    small, large = (Core.of(chips.load(name)) for name in ("core-16x16", "core-32x32"))
    two_rows = replace(small, weight_rows_per_cycle=2)
    level = "RTL" if RTL else "simulated"
    for core, name in ((small, "16x16"), (large, "32x32")):
        peak = core.rows * core.cols
        report(f"{level} utilisation of 512x512x512 on {name}", 512**3 / (peak * cycles(core, 512, 512, 512)), 0.98)
    for core, name in ((large, "32x32"), (two_rows, "16x16, two weight rows a cycle"), (small, "16x16, four")):
        whole = cycles(core, 1, 4096, 4096)
        report(f"{level} bandwidth of a product 1x4096x4096, {name}", 4096 * 4096 / 32 / whole, 0.95, "of 32 B")
        if core is not two_rows:
            report(f"{level} int4 over int8, {name}", whole / cycles(core, 1, 4096, 4096, int4=True), 1.8, "times")

    cube = product(small, 512, 512, 512)
    best = 0.0
    for _ in range(15):
        start = processor_s()
        spent = simulated(small, cube)
        best = max(best, spent / (processor_s() - start))
    report("simulator, timing only, 512x512x512 on 16x16", best, 20e6, "cycles/s")
    if RTL:
        from presilicon.rtl.runner import verilog_of

        start = processor_s()
        verilog_of(Core(64, 64, 32, 64, 2, 1 << 20, 8, 256))
        report("Verilog of the 64x64 chip, 20 s over its time", 20.0 / (processor_s() - start), 1.0, "times")
        report("RTL of a whole core, 16x16 with 16 lanes", on_rtl(small, cube, 3)[1], 100e3, "cycles/s")
        report("RTL of a whole core, 32x32 with 32 lanes", on_rtl(large, product(large, 512, 512, 512))[1], 0.0, "cycles/s")
    print(f"{len(failed)} bars missed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
