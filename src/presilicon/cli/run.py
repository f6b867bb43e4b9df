"""``presilicon run``: a compiled model on the reference, the simulator or the RTL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import ChipName, as_json
from presilicon.cli.output import print_json, progress, say
from presilicon.errors import InputError

if TYPE_CHECKING:
    from presilicon.compiler.compiled import Compiled
    from presilicon.session import Result


@click.command(name="run", short_help="A compiled model on the reference, the simulator or the RTL.")
@click.argument("program", type=click.Path(), metavar="PROGRAM")
@click.option(
    "--level", type=click.Choice(["reference", "simulate", "rtl"]), default="simulate", show_default=True, help="Where it runs."
)
@click.option("--inputs", required=True, type=click.Path(), metavar="X.npz", help="The model's inputs by name.")
@click.option("--outputs", required=True, type=click.Path(), metavar="Y.npz", help="File its outputs go to.")
@click.option("--chip", type=ChipName(), metavar="CHIP", help="Refuse a program that was compiled for another chip.")
@click.option("--dram-latency", default=40, show_default=True, metavar="CYCLES", help="Latency of the memory.")
@click.option("--trace", type=click.Path(), metavar="T.json", help="Write the timeline for Perfetto.")
@click.option("--vcd", type=click.Path(), metavar="W.vcd", help="Write the RTL's wave form.")
@as_json
def run(
    program: str,
    level: str,
    inputs: str,
    outputs: str,
    chip: str | None,
    dram_latency: int,
    trace: str | None,
    vcd: str | None,
    as_json: bool,
) -> None:
    """Run a compiled model and write its outputs.

    \b
    presilicon run model.prog --inputs x.npz --outputs y.npz
    presilicon run model.prog --level rtl --inputs x.npz --outputs y.npz --trace timeline.json

    reference is exact arithmetic in numpy, simulate the simulator, rtl the generated Verilog with Verilator; all three give
    the same bytes. X.npz holds arrays by the names of the model's inputs (numpy.savez).
    """
    from presilicon.compiler.array_files import read_arrays, write_arrays
    from presilicon.compiler.compiled import Compiled, HostPart
    from presilicon.dram import DramOptions
    from presilicon.session import LEVELS, Session

    if vcd and level != "rtl":
        raise InputError("a wave form comes from the RTL alone", where="--vcd", hint="--level rtl")
    if trace and level == "reference":
        raise InputError("the reference has no timeline", where="--trace", hint="--level simulate or rtl")
    compiled = Compiled.read(program)
    if chip:
        _same_chip(compiled, chip, program)
    given = read_arrays(inputs)
    if level == "rtl":
        progress("building the RTL, or finding it built ...")
    with Session(
        compiled,
        LEVELS[LEVELS.index(level)],
        options=DramOptions(latency=dram_latency),
        events=bool(trace),
        vcd=Path(vcd) if vcd else None,
        progress=lambda cycles, speed: progress(f"{cycles:,} cycles, {speed:,.0f} a second"),
    ) as session:
        result = session.run(given)
    write_arrays(outputs, result.outputs)
    if trace:
        _write_trace(trace, compiled, level, result)
    values: dict[str, Any] = {
        "model": compiled.name,
        "chip": compiled.chip.name,
        "level": level,
        "cycles": result.cycles or None,
        "chip_time_s": result.chip_time_s or None,
        "wall_s": result.wall_s,
        "utilization": result.utilization,
        "host_bytes": sum(part.host_bytes for part in result.parts),
        "outputs": {name: list(value.shape) for name, value in result.outputs.items()},
    }
    if as_json:
        print_json("run", values)
        return
    say(f"{compiled.name} on {compiled.chip.name}, level {level}: {', '.join(result.outputs)} in {outputs}.")
    if result.cycles:
        used = f"{100 * (result.utilization or 0):.1f} % of the array's peak"
        say(f"{result.cycles:,} cycles, {1e3 * result.chip_time_s:.3f} ms on the chip, {used}; {result.wall_s:.1f} s here.")
    if values["host_bytes"]:
        nodes = sum(len(part.nodes) for part in compiled.parts if isinstance(part, HostPart))
        say(f"{nodes} node{'s' if nodes > 1 else ''} ran on the host: {values['host_bytes']:,} bytes went there and back.")


def _same_chip(compiled: Compiled, chip: str, program: str) -> None:
    from presilicon.chip import load
    from presilicon.template import Core

    own, asked = compiled.core.digest(), Core.of(load(chip)).digest()
    if own != asked:
        raise InputError(
            f"was compiled for {compiled.chip.name} ({own}), not for {chip} ({asked})",
            where=program,
            hint=f"compile it again with --chip {chip}",
        )


def _write_trace(path: str, compiled: Compiled, level: str, result: Result) -> None:
    from presilicon.files import write_whole
    from presilicon.simulate.timeline import timeline

    part = compiled.chip_parts[0]
    run = next(one for one in result.parts if one.events)
    write_whole(path, timeline({level: [(e.core, e.engine, e) for e in run.events]}, part.programs[0]))
