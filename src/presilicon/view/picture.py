"""A picture: SVG with what it shows, in units, where it is from, and the same figures as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from presilicon.view.markup import Markup, join, tag

TEXT_PX = 12.0
"""Height of the letters in pictures."""
MARGIN_PX, TITLE_PX, SOURCE_PX = 16.0, 30.0, 24.0
"""Around a picture in a file of its own, above it and below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of ``width`` x ``height`` pixels.

    ``summary`` says in a sentence what one sees, for those who do not; ``columns`` and ``rows`` are the figures as texts.
    """

    title: str
    body: Markup
    width: float
    height: float
    summary: str
    source: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def svg(self) -> Markup:
        """The SVG element for a page that has the style sheet of pictures."""
        return self._element(self.body, self.width, self.height)

    def file(self, theme: str = "auto") -> str:
        """A whole SVG file with title, source and style; ``theme`` is auto (as the reader's system), light or dark."""
        around, head, foot = MARGIN_PX, TITLE_PX, SOURCE_PX
        width, height = self.width + 2 * around, self.height + 2 * around + head + foot
        drawing = join(
            text(0.0, 14.0, self.title, class_="name"),
            tag("g", self.body, transform=f"translate(0 {head:g})"),
            text(0.0, self.height + head + 16.0, shortened("Source: " + self.source, self.width, 11.0), class_="muted small"),
        )
        whole = join(
            tag("style", Markup(style(theme))),
            tag("rect", class_="paper", width=width, height=height),
            tag("g", drawing, transform=f"translate({around:g} {around:g})"),
        )
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + self._element(whole, width, height)

    def _element(self, body: Markup, width: float, height: float) -> Markup:
        return tag(
            "svg", tag("title", self.title), tag("desc", self.summary), body,
            xmlns="http://www.w3.org/2000/svg", viewbox=f"0 0 {width:g} {height:g}", width=width, height=height,
            class_="picture", role="img", aria_label=f"{self.title}. {self.summary}",
        )  # fmt: skip

    def figure(self, *, heading: str = "h3") -> Markup:
        """The picture in a page: title, drawing, source, and its figures as a table that opens."""
        opened = tag("details", tag("summary", "Figures"), table(self.columns, self.rows)) if self.rows else None
        return tag(
            "figure",
            tag("figcaption", tag(heading, self.title), tag("p", self.summary)),
            tag("div", self.svg(), class_="drawing", tabindex="0", role="group", aria_label=self.title),
            tag("p", "Source: ", self.source, class_="source"),
            opened,
        )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> Markup:
    """A table of texts in a frame that scrolls where it is too wide; columns of numbers are aligned right."""
    right = [all(_numeric(row[i]) for row in rows) and bool(rows) for i in range(len(columns))]
    kind = ["number" if r else None for r in right]
    head = tag("tr", *(tag("th", c, scope="col", class_=k) for c, k in zip(columns, kind, strict=True)))
    body = [tag("tr", *(tag("td", c, class_=k) for c, k in zip(row, kind, strict=True))) for row in rows]
    whole = tag("table", tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0", role="group", aria_label=caption or "Table of figures")


def _numeric(cell: str) -> bool:
    return cell in ("", "-") or cell.lstrip("+-~").replace(",", "")[:1].isdigit()


def text(x: float, y: float, words: str, *, anchor: str = "", class_: str = "", **more: str) -> Markup:
    """A line of text; ``anchor`` is where x lies in it: middle or end, else its start."""
    return tag("text", words, x=x, y=y, text_anchor=anchor or None, class_=class_ or None, **more)


def text_width(words: str, size: float = TEXT_PX) -> float:
    """About how wide a text is, in pixels: no font is at hand here, so a little too wide."""
    return sum(_NARROW.get(c, _WIDE.get(c, 0.7 if c.isupper() else 0.61)) for c in words) * size


_NARROW = dict.fromkeys("ijl.,:;|!'()[]tfr/ ", 0.38)
_WIDE = dict.fromkeys("mwMW%", 0.95)


def shortened(words: str, width: float, size: float = TEXT_PX) -> str:
    """``words`` as far as they fit ``width`` pixels, with an ellipsis where some are missing."""
    if text_width(words, size) <= width:
        return words
    while words and text_width(words + "…", size) > width:
        words = words[:-1]
    return words + "…" if words else ""


@cache
def _sheet(name: str) -> str:
    return (resources.files("presilicon.view") / name).read_text(encoding="utf-8")


def page_style() -> str:
    """The style sheet of pages that hold pictures, beside that of pictures: text, tables, key figures."""
    return _sheet("page.css")


def style(theme: str = "auto") -> str:
    """The style sheet of pictures: colours for light and dark (``auto``), or for one of them."""
    sheet = _sheet("picture.css")
    light, rest = sheet.split("/* dark */", 1)
    dark, shapes = rest.split("/* shapes */", 1)
    if theme == "auto":
        return sheet
    chosen = light if theme == "light" else light + dark.replace("@media (prefers-color-scheme: dark)", "@media all")
    return chosen + shapes
