"""What each unit does when: spans of levels above one another on one scale of cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from presilicon.errors import InputError
from presilicon.trace import Span
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture, text, text_width
from presilicon.view.scale import Axis

TRACK_PX, GAP_PX, LEVEL_PX = 16.0, 4.0, 22.0
MOST_SPANS = 4000
"""Spans of one level that are drawn; with more, neighbours closer than a pixel are drawn as one."""


def timeline(
    levels: Mapping[str, Sequence[Span]],
    *,
    source: str,
    window: tuple[int, int] | None = None,
    width: float = 960.0,
    title: str = "Timeline",
) -> Picture:
    """Spans by level and unit from cycle ``window[0]`` to ``window[1]`` (all of them unless told).

    One kind of instruction has one colour on every level, so that levels that agree look alike. InputError where there is
    nothing to draw.
    """
    every = [span for spans in levels.values() for span in spans]
    if not every:
        raise InputError("there are no spans to draw", where="timeline")
    start, end = window or (min(s.start for s in every), max(s.end for s in every))
    units = list(dict.fromkeys(s.unit for s in every))
    names = {name: index for index, name in enumerate(dict.fromkeys(s.name for s in every))}
    left = max(text_width(unit) for unit in units) + 10.0
    axis = Axis("cycles", "", float(start), float(max(end, start + 1)))
    parts: list[Markup] = []
    y = 4.0
    rows: list[tuple[str, ...]] = []
    for level, spans in levels.items():
        parts.append(text(0.0, y + 12.0, level, class_="strong"))
        y += LEVEL_PX
        for unit in units:
            own = [s for s in spans if s.unit == unit and s.end > start and s.start < end]
            parts.append(text(0.0, y + 12.0, unit, class_="muted"))
            parts.append(_track(own, axis, left, width, y, names))
            busy = _busy(own, start, end)
            rows.append((level, unit, str(len(own)), f"{busy:,}", f"{100.0 * busy / max(end - start, 1):.1f} %"))
            y += TRACK_PX + GAP_PX
        y += 6.0
    grid: list[Markup] = []
    for value, words in axis.ticks(8):
        x = left + axis.share(value) * (width - left)
        grid.append(tag("line", x1=x, x2=x, y1=4.0, y2=y, class_="grid"))
        grid.append(text(x, y + 14.0, words, anchor="middle" if x < width - 20.0 else "end", class_="muted"))
    told = ", ".join(f"{level} {max(s.end for s in spans):,} cycles" for level, spans in levels.items() if spans)
    return Picture(
        title=title, body=join(*grid, *parts), width=width, height=y + 22.0,
        summary=f"{told}. Each block is an instruction from issue to done; shades tell kinds of instructions apart.",
        source=source,
        columns=("level", "unit", "instructions", "busy cycles", "of the time"), rows=tuple(rows),
    )  # fmt: skip


def _busy(spans: Sequence[Span], start: int, end: int) -> int:
    """Cycles of a window in which at least one of the spans lasts; several may last at once."""
    total, until = 0, start
    for span in sorted(spans, key=lambda s: s.start):
        total += max(0, min(span.end, end) - max(span.start, until))
        until = max(until, min(span.end, end))
    return total


def _track(spans: Sequence[Span], axis: Axis, left: float, width: float, y: float, names: Mapping[str, int]) -> Markup:
    scale = width - left
    merged: list[tuple[float, float, str, str]] = []
    for span in sorted(spans, key=lambda s: s.start):
        x0 = left + min(max(axis.share(span.start), 0.0), 1.0) * scale
        x1 = left + min(max(axis.share(span.end), 0.0), 1.0) * scale
        told = f"{span.name}: cycles {span.start:,} to {span.end:,}" + "".join(f", {k} {v}" for k, v in span.detail.items())
        if merged and len(spans) > MOST_SPANS and x0 - merged[-1][1] < 1.0 and merged[-1][2] == span.name:
            merged[-1] = (merged[-1][0], x1, span.name, "several: " + span.name)
        else:
            merged.append((x0, x1, span.name, told))
    return join(
        *(
            tag(
                "rect",
                tag("title", told),
                x=x0,
                y=y,
                width=max(x1 - x0, 0.75),
                height=TRACK_PX,
                class_=f"f{names[name] % 8} cell",
            )
            for x0, x1, name, told in merged
        )
    )
