"""SI formatting of quantities for tables and messages."""

from __future__ import annotations

import math

_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}


def si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """``value`` with an SI prefix: ``si(0.00123, "s") == "1.23 ms"``; None and NaN print as "-"."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:g} {unit}".rstrip()
    exponent = min(18, max(-15, 3 * math.floor(math.log10(abs(value)) / 3)))
    scaled = value / 10.0**exponent
    if abs(float(f"{scaled:.{digits}g}")) >= 1000 and exponent < 18:
        exponent += 3
        scaled /= 1000
    shown = f"{scaled:.{digits}g}"
    if "e" in shown:
        shown = f"{scaled:.0f}"
    return f"{shown} {_PREFIXES[exponent]}{unit}".rstrip()


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as a percentage: ``percent(0.123) == "12.3 %"``; None and NaN print as "-"."""
    if fraction is None or math.isnan(fraction):
        return "-"
    return f"{100 * fraction:.{digits}f} %"
