"""The report of a search for a chip, from its design.json: what was chosen, why, what nearly won, and whether to build it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from presilicon.errors import InputError
from presilicon.units import si
from presilicon.view.document import Document, Figure, Section, datum, key_values, rows, shown
from presilicon.view.floorplan import Die, floorplan
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture
from presilicon.view.replay_report import read_json
from presilicon.view.scatter import Design, Measure, pareto
from presilicon.view.stacks import Stack, stacks

PRICE = Measure("usd_per_million_tokens", "USD per million tokens", "USD")
OTHERS = (
    ("Cost and energy", Measure("energy_j_per_token", "energy of a token", "J")),
    ("Cost and latency", Measure("time_per_output_token_s", "time per output token", "s")),
    ("Cost and latency", Measure("latency_s", "latency of a sample", "s")),
)
KEY_FIGURES = (
    ("1 M tokens", "usd_per_million_tokens", "USD"),
    ("Tokens a second", "tokens_per_s", "/s"),
    ("Time to first token", "time_to_first_token_s", "s"),
    ("Time per token", "time_per_output_token_s", "s"),
    ("Latency", "latency_s", "s"),
    ("Energy of a token", "energy_j_per_token", "J"),
    ("Power limit", "tdp_w", "W"),
    ("Die", "area_mm2", "mm2"),
    ("Cost to make", "unit_usd", "USD"),
)
UNITS = (
    ("bytes_per_s", "B/s"), ("_per_s", "/s"), ("_bytes", "B"), ("_hz", "Hz"), ("_mm2", "mm2"), ("_usd", "USD"), ("usd", "USD"),
    ("_w", "W"), ("_s", "s"), ("_j", "J"), ("j_per_token", "J"), ("usd_per_million_tokens", "USD"), ("_share", "%"),
    ("yield", "%"), ("_years", "years"),
)  # fmt: skip
"""The unit that the end of a key stands for."""
FRONT_ROWS = 12


def read_design(folder: Path, *, made_by: str) -> Document:
    """The report of the design.json in a folder; InputError where it cannot be read."""
    found = read_json(folder / "design.json")
    try:
        return design_document(found, made_by=made_by)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"not the results of a search ({error})", where=str(folder / "design.json")) from None


def design_document(found: Mapping[str, Any], *, made_by: str) -> Document:
    """``found`` is the object that ``design --json`` prints."""
    chosen, problem = found["chosen"], found.get("problem") or {}
    model = problem.get("model", "the model")
    source = f"search of {found['designs_evaluated']:,} designs for {model}"
    whole = [
        Section("The chosen chip", str(chosen.get("why", "")), _chip(chosen, source)),
        Section("What was found", "", _fronts(found, source)),
        _listed("Why, step by step", "decisions", found, "Each row is a change that was kept, with what it is worth."),
        _listed("What a limit costs", "shadow_prices", found, "How the objective moves when a limit is moved."),
        _listed("What nearly won", "near", found),
        _listed("Chips to buy instead", "alternatives", found),
        _listed("When it pays", "break_even", found),
        _listed("What was asked", "problem", found),
    ]
    return Document(
        title=f"A chip for {model}",
        subtitle=f"presilicon design: {str(problem.get('objective', 'search')).replace('-', ' ')}",
        summary=_summary(found),
        figures=[
            Figure(name, chosen["figures"][key], unit, f"chosen.figures.{key}")
            for name, key, unit in KEY_FIGURES
            if isinstance(chosen["figures"].get(key), int | float)
        ],
        verdict=_lines(found.get("recommendation")),
        sections=[section for section in whole if section.parts],
        command=str(found.get("command", "")),
        made_by=made_by,
        sources=[_source(s) for s in found.get("sources", [])],
    )


def _source(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    what = str(one.get("what", one.get("name", "")))
    return what, str(one.get("document", "")), str(one.get("date", "")), str(one.get("confidence", ""))


def _summary(found: Mapping[str, Any]) -> list[str]:
    chosen = found["chosen"]
    f, fields = chosen["figures"], chosen["fields"]

    def told(key: str, unit: str) -> str:
        return shown(f.get(key), unit)

    made_of = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in list(fields.items())[:6])
    rate = f", {found['designs_per_s']:,.0f} a second" if found.get("designs_per_s") else ""
    evaluated, front = found["designs_evaluated"], len(found["pareto"])
    return [
        f"{evaluated:,} designs evaluated{rate}; {front:,} that no other beats in every figure.",
        f"Chosen: {chosen['name']}, {made_of}.",
        f"{told('tokens_per_s', '')} tokens a second on {told('tdp_w', 'W')} and {told('area_mm2', 'mm2')}.",
        f"{told('usd_per_million_tokens', 'USD')} and {told('energy_j_per_token', 'J')} for a million tokens and for one; "
        f"{told('unit_usd', 'USD')} to make a chip.",
        (_lines(found.get("recommendation")) or ["No recommendation was made."])[0],
    ]


def _lines(value: Any) -> list[str]:
    """Texts of a recommendation: a text, a list of texts, or an object that holds them."""
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("sentences", "text", "lines") if key in value), [str(v) for v in value.values()])
    return [value] if isinstance(value, str) else [str(line) for line in value or []]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else si(value) if abs(value) >= 1e4 else f"{value:g}"


def _chip(chosen: Mapping[str, Any], source: str) -> list[Picture | Markup]:
    parts: list[Picture | Markup] = []
    area, price, fields = chosen.get("area"), chosen.get("price"), chosen["fields"]
    if isinstance(area, Mapping) and sum(area.values()) > 0:
        parts.append(floorplan(die_of(chosen["name"], area, fields), source=source + ", area model", width=520.0))
    if isinstance(price, Mapping) and any(price.values()):
        bars = [Stack("", {name.removesuffix("_usd"): float(v) for name, v in price.items()})]
        summary = "Cost of one chip by part, no design cost and no margin in it."
        parts.append(
            stacks("Cost to make one chip", bars, "USD", summary=summary, source=source + ", prices of data/technology")
        )
    parts.append(key_values({name.replace("_", " "): _value(name, v, f"chosen.fields.{name}") for name, v in fields.items()}))
    return parts


def die_of(name: str, area: Mapping[str, float], fields: Mapping[str, Any]) -> Die:
    """A design's die from the areas of its blocks in mm2."""
    cores = int(fields.get("cores", 1))
    private = float(fields.get("scratchpad_bytes", 0.0)) * cores
    whole = private + float(fields.get("shared_sram_bytes", 0.0))
    own = private / whole if whole else 0.0
    sram = area.get("sram", 0.0)
    parts = {"array": area.get("matrix", 0.0), "vector unit": area.get("vector", 0.0), "scratchpad": sram * own}
    known = ("matrix", "vector", "sram", "memory", "link", "host")
    return Die(
        name=name,
        cores=cores,
        core_parts=parts,
        shared_memory_mm2=sram * (1.0 - own),
        memory_interface_mm2=area.get("memory", 0.0),
        memory_interfaces=int(fields.get("stacks", 2)),
        links_mm2=area.get("link", 0.0) + area.get("host", 0.0),
        other_mm2=sum(v for block, v in area.items() if block not in known),
    )


def _fronts(found: Mapping[str, Any], source: str) -> list[Picture | Markup]:
    every = [Design(_named(one), one["figures"]) for one in found["pareto"]]
    best = Design(_named(found["chosen"]), found["chosen"]["figures"])
    if best.name not in {one.name for one in every}:
        every.append(best)
    bought = [
        Design(str(one.get("chip", one.get("name"))), one) for one in _rows(found.get("alternatives")) if PRICE.key in one
    ]
    parts: list[Picture | Markup] = []
    for title, measure in OTHERS:
        usable = [one for one in every if PRICE.key in one.figures and measure.key in one.figures]
        if len(usable) > 1 and title not in {p.title for p in parts if isinstance(p, Picture)}:
            known = [one for one in bought if isinstance(one.figures.get(measure.key), float)]
            count = found["designs_evaluated"]
            drawn = pareto(
                usable,
                PRICE,
                measure,
                source=source,
                chosen=best.name,
                known=known[:6],
                evaluated=count,
                title=title,
                width=820.0,
            )
            parts.append(drawn)
    keys = [(name, key, unit) for name, key, unit in KEY_FIGURES if key in found["chosen"]["figures"]]
    lines = [
        (_named(one), *(datum(one["figures"].get(key), unit, f"pareto.{i}.figures.{key}") for _, key, unit in keys))
        for i, one in enumerate(found["pareto"][:FRONT_ROWS])
    ]
    title = f"{len(lines)} of {len(found['pareto'])} designs of the front"
    parts.append(rows(("design", *(name for name, _, _ in keys)), lines, caption=title))
    return parts


def _named(one: Mapping[str, Any]) -> str:
    batch = one.get("fields", {}).get("batch")
    return f"{one['name']}, batch {batch:g}" if isinstance(batch, int | float) else str(one["name"])


def _rows(value: Any) -> list[Mapping[str, Any]]:
    return (
        [one for one in value if isinstance(one, Mapping)] if isinstance(value, Sequence) and not isinstance(value, str) else []
    )


def _listed(title: str, key: str, found: Mapping[str, Any], lead: str = "") -> Section:
    """Whatever a key holds: a list of objects as a table, an object as names with values, texts as they are."""
    value = found.get(key)
    if isinstance(value, Mapping):
        flat = {str(name): _value(str(name), v, f"{key}.{name}") for name, v in value.items() if _simple(v)}
        return Section(title, lead, [key_values(_spaced(flat))] if flat else [])
    lines = _rows(value)
    if lines:
        names = list(dict.fromkeys(name for one in lines for name, v in one.items() if _simple(v)))
        words = [i for i, name in enumerate(names) if any(isinstance(one.get(name), str) for one in lines)]
        cells = [[_value(name, one.get(name), f"{key}.{i}.{name}") for name in names] for i, one in enumerate(lines)]
        return Section(title, lead, [rows([_words(name) for name in names], cells, words=words)])
    texts = _lines(value) if value else []
    return Section(title, lead, [tag("ul", *(tag("li", line) for line in texts))] if texts else [])


def _simple(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _spaced(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_words(name): value for name, value in values.items()}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(name: str, value: Any, key: str) -> Markup:
    """A value in its unit, by the end of its name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return join("-" if value is None else str(value))
    if not isfinite(value):
        return join("-")
    unit = next((unit for end, unit in UNITS if name.endswith(end)), "")
    return datum(float(value), unit, key)
