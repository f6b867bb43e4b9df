"""``presilicon cost``: what a chip costs to make, block by block and part by part, and its export class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from presilicon.cli.options import ChipName, as_json, count_option
from presilicon.cli.output import print_json, print_table, say

_PARTS = {
    "die_usd": "die, tested",
    "package_usd": "package",
    "memory_usd": "memory",
    "test_usd": "test and assembly",
    "board_usd": "board and cooling",
    "loss_usd": "lost in assembly",
    "unit_usd": "one unit",
    "nre_usd": "before the first one",
    "usd_at_volume": "one at this volume",
}


@click.command(name="cost", short_help="What a chip costs to make: die, yield, package, memory, masks, design.")
@click.argument("chip", type=ChipName(), metavar="CHIP")
@count_option("--volume", "Chips that bear the masks and the design.")
@as_json
def cost(chip: str, volume: int | None, as_json: bool) -> None:
    """Area, yield, cost of parts, masks and design, and the US export class of CHIP.

    \b
    presilicon cost h100
    presilicon cost core-32x32 --volume 100000
    presilicon cost my-chip.toml --json

    A CHIP whose die area is blank gets one from its blocks. Prices are published estimates with their ranges; p10, p50 and
    p90 are percentiles over draws from these. No margin is in the table; what one sells for is told below it.
    """
    from presilicon.chip import load
    from presilicon.economics.cost import cost as find

    found = find(load(chip), volume=volume).to_json()
    if as_json:
        print_json("cost", found)
    else:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    area, blocks = found["area_mm2"], found["area_mm2"]["blocks"]
    if blocks:
        whole = sum(blocks.values())
        rows = [
            (name, f"{value:,.4g}", f"{100 * value / whole:.1f} %")
            for name, value in sorted(blocks.items(), key=lambda b: -b[1])
        ]
        rows.append(("all", f"{whole:,.4g}", ""))
        print_table(
            ("block", "mm2, modelled", "share"),
            rows,
            right=("mm2, modelled", "share"),
            title=f"{found['chip']}, {found['process_node']}",
        )
        say()
    dies = f"{found['dies']} dies, " if found["dies"] > 1 else ""
    say(f"Area: {dies}{_range(area)} mm2 ({area['basis']}). Yield: {_range(found['yield'], 100)} %.")
    say()
    parts = [
        (told, *(_usd(found[key][p]) for p in ("value", "p10", "p50", "p90")))
        for key, told in _PARTS.items()
        if found.get(key) and found[key]["p90"]
    ]
    columns = ("USD", "value", "p10", "p50", "p90")
    print_table(columns, parts, right=columns[1:])
    say()
    curve = ", ".join(f"{_usd(one['usd']['value'])} USD each for {one['volume']:,}" for one in found["volume_curve"])
    say(f"With masks and design borne by all: {curve}.")
    partner, vendor = (_usd(found["price_usd"][seller]["value"]) for seller in ("partner", "vendor"))
    say(f"Sold at the margin of a partner that makes it to order: {partner} USD; at a vendor's: {vendor} USD.")
    say()
    for line in found["taken"]:
        say(f"Not published: {line}.")
    if found["policy"]:
        _print_policy(found["policy"])


def _print_policy(policy: Mapping[str, Any]) -> None:
    density = f", performance density {policy['density']:.2f}" if policy["density"] is not None else ""
    say(f"Export: TPP {policy['tpp']:,.0f}{density}: {policy['eccn'] or 'below the thresholds'}, {policy['licence']}.")
    for note in policy["notes"]:
        say(f"{note[:1].upper()}{note[1:]}.")
    say(f"{policy['rule']}; as of {policy['as_of']}. {policy['advice']}")


def _range(spread: Mapping[str, float], scale: float = 1.0) -> str:
    """``value (p10 to p90)``, or the value alone where it is certain."""
    value = f"{spread['value'] * scale:.4g}"
    ends = f"{spread['p10'] * scale:.3g} to {spread['p90'] * scale:.3g}"
    return value if spread["p10"] == spread["p90"] else f"{value} ({ends})"


def _usd(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"
