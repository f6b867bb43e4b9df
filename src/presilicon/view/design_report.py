"""The report of a search for a chip, from its design.json: what was chosen, why, what nearly won, and whether to build it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from presilicon.errors import InputError
from presilicon.units import percent
from presilicon.view.document import Document, Figure, Section, datum, key_values, rows, shown
from presilicon.view.floorplan import Die, floorplan
from presilicon.view.markup import Markup
from presilicon.view.picture import Picture
from presilicon.view.replay_report import read_json
from presilicon.view.scatter import Design, Measure, pareto
from presilicon.view.stacks import Stack, stacks
from presilicon.view.tornado import Bar, tornado

PRICE = Measure("usd_per_million_tokens", "USD per million tokens", "USD")
ENERGY = Measure("energy_j_per_token", "energy of a token", "J")
SPEED = (
    Measure("time_per_output_token_s", "time per output token", "s"),
    Measure("latency_s", "latency of a sample", "s"),
)
KEY_FIGURES = (
    ("1 M tokens", "usd_per_million_tokens", "USD"),
    ("Tokens a second", "tokens_per_s", "/s"),
    ("Time to first token", "time_to_first_token_s", "s"),
    ("Time per token", "time_per_output_token_s", "s"),
    ("Latency", "latency_s", "s"),
    ("Energy of a token", "energy_j_per_token", "J"),
    ("Rated power of a chip", "tdp_w", "W"),
    ("Die", "area_mm2", "mm2"),
    ("Cost to make one", "unit_usd", "USD"),
)
AXIS_UNITS = {
    "scratchpad_bytes": "B", "shared_sram_bytes": "B", "clock_hz": "Hz", "link_bytes_per_s": "B/s", "max_power_w": "W",
    "max_area_mm2": "mm2", "max_unit_usd": "USD", "ttft_s": "s", "tpot_s": "s", "power of all chips": "W",
}  # fmt: skip
FRONT_ROWS, MOST_BOUGHT, WIDTH, DIE_WIDTH = 12, 6, 820.0, 520.0


def read_design(folder: Path, *, made_by: str) -> Document:
    """The report of the design.json in a folder; InputError where it cannot be read."""
    found = read_json(folder / "design.json")
    try:
        return design_document(found, made_by=made_by)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(f"not the results of a search ({error!r})", where=str(folder / "design.json")) from None


def design_document(found: Mapping[str, Any], *, made_by: str) -> Document:
    """``found`` is the object that ``design --json`` prints."""
    chosen, problem = found["chosen"], found["problem"]
    source = f"search of {found['designs_evaluated']:,} designs for {problem['model']}"
    nothing = "No chip of the library holds the same limits." if not found["alternatives"] else _ABOUT_OTHERS
    whole = [
        Section("The chosen chip", "", _chip(chosen, source)),
        Section("What was found", "", _fronts(found, source)),
        Section("Why, step by step", _ABOUT_DECISIONS, [_decisions(found["decisions"])]),
        Section("What one step more would buy", _ABOUT_PRICES, [_prices(found["shadow_prices"])]),
        Section("What nearly won", "The best design with another choice on one axis.", [_near(found["near"])]),
        Section("Chips that exist", nothing, [_others(found["alternatives"])] if found["alternatives"] else []),
        Section("When it pays", "", _pays(found, source)),
        Section("What was asked", "", [_asked(problem)]),
    ]
    return Document(
        title=f"A chip for {problem['model']}",
        subtitle=f"presilicon design: {str(problem['objective']).replace('-', ' ')}, space {problem['space']}",
        summary=_summary(found),
        figures=[
            Figure(
                name.replace("token", _thing(found)).replace("Token", _thing(found).title()),
                chosen["figures"][key],
                unit,
                f"chosen.figures.{key}",
                _range(chosen.get(key), unit),
            )
            for name, key, unit in KEY_FIGURES
            if chosen["figures"].get(key) and (key != "time_to_first_token_s" or _thing(found) == "token")
        ],
        verdict=[str(line) for line in found["recommendation"]],
        sections=[section for section in whole if section.parts or section.lead],
        command=str(found["command"]),
        made_by=made_by,
        sources=_sources(found),
    )


_ABOUT_DECISIONS = (
    "From the middle of every axis, the change that gains most each time; gain is the objective's, before over after."
)
_ABOUT_PRICES = "One value further on each axis, or a tenth more of each limit, all else as it is."
_ABOUT_OTHERS = (
    "Under the same limits, as `presilicon match` finds them. Cost and energy are over the design's: above 1 the design is "
    "better. "
    "Inside: the difference is smaller than what the estimate and the prices are unsure of. Equal at: the price of one chip at "
    "which both cost the same."
)


def _thing(found: Mapping[str, Any]) -> str:
    """What the figures a token are of: a network without tokens has samples in their place."""
    return "token" if found["chosen"]["figures"]["time_per_output_token_s"] else "sample"


def _range(interval: Any, unit: str) -> str:
    """p10 to p90 of a figure where it is known."""
    if not isinstance(interval, Mapping):
        return ""
    return f"{shown(interval['p10'], unit)} to {shown(interval['p90'], unit)}"


def _summary(found: Mapping[str, Any]) -> list[str]:
    chosen, f, fields = found["chosen"], found["chosen"]["figures"], found["chosen"]["fields"]
    bounds = chosen["bottleneck"]
    bound = max(bounds, key=lambda name: bounds[name])
    made_of = ", ".join(_plain(name, fields[name]) for name in ("cores", "memory", "node", "formats"))
    feasible = found["designs_feasible"]
    pace = (
        f"a token every {shown(f['time_per_output_token_s'], 's')}"
        if f["time_per_output_token_s"]
        else (f"{shown(f['latency_s'], 's')} for a sample")
    )
    return [
        f"{found['designs_evaluated']:,} designs evaluated, {feasible:,} within all limits, "
        f"{len(found['pareto']):,} on the front.",
        f"Chosen: {chosen['name']} (cores {made_of}); {percent(bounds[bound])} of its time goes to {bound}.",
        f"{shown(f['tokens_per_s'], '')} {_thing(found)}s a second, {pace}, {shown(f['energy_j_per_token'], 'J')} each; "
        f"rated at {shown(f['tdp_w'], 'W')} a chip.",
        f"A die of {shown(f['area_mm2'], 'mm2')}; {shown(f['unit_usd'], 'USD')} to make one, "
        f"{shown(f['usd_per_million_tokens'], 'USD')} a million {_thing(found)}s with its share of the engineering.",
        str(found["recommendation"][0]),
    ]


def _plain(name: str, value: Any) -> str:
    """A value of an axis or limit in words."""
    if value is None or value == "":
        return "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "-"
    if not isinstance(value, int | float):
        return str(value)
    unit = AXIS_UNITS.get(name, "")
    return shown(float(value), unit) if unit else f"{value:,.6g}"


def _chip(chosen: Mapping[str, Any], source: str) -> list[Picture | Markup]:
    area, fields = chosen["area"], chosen["fields"]
    price = {name.removesuffix("_usd"): float(v) for name, v in chosen["price"].items()}
    bounds = {name: float(share) for name, share in chosen["bottleneck"].items() if share > 0}
    about_price = "Cost of one chip by part, no design cost and no margin in it."
    about_bounds = "What the time of the load goes to, by what it waits for."
    policy = chosen["policy"]
    notes = "; ".join([*map(str, policy["notes"]), policy["advice"]])
    told = {name.replace("_", " "): _plain(name, value) for name, value in fields.items()}
    told |= {
        "export class": f"{policy['eccn'] or 'none'}: {policy['licence']}. {notes}",
        "RTL": "exists: the chip is of the template" if chosen["has_rtl"] else "none exists for this chip",
        "software constants": f"of the family {chosen['family']}",
        "file": str(chosen["chip_toml"]),
    }
    return [
        floorplan(die_of(chosen["name"], area, fields), source=source + "; area model (docs/economics.md)", width=DIE_WIDTH),
        stacks("Where the time goes", [Stack("", bounds)], "%", summary=about_bounds, source=source, width=WIDTH),
        stacks("Cost to make one chip", [Stack("", price)], "USD", summary=about_price, source=source + "; prices of "
               "data/technology", width=WIDTH),
        key_values(told),
    ]  # fmt: skip


def die_of(name: str, area: Mapping[str, float], fields: Mapping[str, Any]) -> Die:
    """A design's die from the areas of its blocks in mm2."""
    cores = int(fields.get("cores", 1))
    private = float(fields.get("scratchpad_bytes", 0.0)) * cores
    whole = private + float(fields.get("shared_sram_bytes", 0.0))
    own = private / whole if whole else 0.0
    sram = area.get("sram", 0.0)
    parts = {
        "array": area.get("matrix", 0.0),
        "vector unit": area.get("vector", 0.0),
        "core logic": area.get("logic", 0.0),  # of a template core: array, vector unit and control together
        "scratchpad": sram * own + area.get("memories", 0.0),
    }
    known = ("matrix", "vector", "logic", "sram", "memories", "memory", "memory_interface", "link", "host")
    return Die(
        name=name,
        cores=cores,
        core_parts={name: mm2 for name, mm2 in parts.items() if mm2 > 0},
        shared_memory_mm2=sram * (1.0 - own),
        memory_interface_mm2=area.get("memory", 0.0) + area.get("memory_interface", 0.0),
        memory_interfaces=int(fields.get("stacks", 2)),
        links_mm2=area.get("link", 0.0) + area.get("host", 0.0),
        other_mm2=sum(v for block, v in area.items() if block not in known),
    )


def _fronts(found: Mapping[str, Any], source: str) -> list[Picture | Markup]:
    every = {_named(one): Design(_named(one), one["figures"]) for one in (*found["pareto"], found["chosen"])}
    known = [
        Design(str(one["chip"]), {**one["entry"], PRICE.key: one["usd_per_million_tokens"]["value"]})
        for one in found["alternatives"]
        if one["usd_per_million_tokens"]
    ][:MOST_BOUGHT]
    chosen = _named(found["chosen"])
    speed = next(measure for measure in SPEED if found["chosen"]["figures"].get(measure.key))
    parts: list[Picture | Markup] = []
    price = Measure(PRICE.key, f"USD per million {_thing(found)}s", PRICE.unit)
    energy = Measure(ENERGY.key, f"energy of a {_thing(found)}", ENERGY.unit)
    for title, measure in (("Cost and energy", energy), ("Cost and latency", speed)):
        bought = [one for one in known if isinstance(one.figures.get(measure.key), int | float)]
        parts.append(
            pareto(
                list(every.values()), price, measure, source=source + "; chips to buy: presilicon match", chosen=chosen,
                known=bought, evaluated=found["designs_evaluated"], title=title, width=WIDTH,
            )
        )  # fmt: skip
    left_out = ("time_to_first_token_s", "latency_s") if speed is SPEED[0] else ()
    keys = [key for key in KEY_FIGURES if found["chosen"]["figures"].get(key[1]) and key[1] not in left_out]
    lines = [
        (_named(one), *(datum(one["figures"].get(key), unit, f"pareto.{i}.figures.{key}") for _, key, unit in keys))
        for i, one in enumerate(found["pareto"][:FRONT_ROWS])
    ]
    caption = f"{len(lines)} of {len(found['pareto'])} designs of the front"
    return [*parts, rows(("design", *(name for name, _, _ in keys)), lines, caption=caption)]


def _named(one: Mapping[str, Any]) -> str:
    return f"{one['name']}, batch {one['fields']['batch']:g}"


def _decisions(found: Sequence[Mapping[str, Any]]) -> Markup:
    lines = [
        (
            str(d["step"]),
            d["axis"].replace("_", " "),
            f"{_plain(d['axis'], d['before'])} to {_plain(d['axis'], d['after'])}",
            d["bottleneck"],
            f"{d['gain']:.2f} x" if d["gain"] else "-",
        )
        for d in found
    ]
    return rows(("", "decision", "change", "met", "gain"), lines, words=(0, 1, 2, 3))


def _prices(found: Sequence[Mapping[str, Any]]) -> Markup:
    lines = [
        (
            p["of"].replace("_", " "),
            _plain(p["of"], p["now"]),
            _plain(p["of"], p["then"]),
            datum(p["gain"], "%", f"shadow_prices.{i}.gain"),
            p["breaks"] or "-",
        )
        for i, p in enumerate(found)
    ]
    return rows(("more of", "now", "then", "gain", "but breaks"), lines, words=(0, 4))


def _near(found: Sequence[Mapping[str, Any]]) -> Markup:
    keys = [
        ("1 M tokens", PRICE.key, "USD"),
        ("energy", ENERGY.key, "J"),
        ("die", "area_mm2", "mm2"),
        ("cost", "unit_usd", "USD"),
    ]
    lines = [
        (
            n["axis"].replace("_", " "),
            _plain(n["axis"], n["value"]),
            percent(n["ratio"] - 1.0),
            *(datum(n["figures"][key], unit, f"near.{i}.figures.{key}") for _, key, unit in keys),
        )
        for i, n in enumerate(found)
    ]
    return rows(("other choice", "value", "worse by", *(name for name, _, _ in keys)), lines, words=(0, 1))


def _others(found: Sequence[Mapping[str, Any]]) -> Markup:
    lines = [
        (
            a["chip"],
            a["way"],
            f"{a['entry']['chips']:g}",
            datum(a["usd_per_million_tokens"]["value"], "USD", f"alternatives.{i}.usd_per_million_tokens.value")
            if a["usd_per_million_tokens"]
            else "-",
            _range(a["usd_per_million_tokens"], "USD") or "-",
            f"{a['lead']['value']:.2f} x" if a["lead"] else "-",
            {True: "inside", False: "outside", None: "-"}[a["inside_interval"]],
            f"{a['energy_ratio']:.2f} x" if a["energy_ratio"] else "-",
            datum(a["equal_usd"], "USD", f"alternatives.{i}.equal_usd"),
        )
        for i, a in enumerate(found)
    ]
    columns = ("chip", "way", "chips", "1 M tokens", "p10 to p90", "cost", "interval", "energy", "equal at")
    return rows(columns, lines, words=(0, 1, 6))


def _pays(found: Mapping[str, Any], source: str) -> list[Picture | Markup]:
    parts: list[Picture | Markup] = []
    if told := found["break_even"]:
        words = {
            "saving_usd_per_m_tokens": ("saved on a million tokens", "USD"),
            "tokens_m": ("tokens until it is even, millions", ""),
            "chips": ("chips until it is even", ""), "chips_at_work": ("chips at work", ""),
            "years": ("years from the start", "years"),
        }  # fmt: skip
        table: dict[str, Any] = {"against": str(told["against"])}
        table |= {name: datum(told[key], unit, f"break_even.{key}") for key, (name, unit) in words.items() if key in told}
        parts.append(key_values(table))
    if swings := found.get("sensitivity"):
        bars = [
            Bar(str(one["name"]).replace("_", " "), f"{one['low']:.4g}", f"{one['high']:.4g}", one["at_low"], one["at_high"])
            for one in swings
            if one["at_low"] is not None and one["at_high"] is not None  # null: never reached
        ]
        centre = float(found["chosen"]["figures"][PRICE.key])
        title = "What a million tokens cost, assumption by assumption"
        parts.append(tornado(title, centre, bars, "USD", source=source + "; ranges of data/technology", width=WIDTH))
    return parts


def _asked(problem: Mapping[str, Any]) -> Markup:
    told: dict[str, Any] = {}
    for group in (problem, problem["limits"], problem["operation"]):
        known = {name: v for name, v in group.items() if not isinstance(v, Mapping) and v is not None}
        told |= {name.replace("_", " "): _plain(name, v) for name, v in known.items()}
    return key_values(told)


def _sources(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    policy = found["chosen"]["policy"]
    sources = [
        ("area, yield, cost, energy by node and memory", "data/technology of presilicon, figure by figure with source and "
         "range (docs/economics.md)", "", ""),
        ("export class", str(policy["rule"]), str(policy["as_of"]), ""),
    ]  # fmt: skip
    for one in found["alternatives"]:
        if basis := one["entry"].get("price_basis"):
            sources.append((f"price of {one['chip']}", str(basis), "", ""))
    return sources
