"""Energy of the array's actions from its gates: ``python -m presilicon.rtl.measure_energy CHIP ...``.

The array of each chip is mapped and runs GEMMs of random int8 (power.py): blocks of moving rows, each with its weights fetched
behind the rows of the block before, as the matmul engine does. Written to ``data/technology/gate_energy.csv``.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from datetime import date
from importlib import resources
from pathlib import Path

from presilicon.economics.actions import COLUMNS, Measured, fit, left_out, measured
from presilicon.files import write_whole
from presilicon.rtl.liberty import Library
from presilicon.rtl.power import Gates
from presilicon.rtl.synthesis import Synthesis
from presilicon.template import Core

ARRAY = "presilicon_array"
BLOCK_ROWS = (16, 64, 0)
"""Moving rows of a block in the runs of a core; 0: nothing moves."""
_IDLE_CYCLES = 32
_HEAD = (
    "# Energy of the array's cells by zero-delay gate simulation, OSU 0.18 um at 1.8 V, 64 streams of uniform random int8; no\n"
    "# wires, no glitches, no memories. Written by `python -m presilicon.rtl.measure_energy CHIP ...`.\n"
)


def run(core: Core, made: Synthesis, rows: int) -> Measured:
    """Two blocks of ``rows`` moving rows with their weights, after one that is not counted."""
    gates = Gates(made.netlists, ARRAY, made.library)
    late = core.scratchpad_read_cycles
    length = max(rows, core.weight_words) if rows else _IDLE_CYCLES
    x_bits, w_bits = len(gates.inputs["x_data"]), len(gates.inputs["w_data"])
    gates.step(dict.fromkeys(gates.inputs, 0))
    moved, fetched = [False] * late, [False] * late
    for cycle in range(3 * length + late):
        at = cycle % length
        move, fetch = at < rows, at < core.weight_words and rows > 0
        ports: dict[str, int | list[int]] = {"move": int(move), "swap": int(move and at == 0), "fetch": int(fetch), "index": at}
        if not fetch:
            ports["index"] = 0
        moved.append(move)
        fetched.append(fetch)
        if moved[-1 - late]:
            ports["x_data"] = gates.random(x_bits)
        if fetched[-1 - late]:
            ports["w_data"] = gates.random(w_bits)
        if cycle == length + late:
            gates.reset_energy()
        gates.step(ports)
    return Measured(
        core=core,
        cycles=gates.cycles,
        macs=2 * rows * core.rows * core.cols,
        weight_bytes=2 * core.rows * core.cols if rows else 0,
        energy_j=gates.energy_j,
    )


def as_csv(rows: Sequence[Measured]) -> str:
    """The text of gate_energy.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, "cycles", "macs", "weight_bytes", "energy_j", "date"])
    for row in rows:
        own = [getattr(row.core, name) for name in COLUMNS]
        writer.writerow([*own, row.cycles, row.macs, row.weight_bytes, f"{row.energy_j:.5g}", date.today().isoformat()])
    return _HEAD + out.getvalue()


def main(chips: Sequence[str]) -> None:
    """Measures, writes and says how well the model of actions does."""
    from presilicon.chip import load
    from presilicon.rtl.build import ToolError
    from presilicon.rtl.liberty import liberty_file, read
    from presilicon.rtl.synthesis import synthesise

    path = liberty_file()
    if path is None:
        raise ToolError("no standard-cell library is installed", hint="sudo apt-get install qflow-tech-osu018")
    library: Library = read(path)
    rows = []
    for chip in chips:
        core = Core.of(load(chip))
        made = synthesise(core, library)
        rows += [run(core, made, block) for block in BLOCK_ROWS]
    if rows:
        write_whole(Path(str(resources.files("presilicon") / "data" / "technology" / "gate_energy.csv")), as_csv(rows))
        measured.cache_clear()
    for name, value in fit(measured()).items():
        print(f"{name}: {value:.3g} J")
    for row, error in zip(measured(), left_out(measured()), strict=True):
        print(f"{row.core.rows}x{row.core.cols}, {row.macs} MACs in {row.cycles} cycles: {100 * error:+.1f} % when left out")


if __name__ == "__main__":
    main(sys.argv[1:])
