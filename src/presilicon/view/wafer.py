"""A wafer with its dies, as many of them failing as the yield says."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, sqrt
from random import Random

from presilicon.errors import InputError
from presilicon.units import percent
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Wafer:
    """A wafer (mm), one die (mm2, width over height), scribe lines, and the share of dies that works (0 to 1).

    ``counted`` is the number of whole dies by the formula that costs rest on.
    """

    die_mm2: float
    die_yield: float
    counted: float
    node: str
    aspect: float = 1.0
    diameter_mm: float = 300.0
    edge_mm: float = 3.0
    scribe_mm: float = 0.1

    def __post_init__(self) -> None:
        if not (0.0 < self.die_mm2 < self.diameter_mm**2 and 0.0 <= self.die_yield <= 1.0):
            raise InputError(f"a die of {self.die_mm2:g} mm2 with a yield of {self.die_yield:g} is on no wafer")


def dies_on(wafer: Wafer) -> list[tuple[float, float]]:
    """Centres of the whole dies in mm from the middle, for the best of four places of the grid."""
    wide = sqrt(wafer.die_mm2 * wafer.aspect) + wafer.scribe_mm
    high = sqrt(wafer.die_mm2 / wafer.aspect) + wafer.scribe_mm
    radius = wafer.diameter_mm / 2.0 - wafer.edge_mm
    across, up = int(radius // wide) + 2, int(radius // high) + 2
    best: list[tuple[float, float]] = []
    for shift_x in (0.0, wide / 2.0):
        for shift_y in (0.0, high / 2.0):
            found = [
                (i * wide + shift_x, j * high + shift_y)
                for j in range(-up, up + 1)
                for i in range(-across, across + 1)
                if hypot(abs(i * wide + shift_x) + wide / 2.0, abs(j * high + shift_y) + high / 2.0) <= radius
            ]
            best = max(best, found, key=len)
    return best


MOST_DRAWN = 4000
"""Dies beyond which they are counted, not drawn."""


def wafer_map(wafer: Wafer, *, source: str, width: float = 420.0) -> Picture:
    """The wafer; which dies fail is drawn at random, how many is the yield."""
    small = wafer.counted > MOST_DRAWN
    centres = [] if small else dies_on(wafer)
    failing = round(len(centres) * (1.0 - wafer.die_yield))
    bad = set(Random(0).sample(range(len(centres)), failing))
    size = min(width, 420.0)
    scale = (size - 8.0) / wafer.diameter_mm
    middle_x, middle_y = width / 2.0, size / 2.0
    wide, high = sqrt(wafer.die_mm2 * wafer.aspect) * scale, sqrt(wafer.die_mm2 / wafer.aspect) * scale
    parts: list[Markup] = [
        tag("circle", cx=middle_x, cy=middle_y, r=wafer.diameter_mm / 2.0 * scale, class_="wash"),
        tag("circle", cx=middle_x, cy=middle_y, r=wafer.diameter_mm / 2.0 * scale, class_="edge"),
    ]
    for good in (True, False):  # one path a sort: thousands of dies stay small
        d = "".join(
            f"M{middle_x + x * scale - wide / 2:.1f} {middle_y + y * scale - high / 2:.1f}h{wide:.2f}v{high:.2f}h-{wide:.2f}z"
            for index, (x, y) in enumerate(centres)
            if (index not in bad) is good
        )
        if d:
            parts.append(tag("path", d=d, class_="f0 half cell" if good else "f1 cell"))
    if not small:
        parts += [tag("rect", x=0.0, y=size + 4.0, width=11.0, height=11.0, class_="f0 half"), text(16.0, size + 14.0, "works")]
        parts += [tag("rect", x=70.0, y=size + 4.0, width=11.0, height=11.0, class_="f1"), text(86.0, size + 14.0, "fails")]
    good_dies = wafer.counted * wafer.die_yield
    drawn = "too many to draw" if small else f"{len(centres)} drawn, places of failing ones at random"
    return Picture(
        title="Wafer",
        body=join(*parts),
        width=width,
        height=size + (6.0 if small else 22.0),
        summary=f"{wafer.counted:,.0f} whole dies of {wafer.die_mm2:,.4g} mm2 at {wafer.node}, "
        f"{percent(wafer.die_yield)} of them work: {good_dies:,.0f} ({drawn}).",
        source=source,
        columns=("figure", "value"),
        rows=(
            ("die", f"{wafer.die_mm2:,.4g} mm2"),
            ("whole dies, by formula", f"{wafer.counted:,.1f}"),
            ("yield", percent(wafer.die_yield)),
            ("good dies", f"{good_dies:,.1f}"),
        ),
    )
