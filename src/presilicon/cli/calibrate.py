"""``presilicon calibrate``: the constants of one chip from measurements of one's own."""

from __future__ import annotations

import click

from presilicon.cli.options import ChipName, as_json
from presilicon.cli.output import print_json, print_table, progress, say


@click.command(name="calibrate", short_help="Fit a chip's constants to your own measurements.")
@click.argument("chip", type=ChipName(), metavar="CHIP")
@click.option("--measurements", required=True, type=click.Path(), metavar="FILE", help="CSV of measurements of this chip.")
@click.option("-o", "--output", required=True, type=click.Path(), metavar="CHIP.toml", help="Where the fitted chip is written.")
@as_json
def calibrate(chip: str, measurements: str, output: str, as_json: bool) -> None:
    """Fit the constants of CHIP to measurements, and write it as a chip of your own.

    \b
    presilicon calibrate h100 --measurements gemm.csv -o my-h100.toml
    presilicon estimate llama-3.1-8b --chip my-h100.toml

    The table is known by its header, as in `presilicon validate`: gemm (chip,dtype,m,n,k,latency_s), power, attention or
    collective. Half of the shapes are held back where there are enough, and the errors shown are on those.
    """
    from presilicon import validate as validation
    from presilicon.files import write_whole
    from presilicon.units import percent

    progress("fitting ...")
    found = validation.calibrate(chip, measurements)
    write_whole(output, found.chip.to_toml())
    if as_json:
        print_json("calibrate", {**found.to_json(), "output": output})
        return
    say(f"{found.chip.name}, {found.rows} rows: error {percent(found.before)} before, {percent(found.after)} after.")
    say(f"Errors are medians, on {found.scored_on}. Written: {output}")
    say()
    print_table(("constant", "fitted"), [(name, f"{value:.4g}") for name, value in found.constants.items()], right=("fitted",))
