"""What ``presilicon check`` prints of a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from presilicon.cli.output import print_json, print_table, progress, say
from presilicon.units import si

if TYPE_CHECKING:
    from presilicon.check_model import ModelCheck
    from presilicon.dram import DramOptions
    from presilicon.flow import Built

# Names of steps are cut to this many letters.
WIDEST_NAME = 34


def is_model(name: str) -> bool:
    """Whether ``check`` is to take its argument as a whole model."""
    if name.lower().endswith(".onnx"):
        return True
    from presilicon.frontend.encoder_onnx import PACKAGES

    return name.strip().lower() in PACKAGES


def check_whole_model(
    model: str,
    chip: str,
    *,
    rtl: bool,
    seed: int,
    options: DramOptions,
    trace: str | None,
    vcd: str | None,
    as_json: bool,
    compiling: dict[str, Any],
) -> int:
    """Compile a model, run it on every level with random inputs, and print where the levels part. The exit code."""
    from presilicon.check_model import check_model, random_inputs
    from presilicon.chip import load
    from presilicon.flow import build

    built = build(model, load(chip), progress=progress, **compiling)
    if rtl:
        progress("building the RTL, or finding it built ...")
    done = check_model(
        built.compiled,
        random_inputs(built.compiled, seed),
        rtl=rtl,
        options=options,
        vcd=Path(vcd) if vcd else None,
        progress=lambda cycles, speed: progress(f"{cycles:,} cycles, {speed:,.0f} a second"),
    )
    if trace:
        _write_trace(trace, built, done)
    if as_json:
        print_json("check", _json(chip, options, built, done))
    else:
        _print(chip, options, built, done)
    return 0 if done.agrees else 1


def _write_trace(path: str, built: Built, done: ModelCheck) -> None:
    from presilicon.files import write_whole
    from presilicon.simulate.timeline import timeline

    part = built.compiled.chip_parts[0]
    levels: dict[str, Any] = {
        level: [(e.core, e.engine, e) for run in result.parts for e in run.events]
        for level, result in done.results.items()
        if level != "reference"
    }
    write_whole(path, timeline(levels, part.programs[0]))


def _json(chip: str, options: DramOptions, built: Built, done: ModelCheck) -> dict[str, Any]:
    return {
        "model": built.compiled.name,
        "chip": chip,
        "memory": list(options.active()),
        "calibration": built.report.calibration,
        "mismatches": {name: done.mismatches.get(name) for name in ("reference_simulate", "simulate_rtl")},
        "cycles": {level: done.cycles.get(level) for level in ("estimate", "simulate", "rtl")},
        "utilization": done.utilization,
        "operators": [
            {
                "name": line.name,
                "kind": line.kind,
                "nodes": list(line.nodes),
                "cycles": dict(line.cycles),
                "macs": line.macs,
                "utilization": line.utilization,
                "bytes": line.bytes,
                "bound": line.bound,
            }
            for line in done.steps
        ],
    }


def _print(chip: str, options: DramOptions, built: Built, done: ModelCheck) -> None:
    levels = [level for level in ("estimate", "simulate", "rtl") if level in done.cycles]
    memory = f" ({', '.join(options.active())})" if options.active() else ""
    rows = [
        (
            line.name if len(line.name) <= WIDEST_NAME else "..." + line.name[3 - WIDEST_NAME :],
            line.kind.lower(),
            *(f"{line.cycles[level]:,}" for level in levels),
            f"{100 * line.utilization:.1f} %" if line.macs else "-",
            si(line.bytes, "B"),
            line.bound,
        )
        for line in done.steps
    ]
    columns = ("step", "kind", *levels, "utilization", "bytes", "bound")
    print_table(columns, rows, right=columns[2:-1], title=f"{built.compiled.name} on {chip}: cycles by step{memory}")
    totals = ", ".join(f"{level} {done.cycles[level]:,}" for level in levels)
    used = f"; the array at {100 * done.utilization:.1f} % of its peak" if done.utilization else ""
    say(f"Cycles in all: {totals}{used}.")
    told = {"reference_simulate": "reference and simulator", "simulate_rtl": "simulator and RTL"}
    for name, count in done.mismatches.items():
        say(f"{count:,} bytes differ between {told[name]}.")
