"""A plot in two axes: lines, dots, bars and bands, with legend, labels that do not overlap, and ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import TEXT_PX, Picture, text, text_width
from presilicon.view.scale import Axis

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Dot:
    """One thing: its place, what a pointer over it reads, its radius in pixels, and its name where it should be shown."""

    x: float
    y: float
    told: str = ""
    radius: float = 4.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Dots:
    """Things of one sort; ``shape`` (circle, square, diamond, triangle) tells sorts apart where colours do not."""

    dots: Sequence[Dot]
    name: str = ""
    tone: int = 0
    shape: str = "circle"
    faint: bool = False
    above: bool = False
    """Names stand above the marks where there is room, else beside them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points; ``label`` stands at its end."""

    points: Sequence[Point]
    name: str = ""
    tone: int = 0
    dashed: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """The area between a lower and an upper line: (x, low, high)."""

    points: Sequence[tuple[float, float, float]]
    name: str = ""
    tone: int = 0


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars from the bottom of the plot: (from x, to x, height)."""

    bars: Sequence[tuple[float, float, float]]
    name: str = ""
    tone: int = 0


Layer = Dots | Line | Band | Bars


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the plot lies in the picture, in pixels."""

    x: Axis
    y: Axis
    left: float
    top: float
    right: float
    bottom: float

    def at(self, x: float, y: float) -> Point:
        across, up = self.x.share(x), self.y.share(y)
        clipped_x, clipped_y = min(max(across, 0.0), 1.0), min(max(up, 0.0), 1.0)
        return self.left + clipped_x * (self.right - self.left), self.bottom - clipped_y * (self.bottom - self.top)

    def holds(self, x: float, y: float) -> bool:
        return -1e-9 <= self.x.share(x) <= 1 + 1e-9 and -1e-9 <= self.y.share(y) <= 1 + 1e-9


def plot(
    title: str,
    x: Axis,
    y: Axis,
    layers: Sequence[Layer],
    *,
    summary: str,
    source: str,
    width: float = 720.0,
    height: float = 380.0,
    columns: tuple[str, ...] = (),
    rows: Sequence[tuple[str, ...]] = (),
) -> Picture:
    """The picture of ``layers``; those with names are in the legend."""
    legend, legend_height = _legend([layer for layer in layers if layer.name], width)
    y_ticks = y.ticks(6)
    left = max((text_width(words) for _, words in y_ticks), default=0.0) + 10.0
    frame = _Frame(x, y, left, legend_height + 22.0, width - 8.0, height - 40.0)
    drawn = [_drawn(frame, layer) for layer in layers]
    body = join(legend, _axes(frame, y_ticks, width), *drawn, _labels(frame, layers))
    return Picture(
        title=title, body=body, width=width, height=height, summary=summary, source=source, columns=columns, rows=tuple(rows)
    )


def _axes(frame: _Frame, y_ticks: Sequence[tuple[float, str]], width: float) -> Markup:
    parts: list[Markup] = []
    for value, words in y_ticks:
        _, at = frame.at(frame.x.low, value)
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=at, y2=at, class_="grid"))
        parts.append(text(frame.left - 6.0, at + 4.0, words, anchor="end", class_="muted"))
    ticks = frame.x.ticks(max(3, int((frame.right - frame.left) / 90.0)))
    for value, words in ticks:
        at, _ = frame.at(value, frame.y.low)
        parts.append(tag("line", x1=at, x2=at, y1=frame.top, y2=frame.bottom, class_="grid"))
        half = text_width(words) / 2.0
        anchor = "end" if at + half > width else "middle"
        parts.append(text(at, frame.bottom + 16.0, words, anchor=anchor, class_="muted"))
    parts.append(tag("line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="axis"))
    parts.append(text(frame.left, frame.top - 8.0, frame.y.label, class_="muted"))
    parts.append(text(frame.right, frame.bottom + 34.0, frame.x.label, anchor="end", class_="muted"))
    return join(*parts)


def _legend(layers: Sequence[Layer], width: float) -> tuple[Markup, float]:
    """Names with their marks in rows that fit the width; the height they take."""
    parts: list[Markup] = []
    x, row, seen = 0.0, 0, set()
    for layer in layers:
        if layer.name in seen:
            continue
        seen.add(layer.name)
        takes = 16.0 + text_width(layer.name) + 14.0
        if x and x + takes > width:
            x, row = 0.0, row + 1
        y = 10.0 + 18.0 * row
        parts.append(_swatch(layer, x, y))
        parts.append(text(x + 16.0, y + 4.0, layer.name))
        x += takes
    return join(*parts), 18.0 * (row + 1) + 4.0 if parts else 0.0


def _swatch(layer: Layer, x: float, y: float) -> Markup:
    if isinstance(layer, Dots):
        return _mark(layer, x + 6.0, y, 4.5)
    if isinstance(layer, Line):
        return tag("line", x1=x, x2=x + 12.0, y1=y, y2=y, class_=_line_class(layer))
    soft = " soft" if isinstance(layer, Band) else " half"
    return tag("rect", x=x, y=y - 5.0, width=12.0, height=10.0, class_=f"f{layer.tone}{soft}")


def _line_class(line: Line) -> str:
    return f"line l{line.tone}" + (" dashed" if line.dashed else "")


def _drawn(frame: _Frame, layer: Layer) -> Markup:
    match layer:
        case Line():
            known = [frame.at(x, y) for x, y in layer.points if math.isfinite(x) and math.isfinite(y)]
            return tag("path", d=_path(known), class_=_line_class(layer)) if known else join()
        case Band():
            upper = [frame.at(x, high) for x, _, high in layer.points]
            lower = [frame.at(x, low) for x, low, _ in reversed(layer.points)]
            return tag("path", d=_path([*upper, *lower]) + "Z", class_=f"f{layer.tone} soft")
        case Bars():
            return join(*(_bar(frame, layer.tone, *bar) for bar in layer.bars))
        case Dots():
            shown = [dot for dot in layer.dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
            marks = []
            for dot in shown:
                at = frame.at(dot.x, dot.y)
                marks.append(_mark(layer, *at, dot.radius, dot.told))
            return join(*marks)


def _bar(frame: _Frame, tone: int, low: float, high: float, value: float) -> Markup:
    left, top = frame.at(low, value)
    right, bottom = frame.at(high, frame.y.low)
    return tag("rect", x=left, y=top, width=max(right - left - 1.0, 0.5), height=bottom - top, class_=f"f{tone} half")


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _mark(layer: Dots, x: float, y: float, r: float, told: str = "") -> Markup:
    look = f"f{layer.tone} dots" + (" half" if layer.faint else "")
    title = tag("title", told) if told else None
    if layer.shape == "circle":
        return tag("circle", title, cx=x, cy=y, r=r, class_=look)
    if layer.shape == "square":
        return tag("rect", title, x=x - r * 0.9, y=y - r * 0.9, width=1.8 * r, height=1.8 * r, class_=look)
    corners = {
        "diamond": ((0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)),
        "triangle": ((0.0, -1.2), (1.1, 0.85), (-1.1, 0.85)),
    }[layer.shape]
    return tag("polygon", title, points=" ".join(f"{x + a * r:.1f},{y + b * r:.1f}" for a, b in corners), class_=look)


def _labels(frame: _Frame, layers: Sequence[Layer]) -> Markup:
    """Names of dots and ends of lines, each where it covers none of the others; one that finds no room is left out."""
    taken: list[tuple[float, float, float, float]] = []
    for layer in layers:
        if isinstance(layer, Dots):
            for dot in layer.dots:
                if dot.label:
                    x, y = frame.at(dot.x, dot.y)
                    taken.append((x - dot.radius, y - dot.radius, x + dot.radius, y + dot.radius))
    parts: list[Markup] = []
    for layer in layers:
        if isinstance(layer, Dots):
            for dot in layer.dots:
                if dot.label:
                    x, y = frame.at(dot.x, dot.y)
                    parts.append(_placed(dot.label, x, y, dot.radius + 4.0, frame, taken, layer.above))
        elif isinstance(layer, Line) and layer.label and layer.points:
            x, y = frame.at(*layer.points[-1])
            parts.append(_at_end(layer.label, x, y, frame, taken))
    return join(*parts)


def _at_end(words: str, x: float, y: float, frame: _Frame, taken: list[tuple[float, float, float, float]]) -> Markup:
    """The name of a line above its end, or below it."""
    wide = text_width(words)
    left = max(frame.left, min(x, frame.right) - wide)
    for base in (y - 5.0, y + TEXT_PX + 2.0):
        box = (left, base - TEXT_PX + 2.0, left + wide, base + 3.0)
        if not any(_meet(box, other) for other in taken):
            taken.append(box)
            return text(left + wide, base, words, anchor="end", class_="halo muted")
    return join()


def _placed(
    words: str, x: float, y: float, gap: float, frame: _Frame, taken: list[tuple[float, float, float, float]], above: bool
) -> Markup:
    wide = text_width(words)
    places = (
        (x + gap, y + 4.0), (x - gap - wide, y + 4.0), (x - wide / 2, y - gap - 2.0), (x - wide / 2, y + gap + 10.0),
        (x + gap, y - gap - 2.0), (x - gap - wide, y - gap - 2.0), (x + gap, y + gap + 10.0), (x - gap - wide, y + gap + 10.0),
    )  # fmt: skip
    for left, base in (*places[2:4], *places) if above else places:
        box = (left, base - TEXT_PX + 2.0, left + wide, base + 3.0)
        inside = box[0] >= frame.left and box[2] <= frame.right + 8.0 and box[1] >= frame.top - 4.0 and box[3] <= frame.bottom
        if inside and not any(_meet(box, other) for other in taken):
            taken.append(box)
            return text(left, base, words, class_="halo")
    return join()


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
