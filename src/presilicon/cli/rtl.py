"""``presilicon rtl``: the Verilog of a chip and what belongs to it."""

from __future__ import annotations

import click

from presilicon.cli.options import ChipName, as_json
from presilicon.cli.output import print_json, progress, say


@click.command(name="rtl", short_help="Verilog of a template chip, with registers, driver and test bench.")
@click.argument("chip", type=ChipName(), metavar="CHIP")
@click.option("-o", "--output", required=True, type=click.Path(), metavar="DIR", help="Folder the files go to.")
@as_json
def rtl(chip: str, output: str, as_json: bool) -> None:
    """Write the synthesizable Verilog of CHIP, and all that one needs to use it, to a folder.

    \b
    presilicon rtl core-16x16 -o core
    presilicon rtl my-core.toml -o core --json

    CHIP is a chip of the template (core-4x4 ... core-32x32, or a TOML file with a [template] table). The folder gets
    rtl/ (a file a module; presilicon_sram.v is what memory macros replace), the register map (JSON, a page, a C header),
    an example driver in C, the rules of clock and reset, the instruction set, and bench/, a test bench that checks itself.
    """
    from presilicon.chip import load
    from presilicon.files import write_folder
    from presilicon.rtl.bench import bench, bench_files
    from presilicon.rtl.emit import files
    from presilicon.simulate.machine import run
    from presilicon.template import Core

    core = Core.of(load(chip))
    progress("emitting Verilog ...")
    texts = files(core)
    given = bench(core)
    after = given.memory.copy()
    found = run(given.program, core, arguments=given.arguments, dram=after)
    # With several cores the simulator's cycles are close, not exact: the bench then compares memory alone.
    texts |= bench_files(core, given, after, found.cycles if core.cores == 1 else 0)
    write_folder(output, texts)
    if as_json:
        print_json("rtl", {"chip": chip, "core_digest": core.digest(), "folder": output, "files": sorted(texts)})
        return
    say(f"{len(texts)} files in {output}: {sum(map(len, texts.values())) / 1e6:.1f} MB.")
    say("rtl/files.f lists the Verilog; bench/presilicon_bench.v says how to run it.")
