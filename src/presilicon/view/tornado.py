"""Which assumption moves a result most: its value at both ends of each, the widest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from presilicon.units import si
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture, shortened, text, text_width


@dataclass(frozen=True, slots=True)
class Bar:
    """One assumption: its name with its two ends in words, and what the result is at each of them."""

    name: str
    low: str
    high: str
    at_low: float
    at_high: float


LINE_PX, BAR_PX = 30.0, 16.0


def tornado(
    title: str, centre: float, bars: Sequence[Bar], unit: str, *, source: str, most: int = 12, width: float = 720.0
) -> Picture:
    """``centre`` is the result at all assumptions' own values; bars that are not finite end at the picture's edge."""
    kept = sorted(bars, key=lambda b: -abs(b.at_high - b.at_low) if isfinite(b.at_high - b.at_low) else float("-inf"))[:most]
    finite = [v for b in kept for v in (b.at_low, b.at_high) if isfinite(v)] + [centre]
    low, high = min(finite), max(finite)
    room = (high - low) * 0.05 or abs(centre) * 0.05 or 1.0
    low, high = low - room, high + room
    words = [each for b in kept for each in (b.name, f"{b.low} to {b.high}")]
    names = min(0.42 * width, max((text_width(each) for each in words), default=0.0) + 8.0)
    left, right = names, width - 8.0

    def at(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return left + share * (right - left)

    def shown(value: float) -> str:
        return f"{value:,.3g} {unit}" if unit == "USD" or not isfinite(value) else si(value, unit)

    parts: list[Markup] = [text(at(centre), 12.0, shown(centre), anchor="middle", class_="strong")]
    y = 22.0
    for b in kept:
        parts.append(text(0.0, y + 9.0, shortened(b.name, names - 8.0)))
        ends = shortened(f"{b.low} to {b.high}", names - 8.0, 11.0)
        parts.append(text(0.0, y + 22.0, ends, class_="muted small"))
        for value, end, tone in ((b.at_low, b.low, 4), (b.at_high, b.high, 1)):
            x0, x1 = sorted((at(centre), at(value)))
            told = tag("title", f"{b.name} {end}: {shown(value)}")
            parts.append(tag("rect", told, x=x0, y=y, width=max(x1 - x0, 0.5), height=BAR_PX, class_=f"f{tone} cell"))
        y += LINE_PX
    parts.append(tag("line", x1=at(centre), x2=at(centre), y1=16.0, y2=y, class_="axis"))
    widest = kept[0].name if kept else "no assumption"
    return Picture(
        title=title, body=join(*parts), width=width, height=y + 4.0,
        summary=f"{shown(centre)}; {widest} moves it most. Light: the assumption's low end, dark: its high end.", source=source,
        columns=("assumption", "from", "to", "result at low", "result at high"),
        rows=tuple((b.name, b.low, b.high, shown(b.at_low), shown(b.at_high)) for b in kept),
    )  # fmt: skip
