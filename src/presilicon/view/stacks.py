"""Stacked bars: what a quantity goes to, for one thing or for several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presilicon.units import percent, si
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture, shortened, text, text_width

TONES = 8
BAR_PX, GAP_PX = 26.0, 34.0
LIGHT_TONES = (3, 4, 5, 6)
"""Tones on which dark letters read better."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar: its name and its parts in order, each a value of the unit of the picture (zero or more)."""

    name: str
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """The whole bar."""
        return sum(self.parts.values())


def stacks(
    title: str, bars: Sequence[Stack], unit: str, *, summary: str, source: str, width: float = 720.0, digits: int = 3
) -> Picture:
    """Bars to one scale; parts of one name have one colour in all of them, and each part tells its value and share."""
    names = list(dict.fromkeys(name for bar in bars for name, value in bar.parts.items() if value > 0))
    longest = max((bar.total for bar in bars), default=0.0) or 1.0
    named = any(bar.name for bar in bars)
    legend, top = _legend(names, width)
    room = max((1.08 * text_width(shown(bar.total, unit, digits)) for bar in bars), default=0.0) + 10.0
    parts: list[Markup] = [legend]
    y = top + 4.0
    for bar in bars:
        if named:
            parts.append(text(0.0, y + 10.0, shortened(bar.name, width), class_="strong"))
            y += 16.0
        parts.append(_bar(bar, names, longest, width - room, y, unit, digits))
        y += BAR_PX + (GAP_PX - 16.0 if named else GAP_PX - 20.0)
    rows = [
        (bar.name or "all", name, shown(value, unit, digits), percent(value / bar.total))
        for bar in bars
        for name, value in bar.parts.items()
        if value > 0
    ]
    columns = ("bar", "part", unit or "value", "share")
    return Picture(
        title=title, body=join(*parts), width=width, height=y, summary=summary, source=source, columns=columns, rows=tuple(rows)
    )


def shown(value: float, unit: str, digits: int = 3) -> str:
    """A value with its unit: money and areas in full, shares in percent, the rest with an SI prefix."""
    if unit == "%":
        return percent(value)
    if unit in _WHOLE:
        return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:,.{digits}g} {unit}"
    return si(value, unit, digits)


_WHOLE = ("USD", "mm2", "USD/Mtoken")


def _legend(names: Sequence[str], width: float) -> tuple[Markup, float]:
    parts: list[Markup] = []
    x, y = 0.0, 10.0
    for index, name in enumerate(names):
        takes = 16.0 + text_width(name) + 14.0
        if x and x + takes > width:
            x, y = 0.0, y + 18.0
        parts.append(tag("rect", x=x, y=y - 6.0, width=11.0, height=11.0, class_=f"f{index % TONES}"))
        parts.append(text(x + 16.0, y + 4.0, name))
        x += takes
    return join(*parts), y + 10.0


def _bar(bar: Stack, names: Sequence[str], longest: float, width: float, y: float, unit: str, digits: int) -> Markup:
    parts: list[Markup] = []
    x = 0.0
    for name, value in bar.parts.items():
        if value <= 0:
            continue
        tone = names.index(name) % TONES
        wide = width * value / longest
        share = percent(value / bar.total)
        told = tag("title", f"{bar.name + ': ' if bar.name else ''}{name} {shown(value, unit, digits)}, {share}")
        parts.append(tag("rect", told, x=x, y=y, width=wide, height=BAR_PX, class_=f"f{tone} cell"))
        if wide > text_width(share) + 8.0:
            ink = "onlight" if tone in LIGHT_TONES else "on"
            parts.append(text(x + wide / 2.0, y + BAR_PX / 2.0 + 4.0, share, anchor="middle", class_=ink))
        x += wide
    parts.append(text(x + 6.0, y + BAR_PX / 2.0 + 4.0, shown(bar.total, unit, digits), class_="strong"))
    return join(*parts)
