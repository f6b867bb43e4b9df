"""``presilicon chips``: the chip library, or all figures of one chip with their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import ChipName, as_json
from presilicon.cli.output import print_json, print_table, say
from presilicon.errors import InputError

if TYPE_CHECKING:
    from presilicon.chip import Chip

_UNITS = {"ops_per_s": "OP/s", "bytes_per_s": "B/s", "bytes": "B", "hz": "Hz", "w": "W"}


@click.command(name="chips", short_help="The chip library, or each figure of one chip and its source.")
@click.argument("name", type=ChipName(), required=False)
@click.option("--toml", is_flag=True, help="Print the chip's file, to change and use as a chip of your own.")
@as_json
def chips(name: str | None, toml: bool, as_json: bool) -> None:
    """List the chips of the library; with NAME, every figure of that chip and where it is from.

    \b
    presilicon chips                      all of them; "-" where a figure is not published
    presilicon chips h100                 one chip, with the source of each figure
    presilicon chips --json               the same for a script
    presilicon chips h100 --toml > my.toml

    NAME is a chip's name, a short name of it, or a TOML file of your own.
    """
    from presilicon import chip

    if name is not None:
        one = chip.load(name)
        if toml:
            click.echo(one.to_toml(), nl=False)
        elif as_json:
            print_json("chips", {"chips": [_entry(one) | {"figures": _figures(one)}]})
        else:
            _print_one(one)
        return
    if toml:
        raise InputError("--toml prints one chip's file", where="chips", hint="presilicon chips core-16x16 --toml")
    all_chips = chip.library()
    if as_json:
        print_json("chips", {"chips": [_entry(c) for c in all_chips]})
    else:
        _print_list(all_chips)


def _entry(one: Chip) -> dict[str, Any]:
    """The main figures of a chip, None where blank."""
    return {
        "name": one.name,
        "title": one.title,
        "vendor": one.vendor,
        "family": one.family,
        "year": one.year,
        "aliases": list(one.aliases),
        "peak_ops_per_s": dict(one.peak_ops_per_s),
        "memory_kind": one.memory.kind if one.memory else None,
        "memory_bytes": one.get("memory.bytes"),
        "memory_bytes_per_s": one.get("memory.bytes_per_s"),
        "on_chip_bytes": one.on_chip_bytes or None,
        "link_bytes_per_s": one.get("link.bytes_per_s"),
        "tdp_w": one.tdp_w,
        "process_node": one.process_node or None,
        "purchase_usd": one.price.purchase_usd,
        "rent_usd_per_hour": one.price.rent_usd_per_hour,
        "missing": list(one.missing()),
    }


def _figures(one: Chip) -> list[dict[str, Any]]:
    """Every published number of a chip with its source."""
    found = []
    for path, value in one.figures().items():
        source = one.source_of(path)
        found.append(
            {
                "figure": path,
                "value": value,
                "document": source.document if source else None,
                "url": source.url or None if source else None,
                "date": source.date or None if source else None,
                "confidence": source.confidence if source else None,
            }
        )
    return found


MAIN_COLUMNS = ("chip", "16-bit", "8-bit", "4-bit", "memory", "bandwidth", "W", "USD")
"""What ``main_figures`` gives; rates are dense operations per second, USD the price of one to buy."""


def main_figures(one: Chip) -> tuple[str, ...]:
    """The main figures of a chip as texts, one per column of ``MAIN_COLUMNS``; "-" where blank."""
    from presilicon.units import si

    def rate(*formats: str) -> str:
        return si(max((one.peak_ops_per_s.get(f, 0.0) for f in formats), default=0.0) or None)

    size = one.get("memory.bytes") if one.memory else one.on_chip_bytes or None
    kind = one.memory.kind if one.memory else "on chip"
    price = one.price.purchase_usd
    return (
        one.name,
        rate("bf16", "fp16"),
        rate("fp8", "int8"),
        rate("mxfp4", "nvfp4", "int4"),
        "-" if size is None else f"{si(size, 'B')} {kind}".strip(),
        si(one.get("memory.bytes_per_s"), "B/s"),
        "-" if one.tdp_w is None else f"{one.tdp_w:.0f}",
        "-" if price is None else f"{price:,.0f}",
    )


def _print_list(all_chips: tuple[Chip, ...]) -> None:
    whole = [c for c in all_chips if not c.missing()]
    right = tuple(c for c in MAIN_COLUMNS if c not in ("chip", "memory"))
    print_table(MAIN_COLUMNS, [main_figures(c) for c in whole], right=right)
    say()
    say(f"{len(whole)} chips. Rates: dense operations per second, a multiply-accumulate is 2. USD: price of one to buy.")
    blank = [c for c in all_chips if c.missing()]
    if blank:
        say()
        say(f"{len(blank)} more are known but cannot be estimated, as these figures are not published:")
        for one in blank:
            say(f"  {one.name}: {', '.join(one.missing())}")


def _print_one(one: Chip) -> None:
    say(f"{one.title or one.name} ({one.name})")
    facts = [one.vendor, str(one.year) if one.year else "", one.process_node, f"family {one.family}"]
    say(", ".join(f for f in facts if f))
    if one.aliases:
        say("also called " + ", ".join(one.aliases))
    if one.note:
        say(one.note)
    say()
    numbers = {id(s): i + 1 for i, s in enumerate(one.sources)}
    rows = []
    for path, value in one.figures().items():
        source = one.source_of(path)
        rows.append((path, _shown(path, value), f"[{numbers[id(source)]}] {source.confidence}" if source else "-"))
    rows += [(path, "-", "") for path in _blank(one)]
    print_table(("figure", "value", "source"), rows, right=("value",))
    for source in one.sources:
        say()
        say(f"[{numbers[id(source)]}] {source.document}" + (f", {source.date}" if source.date else ""))
        if source.url:
            say(f"    {source.url}")
    if one.missing():
        say()
        say(f"It cannot be estimated: {', '.join(one.missing())} not published.")


def _shown(path: str, value: float) -> str:
    """A figure with its unit, which the end of its name says."""
    from presilicon.units import si

    for ending, unit in _UNITS.items():
        if path.endswith(ending) or (ending == "ops_per_s" and path.startswith("peak_ops_per_s.")):
            return si(value, unit, digits=4)
    if path == "transistors":
        return si(value, digits=4)
    if path.endswith("usd") or path.endswith("usd_per_hour"):
        return f"{value:,.2f} USD".replace(".00 ", " ")
    return f"{value:g} mm2" if path.endswith("mm2") else f"{value:g}"


def _blank(one: Chip) -> list[str]:
    """The main figures that are not published."""
    from dataclasses import fields

    from presilicon.chip import Link, Memory

    found = [f.name for f in fields(one) if "| None" in str(f.type) and "float" in str(f.type)]
    found += [f"memory.{f.name}" for f in fields(Memory) if f.name != "kind" and one.memory is not None]
    found += [f"link.{f.name}" for f in fields(Link) if f.name != "kind" and one.link is not None]
    return [path for path in found if one.get(path) is None]
