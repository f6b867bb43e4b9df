"""A report as one HTML file that needs nothing else: summary, key figures, sections, sources, the command that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from presilicon.units import percent, si
from presilicon.view.markup import Markup, join, tag
from presilicon.view.picture import Picture, page_style, style

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Of the file itself: it holds no script, and asks nothing of any host."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure: what it is, its value in a unit, and where it stands in the JSON beside the report."""

    name: str
    value: float | None
    unit: str
    key: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, text below it, and what stands below that: pictures, tables, lists."""

    title: str
    lead: str = ""
    parts: Sequence[Picture | Zoomable | Markup] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report: ``summary`` are its five lines, ``verdict`` its recommendation; a source: what, document, date, confidence."""

    title: str
    subtitle: str
    summary: Sequence[str]
    figures: Sequence[Figure]
    sections: Sequence[Section]
    command: str
    verdict: Sequence[str] = ()
    sources: Sequence[tuple[str, str, str, str]] = ()
    made_by: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def shown(value: float | None, unit: str) -> str:
    """A figure in words: SI prefixes, but money and areas in full and shares in percent."""
    if value is None or not isfinite(value):
        return "-"
    if unit in ("USD", "mm2", "years"):
        return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}"
    if unit == "%":
        return percent(value)
    return f"{value:,.0f}" if not unit and abs(value) >= 1000 and value == int(value) else si(value, unit)


def datum(value: float | None, unit: str, key: str) -> Markup:
    """A figure of the JSON at ``key`` as text that carries its exact value."""
    if value is None or not isfinite(value):
        return join("-")
    return tag("data", shown(value, unit), value=repr(float(value)), data_key=key)


def rows(
    columns: Sequence[str], lines: Sequence[Sequence[Markup | str]], *, caption: str = "", words: Sequence[int] = (0,)
) -> Markup:
    """A table whose cells may be figures; columns other than ``words`` are aligned right."""
    kind = [None if i in words else "number" for i in range(len(columns))]
    head = tag("tr", *(tag("th", c, scope="col", class_=k) for c, k in zip(columns, kind, strict=True)))
    body = [tag("tr", *(tag("td", c, class_=k) for c, k in zip(line, kind, strict=True))) for line in lines]
    whole = tag("table", tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0", role="group", aria_label=caption or "Table of figures")


def key_values(values: Mapping[str, Any]) -> Markup:
    """Names with their values in two columns."""
    body = [tag("tr", tag("th", name, scope="row"), tag("td", _cell(value))) for name, value in values.items()]
    return tag("div", tag("table", tag("tbody", *body)), class_="wide")


def preformatted(words: str) -> Markup:
    """Text as it stands, in a frame that scrolls."""
    return tag("pre", words, tabindex="0")


def folded(title: str, part: Markup) -> Markup:
    """A part that opens when it is asked for."""
    return tag("details", tag("summary", title), part)


ZOOMS = (1, 4, 16, 64)


@dataclass(frozen=True, slots=True)
class Zoomable:
    """A wide picture that can be drawn larger, several times over, and scrolled: without a script."""

    picture: Picture

    def figure(self) -> Markup:
        """The figure: one of ``ZOOMS`` is chosen above the drawing."""
        steps = []
        for times in ZOOMS:
            name = f"zoom-{times}"
            steps.append(tag("input", type="radio", name="zoom", id=name, checked=times == 1))
            steps.append(tag("label", f"{times} x", for_=name))
        return tag("div", *steps, self.picture.figure(), class_="zoomable")


def zoomable(picture: Picture) -> Zoomable:
    """``picture`` with steps to enlarge it."""
    return Zoomable(picture)


def _cell(value: Any) -> Markup:
    return value if isinstance(value, Markup) else join(str(value))


def html(document: Document) -> str:
    """The file: no script, no address of another host, its style within."""
    figures = tag("dl", *(_figure(one) for one in document.figures), class_="figures")
    parts: list[Markup] = [
        tag("header", tag("p", document.subtitle, class_="kicker"), tag("h1", document.title)),
        tag("ol", *(tag("li", line) for line in document.summary), class_="summary"),
        figures if document.figures else join(),
    ]
    if document.verdict:
        parts.append(
            tag("section", tag("h2", "Recommendation"), *(tag("p", line) for line in document.verdict), class_="verdict")
        )
    for one in document.sections:
        made = [part if isinstance(part, Markup) else part.figure() for part in one.parts]
        lead = tag("p", one.lead, class_="lead") if one.lead else None
        parts.append(tag("section", tag("h2", one.title), lead, *made))
    if document.notes:
        parts.append(tag("section", tag("h2", "To know"), tag("ul", *(tag("li", note) for note in document.notes))))
    if document.sources:
        table = rows(("what", "document", "date", "confidence"), document.sources, words=(0, 1, 2, 3))
        parts.append(tag("section", tag("h2", "Sources"), table))
    parts.append(
        tag("section", tag("h2", "Made by"), tag("pre", document.command), tag("p", document.made_by, class_="source"))
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", document.title),
        tag("style", Markup(style() + page_style() + _REPORT)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *parts)), lang='en')}\n"


def pictures_of(document: Document) -> dict[str, Picture]:
    """Every picture of a report by a name that a file can have."""
    found: dict[str, Picture] = {}
    for section in document.sections:
        for part in section.parts:
            if isinstance(part, Zoomable):
                part = part.picture
            if isinstance(part, Picture):
                words = "-".join("".join(c if c.isalnum() else " " for c in part.title.lower()).split())
                found[words if words not in found else f"{words}-{len(found)}"] = part
    return found


def _figure(one: Figure) -> Markup:
    note = tag("dd", one.note, class_="range") if one.note else None
    return tag("div", tag("dt", one.name), tag("dd", datum(one.value, one.unit, one.key)), note)


_REPORT = """
body { padding: 48px 20px 64px; }
main { max-width: 860px; margin: 0 auto; display: grid; gap: 28px; }
main > * { min-width: 0; }
h1 { font-size: 32px; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { margin-bottom: 8px; }
section { display: grid; gap: 12px; border-top: 1px solid var(--line); padding-top: 22px; }
section > * { min-width: 0; margin: 0; }
.kicker { color: var(--muted); margin-bottom: 4px; }
.summary { margin: 0; padding-left: 22px; display: grid; gap: 4px; font-size: 15px; max-width: 76ch; }
.summary li::marker { color: var(--muted); }
.zoomable > label { margin-right: 14px; }
.zoomable figure { margin-top: 8px; }
.zoomable svg.picture { min-width: 100%; height: auto; }
#zoom-4:checked ~ figure svg { width: 400%; max-width: none; }
#zoom-16:checked ~ figure svg { width: 1600%; max-width: none; }
#zoom-64:checked ~ figure svg { width: 6400%; max-width: none; }
.verdict { border-top: 0; border-left: 3px solid var(--accent); padding: 4px 0 4px 18px; font-size: 15px; max-width: 80ch; }
figure .picture { max-width: 100%; width: auto; margin: 0 auto; }
.lead { color: var(--muted); max-width: 76ch; }
ul, ol { margin: 0; padding-left: 20px; }
@media print {
  body { padding: 0; } main { max-width: none; gap: 18px; }
  section { break-inside: auto; } h2, h3, .lead { break-after: avoid; } pre { white-space: pre-wrap; }
}
@page { margin: 16mm 14mm; }
"""
