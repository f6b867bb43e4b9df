"""``presilicon synth``: a template chip mapped to standard cells, its area by block beside the model's, its critical path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.cases import named_cases
from presilicon.cli.options import ChipName, as_json
from presilicon.cli.output import print_json, print_table, progress, say
from presilicon.errors import InputError

if TYPE_CHECKING:
    from presilicon.rtl.synthesis import Synthesis
    from presilicon.template import Core


@click.command(name="synth", short_help="Area by block and critical path of a template chip, by synthesis.")
@click.argument("chip", type=ChipName(), metavar="CHIP")
@click.option("--liberty", metavar="FILE", help="Standard cells (.lib); else $PRESILICON_LIBERTY, else OSU 0.18 um.")
@click.option("--timing/--no-timing", default=True, help="Also find the critical path, where OpenSTA is installed (default).")
@click.option("--power", metavar="PROGRAM", help="Also run a program on the gates, and tell the energy of each block.")
@as_json
def synth(chip: str, liberty: str | None, timing: bool, power: str | None, as_json: bool) -> None:
    """Map the Verilog of CHIP to standard cells with Yosys; memories are left out.

    \b
    presilicon synth core-8x8
    presilicon synth core-16x16 --liberty sky130_fd_sc_hd__tt_025C_1v80.lib --json
    presilicon synth core-4x4 --power gemm:16x64x16

    Areas are cells alone: no wires, no placement. The model is that of presilicon.economics.area. Without a library
    (sudo apt-get install qflow-tech-osu018) gates are counted, without OpenSTA (sudo apt-get install opensta) there is no
    critical path. Modules that were mapped before are kept: a chip takes a minute or two at first.

    PROGRAM is a name that presilicon check takes, such as gemm:16x64x16 or corpus:softmax-1x5. It runs gate by gate, 30 to
    100 cycles a second; what the gates write must be what the simulator writes, in as many cycles. The model beside it is
    that of presilicon.economics.actions, which is fitted on OSU 0.18 um.
    """
    from presilicon.chip import load
    from presilicon.economics.area import logic_gates
    from presilicon.rtl.liberty import liberty_file, read
    from presilicon.rtl.synthesis import gate_count, synthesise
    from presilicon.rtl.timing import timing as find_timing
    from presilicon.template import Core

    core = Core.of(load(chip))
    if power is not None and core.cores > 1:
        raise InputError(f"--power runs one core, {chip} has {core.cores}", where=chip, hint="the chip of one such core")
    model = logic_gates(core)
    path = liberty_file(liberty)
    progress("mapping to standard cells ...")
    if path is None:
        count = gate_count(core)
        if as_json:
            nothing = {"cell_area_um2": None, "critical_path_ns": None, "model_area_um2": None}
            print_json(
                "synth", {"chip": chip, "library": None, **nothing, "gates": dict(count), "model_nand2": sum(model.values())}
            )
            return
        print_table(("gate", "number"), [(kind, f"{n:,}") for kind, n in count.most_common()], right=("number",))
        say()
        say(f"{count.total():,} gates. No standard-cell library is installed: sudo apt-get install qflow-tech-osu018")
        return

    library = read(path)
    made = synthesise(core, library)
    found = find_timing(made) if timing else None
    ran = _power(power, core, made) if power is not None else None
    area, modelled = made.cell_area_um2, sum(model.values()) * library.nand2_um2
    vector_um2 = made.block_area_um2.get("vector", 0.0) + made.block_area_um2.get("vector_lanes", 0.0)
    if as_json:
        blocks = {
            block: {"cell_area_um2": um2, "model_area_um2": model[block] * library.nand2_um2 if block in model else None}
            for block, um2 in sorted(made.block_area_um2.items())
        }
        values = {
            "chip": chip,
            "library": library.name,
            "cell_area_um2": area,
            "critical_path_ns": found.worst.delay_ns if found else None,
            "model_area_um2": modelled,
            "nand2_area_um2": library.nand2_um2,
            "cells": made.cells,
            "flip_flop_area_um2": made.flip_flop_area_um2,
            "vector_unit": {"cell_area_um2": vector_um2, "share": vector_um2 / area},
            "blocks": blocks,
            "critical_path": {"start": found.worst.start, "end": found.worst.end} if found else None,
            "paths_ns": dict(sorted(found.delay_ns.items(), key=lambda item: -item[1])) if found else None,
            "power": ran,
        }
        print_json("synth", values)
        return
    rows = [
        (
            block,
            f"{um2:,.0f}",
            f"{100 * um2 / area:.1f} %",
            f"{model[block] * library.nand2_um2:,.0f}" if block in model else "",
            f"{100 * (model[block] * library.nand2_um2 / um2 - 1):+.1f} %" if block in model else "",
        )
        for block, um2 in sorted(made.block_area_um2.items(), key=lambda item: -item[1])
    ]
    rows.append(("all", f"{area:,.0f}", "", f"{modelled:,.0f}", f"{100 * (modelled / area - 1):+.1f} %"))
    columns = ("block", "cells, um2", "share", "model, um2", "model off by")
    print_table(columns, rows, right=columns[1:], title=f"{chip} in {library.name}, memories left out")
    say()
    say(
        f"{made.cells:,} cells; flip-flops {100 * made.flip_flop_area_um2 / area:.0f} %, "
        f"vector unit {100 * vector_um2 / area:.0f} %."
    )
    if found:
        say(f"Critical path, without wires: {found.worst.delay_ns:.2f} ns, {found.worst.start} to {found.worst.end}.")
    elif timing:
        say("No critical path: OpenSTA is not installed (sudo apt-get install opensta).")
    if ran:
        _print_power(ran)


def _power(name: str, core: Core, made: Synthesis) -> dict[str, Any]:
    """A program on the gates: energy by block, and the model's."""
    from presilicon.check import gate_task
    from presilicon.economics.actions import ACTIONS, energy_j
    from presilicon.rtl.measure_energy import run

    cases = list(named_cases(name, core, 0))
    if len(cases) > 1:
        raise InputError(f"{name} is {len(cases)} programs", where="--power", hint="one, such as gemm:16x64x16")
    progress(f"{cases[0].name}: running on the gates ...")
    (row,) = run(core, made, [gate_task(cases[0], core)])
    model = {block: sum(parts) for block, parts in energy_j(core, row).items()}
    return {
        "program": row.program,
        "cycles": row.cycles,
        "energy_j": row.whole_j,
        "model_energy_j": sum(model.values()),
        "energy_j_per_cycle": row.whole_j / row.cycles,
        "actions": dict(row.actions),
        "blocks": {
            block: {
                "energy_j": row.energy_j[block],
                "clock_j": row.clock_j[block],
                "model_energy_j": model[block],
                "memory_bytes": row.memory_bytes.get(block, 0.0),
            }
            for block in ACTIONS
        },
    }


def _print_power(ran: dict[str, Any]) -> None:
    say()
    rows = [
        (
            block,
            f"{1e9 * told['energy_j']:,.2f}",
            f"{100 * told['energy_j'] / ran['energy_j']:.1f} %",
            f"{100 * told['clock_j'] / told['energy_j']:.0f} %",
            f"{100 * (told['model_energy_j'] / told['energy_j'] - 1):+.1f} %",
            f"{told['memory_bytes']:,.0f}" if told["memory_bytes"] else "",
        )
        for block, told in sorted(ran["blocks"].items(), key=lambda item: -item[1]["energy_j"])
    ]
    off = ran["model_energy_j"] / ran["energy_j"] - 1
    rows.append(("all", f"{1e9 * ran['energy_j']:,.2f}", "", "", f"{100 * off:+.1f} %", ""))
    columns = ("block", "gates, nJ", "share", "of it clock", "model off by", "bytes at its memories")
    print_table(columns, rows, right=columns[1:], title=f"{ran['program']} on the gates, {ran['cycles']:,} cycles as simulated")
    say()
    say(f"{1e12 * ran['energy_j_per_cycle']:,.0f} pJ a cycle, without wires, clock tree and the memories' own energy.")
