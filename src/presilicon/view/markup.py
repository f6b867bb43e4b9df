"""Markup from parts: what is text is escaped, always; only what ``tag`` made counts as markup."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is markup already, because ``tag`` or ``join`` made it."""

    __slots__ = ()


Child = str | float | None


def join(*children: Child) -> Markup:
    """Children one after the other: markup as it is, text and numbers escaped, None left out."""
    return Markup("".join(child if isinstance(child, Markup) else _text(child) for child in children if child is not None))


def tag(name: str, /, *children: Child, **attributes: Child | bool) -> Markup:
    """An element. ``class_`` is the attribute class, ``stroke_width`` stroke-width; None and False leave an attribute out."""
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in _EMPTY:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


_EMPTY = frozenset({"meta", "link", "input", "br", "hr", "img"})


def _attribute(key: str, value: Child | bool) -> str:
    name = _SPELT.get(key) or key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_text(value)}"'


_SPELT = {"viewbox": "viewBox", "textlength": "textLength", "lengthadjust": "lengthAdjust"}


def _text(value: Child | bool) -> str:
    """A text escaped, a number to the hundredth (of a pixel, in pictures)."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
    return escape(str(value).translate(_UNPRINTABLE), quote=True)


# Characters that no XML document may hold, and those that turn the direction of the text around them.
_UNPRINTABLE = dict.fromkeys(
    [*(c for c in range(32) if c not in (9, 10, 13)), 0x7F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFFFE, 0xFFFF],
    "\ufffd",
)
