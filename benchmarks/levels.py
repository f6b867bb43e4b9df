"""Speed and utilisation of the template's levels, each beside its bar: ``python benchmarks/levels.py [--no-rtl]``.

Utilisation is of the whole run, boot included, with a memory that does not limit (bus_bytes a cycle, latency 40). The RTL's
speed is the best of three runs; the first builds its model.
"""

import sys
import time
from dataclasses import replace

import numpy as np

from presilicon import chip as chips
from presilicon.compiler.gemm import Weights, gemm
from presilicon.dram import DramOptions
from presilicon.isa import INSTRUCTION_BYTES, Program
from presilicon.simulate.machine import run
from presilicon.template import Core

failed = []


def report(what: str, value: float, bar: float, unit: str) -> None:
    """One line, and a note where the bar is missed."""
    print(f"{what:58} {value:14,.4g} {unit:10} bar {bar:,.4g}", flush=True)
    if value < bar:
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


def cycles(core: Core, program: Program) -> int:
    """Simulated cycles, timing only."""
    return run(program, core, values=False, events=False, options=DramOptions()).cycles


def main() -> int:
    """Every figure; 1 where a bar is missed."""
    small, large = (Core.of(chips.load(name)) for name in ("core-16x16", "core-32x32"))
    cube = product(small, 512, 512, 512)
    for core, name in ((small, "16x16"), (large, "32x32")):
        spent = cycles(core, product(core, 512, 512, 512))
        report(f"utilisation of 512x512x512 on {name}", 512**3 / (core.rows * core.cols * spent), 0.98, "")
    two_rows = replace(small, weight_rows_per_cycle=2)
    for core, name in ((large, "32x32"), (two_rows, "16x16, two weight rows a cycle")):
        share = 4096 * 4096 / 32 / cycles(core, product(core, 1, 4096, 4096))
        report(f"bandwidth of an int8 matrix-vector product, {name}", share, 0.95, "of 32 B")
    for core, name in ((large, "32x32"), (small, "16x16")):
        gain = cycles(core, product(core, 1, 4096, 4096)) / cycles(core, product(core, 1, 4096, 4096, int4=True))
        report(f"int4 over int8, {name}", gain, 1.8, "times")
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        spent = cycles(small, cube)
        best = max(best, spent / (time.perf_counter() - start))
    report("simulator, timing only, 512x512x512 on 16x16", best, 20e6, "cycles/s")
    if "--no-rtl" in sys.argv:
        return bool(failed)

    from presilicon.rtl.runner import Launch, RtlMachine, verilog_of

    start = time.perf_counter()
    verilog_of(Core(64, 64, 32, 64, 2, 1 << 20, 8, 256))
    report("Verilog of the 64x64 chip, a second over 20", 20.0 / (time.perf_counter() - start), 1.0, "times")
    for core, name, bar in ((small, "16x16, 16 lanes", 100e3), (large, "32x32, 32 lanes", 0.0)):
        program = product(core, 512, 512, 512)
        memory = program.memory()
        with RtlMachine(core, memory) as machine:
            best = 0.0
            for _ in range(3 if core is small else 1):
                machine.reset()
                memory[:] = program.memory()
                launch = Launch(address=program.address, size_bytes=INSTRUCTION_BYTES * len(program.instructions))
                start = time.perf_counter()
                done = machine.run([launch])
                best = max(best, done.cycles / (time.perf_counter() - start))
            report(f"RTL cycles a second, whole core, {name}", best, bar, "cycles/s")
            report(f"RTL utilisation of 512x512x512, {name}", 512**3 / (core.rows * core.cols * done.cycles), 0.98, "")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
