"""Scatter plots: designs with their Pareto front, and predictions beside what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from presilicon.units import percent, si
from presilicon.view.picture import Picture
from presilicon.view.plot import Band, Dot, Dots, Layer, Line, plot
from presilicon.view.scale import Axis

SHAPES = ("circle", "square", "triangle", "diamond")
MOST_SORTS = 8
MOST_DRAWN = 1500
WITHIN = 0.25
"""Relative error of the band around exact predictions."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of designs: its key, its name with words, its unit, and whether less of it is better."""

    key: str
    name: str
    unit: str
    less: bool = True


@dataclass(frozen=True, slots=True)
class Design:
    """One design: a name and its figures by key."""

    name: str
    figures: Mapping[str, float]


def pareto(
    front: Sequence[Design],
    x: Measure,
    y: Measure,
    *,
    source: str,
    others: Sequence[Design] = (),
    chosen: str = "",
    known: Sequence[Design] = (),
    evaluated: int | None = None,
    title: str = "Pareto front",
    width: float = 720.0,
) -> Picture:
    """The front of a search in two of its figures: what was evaluated behind it, the chosen design and known chips named."""
    every = [*front, *others, *known]
    x_axis = _axis(x, [d.figures[x.key] for d in every if x.key in d.figures])
    y_axis = _axis(y, [d.figures[y.key] for d in every if y.key in d.figures])
    layers: list[Layer] = []
    if others:
        layers.append(Dots(_dots(others, x, y, 2.2, named=False), "evaluated", 7, faint=True))
    stairs = _stairs(front, x, y)
    if len(stairs) > 1:
        layers.append(Line(stairs, tone=0))
    rest = [d for d in front if d.name != chosen]
    layers.append(Dots(_dots(rest, x, y, 4.5, named=False), "not beaten by another", 0))
    if known:
        layers.append(Dots(_dots(known, x, y, 5.0, named=True), "chips to buy", 1, "square"))
    if picked := [d for d in front if d.name == chosen]:
        layers.append(Dots(_dots(picked, x, y, 7.0, named=True), "chosen", 2, "diamond"))
    count = f" of {evaluated:,} evaluated" if evaluated else ""
    return plot(
        title,
        x_axis,
        y_axis,
        layers,
        summary=f"{len(front)} designs{count} that no other beats in every figure, by {x.name} and {y.name}; "
        f"{'less' if x.less else 'more'} and {'less' if y.less else 'more'} is better.",
        source=source,
        width=width,
        height=max(300.0, width * 0.5),
        columns=("design", x.name, y.name),
        rows=[(d.name, si(d.figures.get(x.key), x.unit), si(d.figures.get(y.key), y.unit)) for d in [*front, *known]],
    )


def _axis(measure: Measure, values: Sequence[float]) -> Axis:
    positive = [v for v in values if v > 0]
    wide = bool(positive) and max(positive) > 4 * min(positive)
    return Axis.around(measure.name, measure.unit, values, log=wide)


def _dots(designs: Sequence[Design], x: Measure, y: Measure, radius: float, *, named: bool) -> list[Dot]:
    return [
        Dot(
            d.figures[x.key],
            d.figures[y.key],
            f"{d.name}: {x.name} {si(d.figures[x.key], x.unit)}, {y.name} {si(d.figures[y.key], y.unit)}",
            radius,
            d.name if named else "",
        )
        for d in designs
        if x.key in d.figures and y.key in d.figures
    ]


def _stairs(front: Sequence[Design], x: Measure, y: Measure) -> list[tuple[float, float]]:
    """The edge of what is reached in these two figures alone, as steps."""
    points = sorted((d.figures[x.key], d.figures[y.key]) for d in front if x.key in d.figures and y.key in d.figures)
    if not x.less:
        points.reverse()
    edge: list[tuple[float, float]] = []
    for across, up in points:
        if not edge or (up < edge[-1][1] if y.less else up > edge[-1][1]):
            if edge:
                edge.append((across, edge[-1][1]))
            edge.append((across, up))
    return edge


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row of a validation: whose chip, what was published, what is predicted."""

    chip: str
    published: float
    predicted: float
    told: str = ""


def published(
    title: str, rows: Sequence[Comparison], unit: str, *, source: str, named: int = 8, width: float = 720.0
) -> Picture:
    """Predicted over published, one colour and shape a chip; the band holds errors up to 25 %.

    Of very many rows, ``MOST_DRAWN`` are drawn, evenly taken; the figures are those of all.
    """
    kept = [r for r in rows if r.published > 0 and r.predicted > 0]
    step = -(-len(kept) // MOST_DRAWN)
    drawn = kept[::step] if step > 1 else kept
    chips = sorted({r.chip for r in kept}, key=lambda c: -sum(r.chip == c for r in kept))
    values = [v for r in kept for v in (r.published, r.predicted)]
    across = Axis.around("published", unit, values, log=True)
    up = Axis.around("predicted", unit, values, log=True)
    layers: list[Layer] = [
        Band([(v, v * (1 - WITHIN), v * (1 + WITHIN)) for v in (across.low, across.high)], "within 25 %", 7),
        Line([(across.low, across.low), (across.high, across.high)], tone=7),
    ]
    shown = chips[: MOST_SORTS - 1] if len(chips) > MOST_SORTS else chips
    radius = 5.0 if len(kept) < 100 else 3.0 if len(kept) < 1000 else 2.0
    for index, chip in enumerate(shown):
        dots = [Dot(r.published, r.predicted, _told(r, unit), radius) for r in drawn if r.chip == chip]
        layers.append(Dots(dots, chip, index % MOST_SORTS, SHAPES[index % len(SHAPES)], len(kept) > 1000))
    if rest := [r for r in drawn if r.chip not in shown]:
        layers.append(
            Dots([Dot(r.published, r.predicted, _told(r, unit), radius) for r in rest], f"{len(chips) - len(shown)} others", 7)
        )
    part = f", {len(drawn):,} of them drawn" if step > 1 else ""
    errors = [abs(r.predicted / r.published - 1.0) for r in kept]
    worst = sorted(kept, key=lambda r: -abs(r.predicted / r.published - 1.0))[:named]
    return plot(
        title,
        across,
        up,
        layers,
        summary=f"{len(kept):,} rows of {len(chips)} chips{part}; median error {percent(median(errors)) if errors else '-'}, "
        f"{percent(sum(e <= WITHIN for e in errors) / len(errors) if errors else None)} of them within 25 %.",
        source=source,
        width=width,
        height=max(320.0, width * 0.62),
        columns=("farthest off", "chip", "published", "predicted", "error"),
        rows=[
            (r.told or "-", r.chip, si(r.published, unit), si(r.predicted, unit), percent(r.predicted / r.published - 1))
            for r in worst
        ],
    )


def _told(row: Comparison, unit: str) -> str:
    words = f"{row.chip}: published {si(row.published, unit)}, predicted {si(row.predicted, unit)}"
    return f"{words}; {row.told}" if row.told else words
