"""The roofline: what each operator computes a second over what it computes a byte, below what the chip allows.

Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

from presilicon.chip import Chip
from presilicon.report import EstimateReport, OperatorLine
from presilicon.units import percent, si
from presilicon.view.picture import Picture
from presilicon.view.plot import Dot, Dots, Layer, Line, plot
from presilicon.view.scale import Axis

SHAPES = {"compute": "circle", "memory": "square", "power": "triangle", "link": "diamond", "overhead": "diamond"}
TONES = {"compute": 0, "memory": 1, "power": 3, "link": 5, "overhead": 7}
NAMED_SHARE = 0.04
"""Share of the time from which an operator is named in the picture."""
ENDLESS = 1e5
"""Operations a byte drawn for an operator that moves none off the chip."""


def roofline(report: EstimateReport, chip: Chip, *, width: float = 720.0) -> Picture:
    """Every operator of an estimate that computes or moves something, on one chip; a dot's area is its share of the time."""
    whole = sum(line.latency_s for line in report.operators) or 1.0
    shown = [line for line in report.operators if line.operations > 0 and line.latency_s > 0]
    points = [(_intensity(line), line.operations / line.latency_s, line) for line in shown]
    bandwidth = chip.get("memory.bytes_per_s")
    roofs = _roofs(chip, shown)
    x = Axis.around(
        "operations a byte of off-chip memory", "", [*(p[0] for p in points), 1.0, *_ridges(roofs, bandwidth)], log=True
    )
    y = Axis.around("operations a second", "OP/s", [*(p[1] for p in points), *roofs.values()], log=True)
    layers: list[Layer] = []
    for name, rate in roofs.items():
        slope = [(rate / bandwidth, rate), (x.high, rate)] if bandwidth else [(x.low, rate), (x.high, rate)]
        layers.append(Line(slope, tone=7, label=f"{name} {si(rate, 'OP/s')}"))
    if bandwidth:
        most = max(roofs.values(), default=bandwidth)
        top = min(x.high, most / bandwidth)
        layers.append(
            Line([(max(x.low, y.low / bandwidth), bandwidth * max(x.low, y.low / bandwidth)), (top, bandwidth * top)], tone=7)
        )
    for bound, tone in TONES.items():
        dots = [_dot(*point, whole) for point in points if point[2].bound == bound]
        if dots:
            layers.append(Dots(dots, f"{bound} bound", tone, SHAPES[bound]))
    busiest = max(shown, key=lambda line: line.latency_s, default=None)
    limit = f" Memory allows {si(bandwidth, 'B/s')}." if bandwidth else ""
    longest = f" {busiest.name} takes longest, {percent(busiest.latency_s / whole)} of the time." if busiest else ""
    return plot(
        "Roofline",
        x,
        y,
        layers,
        summary=f"{len(shown)} operators of {report.model} on one {chip.name}; the area of a mark is its share of the time."
        f"{limit}{longest}",
        source=f"estimate of {report.model} on {report.chip}, {report.formats}; peak rates and bandwidth of the chip's file",
        width=width,
        height=max(320.0, width * 0.52),
        columns=("operator", "OP/B", "OP/s", "of peak", "time", "bound"),
        rows=[
            (
                line.name,
                f"{at:,.3g}" if at < ENDLESS else "-",
                si(rate),
                percent(line.utilization),
                si(line.latency_s, "s"),
                line.bound,
            )
            for at, rate, line in sorted(points, key=lambda p: -p[2].latency_s)
        ],
    )


def _intensity(line: OperatorLine) -> float:
    return min(line.operations / line.memory_bytes if line.memory_bytes else inf, ENDLESS)


def _roofs(chip: Chip, lines: Sequence[OperatorLine]) -> dict[str, float]:
    """Rates of the formats that are used, and the vector unit's; each rate once."""
    found: dict[str, float] = {}
    for name in sorted({line.multiplied for line in lines if line.multiplied}):
        if (rate := chip.peak_ops_per_s.get(name)) is not None:
            same = next((n for n, r in found.items() if r == rate), None)
            if same:
                del found[same]
            found[f"{same}, {name}" if same else name] = rate
    if chip.vector_ops_per_s and any(not line.multiplied for line in lines):
        found["vector"] = chip.vector_ops_per_s
    return found


def _ridges(roofs: dict[str, float], bandwidth: float | None) -> list[float]:
    return [rate / bandwidth for rate in roofs.values()] if bandwidth else []


def _dot(x: float, y: float, line: OperatorLine, whole: float) -> Dot:
    share = line.latency_s / whole
    told = (
        f"{line.name}: {si(y, 'OP/s')}, {percent(line.utilization)} of peak, {percent(share)} of the time, {line.bound} bound"
    )
    return Dot(x, y, told, 3.0 + 14.0 * sqrt(share), line.name if share >= NAMED_SHARE else "")
