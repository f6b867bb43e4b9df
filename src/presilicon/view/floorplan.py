"""A die to scale: every block as large as its area, memory interfaces and links at the edge, shared memory between the cores.

Where blocks lie is a drawing of ours, not a placement; how large they are is the estimate's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, sqrt

from presilicon.errors import InputError
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture, text, text_width

TONES = {
    "array": 0, "vector unit": 4, "scratchpad": 2, "core control": 7, "core": 0, "core logic": 0,
    "shared memory": 2, "memory interface": 1,
    "links": 3, "fabric": 7, "other": 7,
}  # fmt: skip
LIGHT = (3, 4)
ASPECT = 1.2
"""Width of a die over its height, unless told."""
MOST_CELLS, MOST_DIVIDED = 1024, 160
"""Cores that are drawn each; those whose parts are drawn too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Die:
    """Areas of one die in mm2. ``core_parts`` are those of all cores together, by part."""

    name: str
    cores: int
    core_parts: Mapping[str, float]
    shared_memory_mm2: float = 0.0
    memory_interface_mm2: float = 0.0
    memory_interfaces: int = 2
    links_mm2: float = 0.0
    fabric_mm2: float = 0.0
    other_mm2: float = 0.0
    aspect: float = ASPECT

    def __post_init__(self) -> None:
        if self.cores < 1 or self.area_mm2 <= 0 or min((*self.core_parts.values(), 0.0)) < 0:
            raise InputError("a floorplan needs areas above zero and a core at least", where=self.name)

    @property
    def cores_mm2(self) -> float:
        """All cores."""
        return sum(self.core_parts.values())

    @property
    def area_mm2(self) -> float:
        """The whole die."""
        edge = self.memory_interface_mm2 + self.links_mm2
        return self.cores_mm2 + self.shared_memory_mm2 + edge + self.fabric_mm2 + self.other_mm2


@dataclass(frozen=True, slots=True)
class Rect:
    """A placed block in mm, from the top left."""

    kind: str
    name: str
    x: float
    y: float
    w: float
    h: float


def place(die: Die) -> list[Rect]:
    """Rectangles that fill the die, each as large as its block."""
    height = sqrt(die.area_mm2 / die.aspect)
    width = die.area_mm2 / height
    placed: list[Rect] = []
    left, right = 0.0, width
    if die.memory_interface_mm2 > 0:
        number = max(1, die.memory_interfaces)
        sides = 1 if number == 1 else 2
        on_left = ceil(number / sides)
        for side, count in enumerate((on_left, number - on_left)):
            if count:
                wide = die.memory_interface_mm2 * count / number / height
                x = 0.0 if side == 0 else width - wide
                placed += [
                    Rect("memory interface", "memory interface", x, i * height / count, wide, height / count)
                    for i in range(count)
                ]
                left, right = (wide, right) if side == 0 else (left, x)
    top, bottom = 0.0, height
    inner = right - left
    if die.links_mm2 > 0:
        high = die.links_mm2 / inner
        placed.append(Rect("links", "links", left, height - high, inner, high))
        bottom = height - high
    for kind, area in (("other", die.other_mm2),):
        if area > 0:
            high = area / inner
            placed.append(Rect(kind, "control, network, white space", left, top, inner, high))
            top += high
    upper = (die.cores + 1) // 2 if die.shared_memory_mm2 + die.fabric_mm2 > 0 and die.cores > 1 else die.cores
    share = upper / die.cores
    high = die.cores_mm2 * share / inner if inner else 0.0
    placed += _cores(die, upper, left, top, inner, high)
    y = top + high
    for kind, area in (("fabric", die.fabric_mm2), ("shared memory", die.shared_memory_mm2)):
        if area > 0:
            placed.append(Rect(kind, "on-chip network" if kind == "fabric" else kind, left, y, inner, area / inner))
            y += area / inner
    if upper < die.cores:
        placed += _cores(die, die.cores - upper, left, y, inner, bottom - y)
    return placed


def _cores(die: Die, number: int, x: float, y: float, w: float, h: float) -> list[Rect]:
    """``number`` cores of equal area in rows that fill a rectangle; with their parts where they are few."""
    if number < 1 or w <= 0 or h <= 0 or die.cores_mm2 <= 0:
        return []
    if number > MOST_CELLS:
        return [Rect("core", f"{number} cores", x, y, w, h)]
    rows = max(1, min(number, round(sqrt(number * h / w))))
    placed: list[Rect] = []
    done, at = 0, y
    for row in range(rows):
        here = (number * (row + 1)) // rows - done
        high = h * here / number
        for column in range(here):
            cell = Rect("core", f"core {done + column + 1}", x + column * w / here, at, w / here, high)
            placed += _divided(die, cell, w * rows >= h * (number / rows)) if die.cores <= MOST_DIVIDED else [cell]
        done, at = done + here, at + high
    return placed


def _divided(die: Die, cell: Rect, across: bool) -> list[Rect]:
    """The parts of a core side by side, or one above the other."""
    placed: list[Rect] = []
    x, y, w, h = cell.x, cell.y, cell.w, cell.h
    for kind, area in die.core_parts.items():
        share = area / die.cores_mm2
        if share <= 0:
            continue
        wide, high = (cell.w * share, h) if across else (w, cell.h * share)
        placed.append(Rect(kind, f"{cell.name}: {kind}", x, y, wide, high))
        x, y = (x + wide, y) if across else (x, y + high)
    return placed


def floorplan(die: Die, *, source: str, width: float = 480.0) -> Picture:
    """The die as a picture, with its sides and a bar of length in mm."""
    rects = place(die)
    die_width, die_height = sqrt(die.area_mm2 * die.aspect), sqrt(die.area_mm2 / die.aspect)
    areas = _areas(die)
    legend, top = _legend(areas, width)
    scale = (width - 40.0) / die_width
    parts: list[Markup] = [legend]
    inside = (*die.core_parts, "core")
    for kind in dict.fromkeys(r.kind for r in rects if r.kind in inside):  # one path a kind: cores are many
        alike = [r for r in rects if r.kind == kind]
        d = "".join(
            f"M{r.x * scale:.1f} {top + r.y * scale:.1f}h{r.w * scale:.1f}v{r.h * scale:.1f}h-{r.w * scale:.1f}z" for r in alike
        )
        title = tag("title", f"{kind}, {sum(r.w * r.h for r in alike):,.3g} mm2 in {die.cores:,} cores")
        parts.append(tag("path", title, d=d, class_=_look(kind)))
    for r in (r for r in rects if r.kind not in inside):
        x, y, wide, high = r.x * scale, top + r.y * scale, r.w * scale, r.h * scale
        title = tag("title", f"{r.name}, {r.w * r.h:,.3g} mm2")
        parts.append(tag("rect", title, x=x, y=y, width=wide, height=high, class_=_look(r.kind)))
        if min(wide, high) > 15.0:
            parts.append(_named(r, scale, top))
    parts.append(tag("rect", x=0.5, y=top + 0.5, width=die_width * scale - 1.0, height=die_height * scale - 1.0, class_="edge"))
    bottom = top + die_height * scale
    parts.append(text(die_width * scale + 6.0, top + die_height * scale / 2.0, f"{die_height:.1f}", class_="muted"))
    parts.append(text(die_width * scale / 2.0, bottom + 16.0, f"{die_width:.1f} mm", anchor="middle", class_="muted"))
    bar = _round_length(die_width / 4.0)
    parts.append(tag("line", x1=0.0, x2=bar * scale, y1=bottom + 12.0, y2=bottom + 12.0, class_="edge"))
    parts.append(text(bar * scale + 6.0, bottom + 16.0, f"{bar:g} mm", class_="muted"))
    rows = [(name, f"{area:,.3g}", f"{100 * area / die.area_mm2:.1f} %") for name, area in areas.items()]
    return Picture(
        title="Floorplan",
        body=join(*parts),
        width=width,
        height=bottom + 24.0,
        summary=f"A die of {die.area_mm2:,.4g} mm2 with {die.cores:,} core{'s' if die.cores > 1 else ''}: "
        "areas to scale, places drawn by us.",
        source=source,
        columns=("block", "mm2", "share"),
        rows=tuple(rows),
    )


def _look(kind: str) -> str:
    faint = " half" if kind not in ("array", "core logic", "vector unit", "scratchpad", "memory interface", "links") else ""
    return f"f{TONES.get(kind, 7)} cell{faint}"


def _areas(die: Die) -> dict[str, float]:
    found = dict(die.core_parts) | {
        "shared memory": die.shared_memory_mm2, "memory interface": die.memory_interface_mm2, "links": die.links_mm2,
        "on-chip network": die.fabric_mm2, "control, network, white space": die.other_mm2,
    }  # fmt: skip
    return {name: area for name, area in found.items() if area > 0}


def _legend(areas: Mapping[str, float], width: float) -> tuple[Markup, float]:
    parts: list[Markup] = []
    x, y = 0.0, 10.0
    for name, area in areas.items():
        words = f"{name} {area:,.3g} mm2"
        takes = 16.0 + text_width(words) + 12.0
        if x and x + takes > width:
            x, y = 0.0, y + 18.0
        parts.append(tag("rect", x=x, y=y - 6.0, width=11.0, height=11.0, class_=_look(name)))
        parts.append(text(x + 16.0, y + 4.0, words))
        x += takes
    return join(*parts), y + 14.0


def _named(r: Rect, scale: float, top: float) -> Markup:
    wide, high = r.w * scale, r.h * scale
    x, y = (r.x + r.w / 2.0) * scale, top + (r.y + r.h / 2.0) * scale
    turned = high > wide
    if text_width(r.name) + 6.0 > max(wide, high):
        return join()
    ink = "onlight" if TONES.get(r.kind, 7) in LIGHT or r.kind in ("other", "fabric", "shared memory") else "on"
    turn = f"rotate(-90 {x:.1f} {y:.1f})" if turned else ""
    words = tag("text", r.name, x=x, y=y + 4.0, text_anchor="middle", class_=ink + " small", transform=turn or None)
    return words


def _round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... mm (or tenths and hundredths of them) that is not longer."""
    best = 0.01
    for power in range(-2, 3):
        for step in (1.0, 2.0, 5.0):
            if step * 10.0**power <= length:
                best = step * 10.0**power
    return best
