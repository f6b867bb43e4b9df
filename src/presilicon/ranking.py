"""A ranking of chips as a value: entries, and where one is ahead of another, term by term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from presilicon.economics import Operation
from presilicon.errors import ChipError, nearest
from presilicon.units import si


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One chip: its best setting and what it gives, or the reason why it does not qualify.

    ``low`` and ``high`` bound ``tokens_per_s_per_chip``. For a network without tokens a sample stands for a token and
    ``time_to_first_token_s`` is the latency of the batch. ``power_w`` is that of all chips together, hosts left out.
    ``policy``: the export class (``presilicon.economics.policy``), where a rate is published.
    """

    chip: str
    chips: int | None = None
    fits: bool = False
    reason: str = ""
    batch: float | None = None
    parallelism: str = ""
    formats: str = ""
    tokens_per_s_per_chip: float | None = None
    time_to_first_token_s: float | None = None
    time_per_output_token_s: float | None = None
    power_w: float | None = None
    energy_j_per_token: float | None = None
    usd_per_million_tokens: float | None = None
    price_basis: str = ""
    low: float | None = None
    high: float | None = None
    evidence: tuple[Mapping[str, Any], ...] = ()
    terms: Mapping[str, float] = field(default_factory=dict)
    policy: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"evidence": [dict(e) for e in self.evidence], "terms": dict(self.terms)}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where chip ``a`` is ahead of chip ``b``: rows of (term, value of a, value of b, unit)."""

    a: str
    b: str
    rows: tuple[tuple[str, float | None, float | None, str], ...]

    def to_json(self) -> dict[str, Any]:
        """The rows by name."""
        keys = ("term", "a", "b", "unit")
        return {"a": self.a, "b": self.b, "terms": [dict(zip(keys, row, strict=True)) for row in self.rows]}

    def __str__(self) -> str:
        lines = [f"{'':28s} {self.a[:24]:>24s} {self.b[:24]:>24s} {'a/b':>7s}"]
        for term, left, right, unit in self.rows:
            ratio = f"{left / right:7.2f}" if left and right else f"{'-':>7s}"
            lines.append(f"{term:28s} {si(left, unit):>24s} {si(right, unit):>24s} {ratio}")
        return "\n".join(lines)


_FIGURES = (
    ("output tokens per chip", "tokens_per_s_per_chip", "/s"),
    ("chips", "chips", ""),
    ("requests in flight", "batch", ""),
    ("time to first token", "time_to_first_token_s", "s"),
    ("time per output token", "time_per_output_token_s", "s"),
    ("power of all chips", "power_w", "W"),
    ("energy per token", "energy_j_per_token", "J"),
    ("cost per million tokens", "usd_per_million_tokens", "USD"),
)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Chips in order for one model, under limits, with how they are run."""

    model: str
    limits: Mapping[str, Any]
    operation: Operation
    entries: tuple[Entry, ...]

    def entry(self, name: str) -> Entry:
        """The entry of a chip; ChipError where it is not in the ranking."""
        for entry in self.entries:
            if entry.chip == name:
                return entry
        raise ChipError(f"{name} is not ranked", hint=nearest(name, [e.chip for e in self.entries]))

    def explain(self, a: str, b: str) -> Explanation:
        """Where chip ``a`` is ahead of ``b``: the figures, then where the time of a token goes, the largest term first."""
        left, right = self.entry(a), self.entry(b)
        for entry in (left, right):
            if not entry.fits:
                raise ChipError(f"{entry.chip} does not qualify: {entry.reason}", hint="two chips that do")
        rows: list[tuple[str, float | None, float | None, str]] = [
            (name, getattr(left, key), getattr(right, key), unit) for name, key, unit in _FIGURES
        ]
        terms = sorted({*left.terms, *right.terms}, key=lambda t: -max(left.terms.get(t, 0.0), right.terms.get(t, 0.0)))
        rows += [(term, left.terms.get(term, 0.0), right.terms.get(term, 0.0), "s") for term in terms]
        return Explanation(a, b, tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """The object that ``match --json`` prints."""
        o = self.operation
        return {
            "model": self.model,
            "limits": dict(self.limits),
            "operation": {name: getattr(o, name) for name in o.__dataclass_fields__},
            "ranking": [entry.to_json() for entry in self.entries],
        }
