"""``presilicon synth``: a template chip mapped to standard cells, its area by block beside the model's, its critical path."""

from __future__ import annotations

import click

from presilicon.cli.options import ChipName, as_json
from presilicon.cli.output import print_json, print_table, progress, say


@click.command(name="synth", short_help="Area by block and critical path of a template chip, by synthesis.")
@click.argument("chip", type=ChipName(), metavar="CHIP")
@click.option("--liberty", metavar="FILE", help="Standard cells (.lib); else $PRESILICON_LIBERTY, else OSU 0.18 um.")
@click.option("--timing/--no-timing", default=True, help="Also find the critical path, where OpenSTA is installed (default).")
@as_json
def synth(chip: str, liberty: str | None, timing: bool, as_json: bool) -> None:
    """Map the Verilog of CHIP to standard cells with Yosys; memories are left out.

    \b
    presilicon synth core-8x8
    presilicon synth core-16x16 --liberty sky130_fd_sc_hd__tt_025C_1v80.lib --json

    Areas are cells alone: no wires, no placement. The model is that of presilicon.economics.area. Without a library
    (sudo apt-get install qflow-tech-osu018) gates are counted, without OpenSTA (sudo apt-get install opensta) there is no
    critical path. Modules that were mapped before are kept: a chip takes a minute or two at first.
    """
    from presilicon.chip import load
    from presilicon.economics.area import logic_gates
    from presilicon.rtl.liberty import liberty_file, read
    from presilicon.rtl.synthesis import gate_count, synthesise
    from presilicon.rtl.timing import timing as find_timing
    from presilicon.template import Core

    core = Core.of(load(chip))
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
