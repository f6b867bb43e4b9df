"""What a page shows while a slider moves, and systems side by side: figures and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from presilicon import view
from presilicon.chip import Chip
from presilicon.errors import ChipError, InputError, PresiliconError, WorkloadError, nearest
from presilicon.estimate import Load, machine, service_cost
from presilicon.estimate.reporting import formats_for
from presilicon.frontend.language import LanguageModel
from presilicon.report import EstimateReport
from presilicon.studio.asked import Asked, base_of, fitting, model, report_for, setting, told, way_of
from presilicon.studio.making import Making, making, token_price
from presilicon.view import Point
from presilicon.view.document import shown

MOST_KINDS = 7
"""Kinds of operators that a bar tells apart."""


def answer(asked: Asked, find: Callable[[str], Chip]) -> dict[str, Any]:
    """What the page shows for a state: the report's and the chip's figures, pictures; or the error that refuses it."""
    try:
        report, one = report_for(asked, find)
        made, unknown = made_of(base_of(asked, one, find), one)
        broken = broken_limits(report, made, asked.limits)
    except PresiliconError as error:
        return {"refused": told(error)}
    usd, basis = token_price(report, one, made)
    return {
        "making": figures_of(made) if made else {"unknown": unknown},
        "usd_per_million_tokens": usd,
        "price_basis": basis,
        "report": report.to_json(),
        "chip": {"name": one.name, "title": one.title, "family": one.family, "note": one.note, "figures": one.figures()},
        "broken": broken,
        "pictures": pictures(asked, report, one, find, made),
    }


_LIMITS = (
    ("power_w", "max_power_w", "power of all chips", "W"),
    ("time_to_first_token_s", "ttft_s", "time to first token", "s"),
    ("time_per_output_token_s", "tpot_s", "time per output token", "s"),
    ("area_mm2", "max_area_mm2", "area of the die", "mm2"),
    ("unit_usd", "max_unit_usd", "cost to make a chip", "USD"),
)


def broken_limits(report: EstimateReport, made: Making | None, limits: Mapping[str, float]) -> list[str]:
    """Each limit that an estimate or the making of its chip is above, as a sentence; WorkloadError for a limit there is not."""
    known = [limit for _, limit, _, _ in _LIMITS]
    for name in limits:
        if name not in known:
            raise WorkloadError(f"no limit is called {name[:60]!r}", hint=nearest(name[:60], known) or ", ".join(known))
    sentences = []
    for figure, limit, name, unit in _LIMITS:
        value = getattr(report, figure, None) if hasattr(report, figure) else getattr(made, figure, None)
        most = limits.get(limit, 0.0)
        if value is not None and most and value > most:
            sentences.append(f"{name} is {shown(value, unit)}, above the limit of {shown(most, unit)}")
    return sentences


BATCHES = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])


def curve(asked: Asked, chip: Chip, find: Callable[[str], Chip]) -> list[Point]:
    """Throughput and latency of a state at other batches, as far as they fit; none for a network without tokens."""
    found = model(asked.model)
    if not isinstance(found, LanguageModel):
        return []
    formats = formats_for(found, asked.weights or None, asked.activations or None, asked.kv_cache or None)
    way = way_of(asked, find)
    cost = service_cost(
        machine(chip), found, Load(BATCHES, asked.input_tokens, asked.output_tokens), formats=formats, parallelism=way
    )
    columns = np.broadcast_arrays(BATCHES, cost.tokens_per_s, cost.time_per_output_token_s, cost.fits)
    return [Point(int(batch), float(rate), float(each)) for batch, rate, each, fits in zip(*columns, strict=True) if fits]


MOST_COMPARED = 4


def compared(states: object, width: float, find: Callable[[str], Chip]) -> dict[str, Any]:
    """Up to four states side by side: each one's report or the error that refuses it, and pictures to one scale."""
    if not isinstance(states, list) or not 1 <= len(states) <= MOST_COMPARED:
        raise WorkloadError("not a list of states", hint=f"one to {MOST_COMPARED}")
    columns: list[dict[str, Any]] = []
    energy, time, costs, curves = [], [], [], {}
    for number, state in enumerate(states, 1):
        asked = Asked.of(state)
        try:
            report, one = report_for(asked, find)
            made, _ = made_of(base_of(asked, one, find), one)
        except PresiliconError as error:
            columns.append({"refused": told(error)})
            continue
        usd, _ = token_price(report, one, made)
        title = one.title or one.name
        name = f"{number}: {f'{report.chips} x ' if report.chips > 1 else ''}{title}"
        figures = report.to_json() | {"usd_per_million_tokens": usd, "area_mm2": None, "unit_usd": None}
        if made:
            figures |= {"area_mm2": made.area_mm2 * made.dies, "unit_usd": made.unit_usd}
            costs.append(view.Stack(name, made.cost))
        columns.append({"report": figures, "title": title})
        energy.append(view.Stack(name, report.energy_parts))
        time.append(view.Stack(name, times(report)))
        if points := curve(asked, one, find):
            curves[name] = points
    width, found = fitting(width), {}
    source = "estimates of the systems above"
    if curves:
        found["curve"] = view.throughput_latency(curves, source=source, width=width).figure()
    if energy:
        found["time"] = view.stacks("Time of operators", time, "s", width=width, source=source, summary=TIME_TOLD).figure()
        found["energy"] = view.stacks("Energy", energy, "J", width=width, source=source, summary=ENERGY_TOLD).figure()
    if costs:
        found["cost"] = view.stacks(
            "Cost to make one chip", costs, "USD", width=width, source="economics (docs/economics.md)",
            summary="By part, no design cost and no margin in it.",
        ).figure()  # fmt: skip
    return {"columns": columns, "pictures": found}


TIME_TOLD = "Operators one after the other, by phase and kind; the serving software's own time is not among them."
ENERGY_TOLD = "What the energy of the whole batch goes to, on all chips."


def made_of(base: Chip, one: Chip) -> tuple[Making | None, str]:
    """The making of a chip, or what is missing to tell it. ChipError where a law refuses a changed one."""
    try:
        return making(base, one), ""
    except ChipError:
        if one is not base:
            raise
        return None, "its maker does not publish what its area follows from"
    except InputError as error:
        return None, str(error)


def figures_of(made: Making) -> dict[str, Any]:
    """A making's figures by name."""
    shown = (
        "node",
        "area_mm2",
        "dies",
        "published_mm2",
        "modelled_mm2",
        "spread",
        "unit_usd",
        "cost",
        "die_yield",
        "packaging",
    )
    return {name: getattr(made, name) for name in shown} | {
        "dies_per_wafer": made.dies_per_wafer,
        "policy": made.policy.to_json() if made.policy else None,
    }


def pictures(
    asked: Asked, report: EstimateReport, chip: Chip, find: Callable[[str], Chip], made: Making | None
) -> dict[str, str]:
    """Pictures of an estimate by name, as figures of a page."""
    width = fitting(asked.width)
    source = setting(report)
    found = {"roofline": view.roofline(report, chip, width=width)}
    if points := curve(asked, chip, find):
        name = f"{report.chips} x {chip.title or chip.name}"
        limit = asked.limits.get("tpot_s")
        found["curve"] = view.throughput_latency({name: points}, source=source, limit_s=limit, width=width)
    if made:
        found |= pictures_of(made, chip, width)
    bars = [view.Stack("", times(report))]
    found["time"] = view.stacks("Time of operators", bars, "s", width=width, source=source, summary=TIME_TOLD)
    bars = [view.Stack("", report.energy_parts)]
    found["energy"] = view.stacks("Energy", bars, "J", width=width, source=source, summary=ENERGY_TOLD)
    return {name: picture.figure() for name, picture in found.items()}


def pictures_of(made: Making, chip: Chip, width: float) -> dict[str, view.Picture]:
    """Floorplan, wafer and cost of a chip."""
    near = abs(made.modelled_mm2 / made.area_mm2 - 1.0) < 0.005
    published = "as modelled" if near else f"scaled from {made.modelled_mm2:,.0f} mm2 to the area that the chip's file states"
    areas = f"area model of presilicon (docs/economics.md) at {made.node}, {published}"
    if chip.template is not None:
        areas = f"synthesis of the template's blocks (docs/clock.md) at {made.node}; no pads, no memory interface"
    prices = f"wafer, yield and memory prices of data/technology at {made.node}; packaging: {made.packaging.replace('_', ' ')}"
    wafer = view.Wafer(
        die_mm2=made.area_mm2,
        die_yield=made.die_yield,
        counted=made.dies_per_wafer,
        node=made.node,
        aspect=made.floorplan.aspect,
    )
    several = f", {made.dies} dies" if made.dies > 1 else ""
    return {
        "floorplan": view.floorplan(made.floorplan, source=areas, width=width),
        "cost": view.stacks(
            "Cost to make one chip", [view.Stack("", made.cost)], "USD", width=width, source=prices,
            summary=f"Cost of one chip{several} by part, no design cost and no margin in it.",
        ),
        "wafer": view.wafer_map(wafer, source=prices, width=width),
    }  # fmt: skip


def times(report: EstimateReport) -> dict[str, float]:
    """Time of operators (s) by phase and kind; the smallest together as "other"."""
    by_kind: dict[str, float] = {}
    for line in report.operators:
        phase, _, rest = line.name.partition(".")
        kind = f"{phase}: {line.kind}" if rest and phase in ("prefill", "decode") else line.kind
        by_kind[kind] = by_kind.get(kind, 0.0) + line.latency_s
    most = sorted(by_kind.items(), key=lambda item: -item[1])
    kept = dict(most[:MOST_KINDS])
    if rest_s := sum(value for _, value in most[MOST_KINDS:]):
        kept["other"] = rest_s
    return kept
