"""Three public claims about chips, checked on the MLPerf rows that they rest on, and on predictions of the same rows.

Which rows a claim concerns stands in ``data/published/claims.toml`` as a filter; every figure is read from the shipped table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.validate.facts import Table, shipped
from presilicon.validate.score import Predictions

HOLDS, LESS, FAILS, NOT_COMPARED = "holds", "ahead by less", "does not hold", "not compared"
# A factor of a claim is printed to one decimal.
HALF_STEP = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row of the subject against one of another chip; a ratio above 1 says that the subject is ahead.

    Rates count per card, latencies per system. ``predicted`` is None where a chip cannot be predicted; ``reason`` says why.
    """

    benchmark: str
    scenario: str
    subject: str
    other: str
    submitter: str
    system: str
    cards: int
    published: float
    predicted: float | None
    reason: str
    verdict: str
    predicted_verdict: str | None

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a claim says of one quantity, with every comparison that the published rows allow and what follows from them."""

    what: str
    at_least: float
    comparisons: tuple[Comparison, ...]
    verdict: str
    note: str

    def to_json(self) -> dict[str, Any]:
        """The part with its comparisons."""
        rows = [one.to_json() for one in self.comparisons]
        return {"what": self.what, "at_least": self.at_least, "verdict": self.verdict, "note": self.note, "comparisons": rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim as it was worded, and what the published rows and the predictions say of each of its parts."""

    name: str
    title: str
    wording: str
    source: str
    round: str
    parts: tuple[Part, ...]

    @property
    def verdict(self) -> str:
        """The verdicts of all parts."""
        return "; ".join(f"{part.what}: {part.verdict}" for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """The object of ``validate --claims --json``."""
        names = ("name", "title", "wording", "source", "round", "verdict")
        return {name: getattr(self, name) for name in names} | {"parts": [part.to_json() for part in self.parts]}


def claims(table: Table | None = None) -> tuple[Claim, ...]:
    """All claims, checked on the shipped MLPerf table (or on ``table``)."""
    text = (resources.files("presilicon") / "data" / "published" / "claims.toml").read_text(encoding="utf-8")
    rows = shipped("mlperf") if table is None else table
    return tuple(_claim(entry, rows) for entry in tomllib.loads(text)["claim"])


def _claim(entry: Mapping[str, Any], table: Table) -> Claim:
    parts = tuple(_part(part, table, str(entry["round"])) for part in entry["part"])
    return Claim(**{name: str(entry[name]) for name in ("name", "title", "wording", "source", "round")}, parts=parts)


def _rows(part: Mapping[str, Any], table: Table, rounds: str, accelerators: Sequence[str]) -> NDArray[np.int64]:
    """The rows of a part's filter on some accelerators, in the order of its benchmarks, scenarios and accelerators."""
    keep = (table["round"] == rounds) & np.isin(table["accelerator"], accelerators)
    keep &= np.isin(table["benchmark"], part["benchmarks"]) & np.isin(table["scenario"], part["scenarios"])
    keep &= np.array([part["category"] in text.split(",") for text in table["category"].tolist()])
    if part.get("without_power_tuned"):
        keep &= table["power_tuned"] == 0
    order = [
        part["benchmarks"].index(b) * 1000 + part["scenarios"].index(s) * 100 + accelerators.index(a)
        for b, s, a in zip(*(table[name][keep].tolist() for name in ("benchmark", "scenario", "accelerator")), strict=True)
    ]
    return np.flatnonzero(keep)[np.argsort(order, kind="stable")]


def _part(part: Mapping[str, Any], table: Table, rounds: str) -> Part:
    from presilicon.validate import mlperf

    own, others = (_rows(part, table, rounds, part[name]) for name in ("subjects", "others"))
    per_watt = bool(part.get("per_watt"))
    found = mlperf.predict(table.take(np.concatenate([own, others])))
    pairs = [(i, j) for i in range(len(own)) for j in range(len(own), len(own) + len(others))]
    least = float(part["at_least"])
    if per_watt:
        power = np.array([bool(text) for text in found.table["power_value"].tolist()])
        pairs = [(i, j) for i, j in pairs if power[i] and power[j]]
    compared = tuple(_comparison(found, i, j, least, per_watt) for i, j in pairs if _same(found.table, i, j))
    verdict = _verdict(compared)
    if per_watt and not compared:
        verdict = "cannot be checked, because no power was submitted for " + " and ".join(part["subjects"])
    return Part(what=part["what"], at_least=least, comparisons=compared, verdict=verdict, note=part.get("note", ""))


def _same(table: Table, i: int, j: int) -> bool:
    return all(table[name][i] == table[name][j] for name in ("benchmark", "scenario", "unit"))


def _better(found: Predictions, values: NDArray[np.float64], i: int, j: int, per_watt: bool) -> float:
    """How far row i is ahead of row j: a ratio of rates per card, or of latencies the other way round."""
    table = found.table
    if table["unit"][i] == "ms":
        return float(values[j] / values[i])
    per = table["power_value"] if per_watt else table["total_accelerators"]
    return float(values[i] / float(per[i]) / (values[j] / float(per[j])))


def _comparison(found: Predictions, i: int, j: int, at_least: float, per_watt: bool) -> Comparison:
    table = found.table
    cards = int(table["total_accelerators"][j])
    shared = table["scenario"][i] == "MultiStream" and cards != int(table["total_accelerators"][i])
    published = _better(found, found.measured, i, j, per_watt)
    predicted, reason = None, ""
    for index in (j, i):
        if found.reason[index]:
            reason = f"{table['accelerator'][index]}: {found.reason[index]}"
    if not reason and not per_watt:
        predicted = _better(found, found.predicted, i, j, per_watt)
    return Comparison(
        benchmark=str(table["benchmark"][i]),
        scenario=str(table["scenario"][i]),
        subject=str(table["accelerator"][i]),
        other=str(table["accelerator"][j]),
        submitter=str(table["submitter"][j]),
        system=str(table["system"][j]),
        cards=cards,
        published=published,
        predicted=predicted,
        reason=reason,
        verdict=NOT_COMPARED if shared else _holds(published, at_least),
        predicted_verdict=None if predicted is None else NOT_COMPARED if shared else _holds(predicted, at_least),
    )


def _holds(ratio: float, at_least: float) -> str:
    if ratio <= 1.0:
        return FAILS
    return HOLDS if ratio >= max(1.0, at_least - HALF_STEP) else LESS


def _verdict(compared: Sequence[Comparison]) -> str:
    """What the comparisons say together: for which benchmark and scenario the claim holds, and against whom it does not."""
    judged = [one for one in compared if one.verdict != NOT_COMPARED]
    holding = [one for one in judged if one.verdict == HOLDS]
    if not judged:
        return "cannot be checked, because no row of the others is like one of the subject's"
    if not holding:
        return "does not hold"
    if len(holding) == len(judged):
        return "holds"
    several = len({one.subject for one in judged}) > 1
    groups: dict[str, list[Comparison]] = {}
    for one in judged:
        groups.setdefault(f"{one.subject} " * several + f"{one.benchmark} {one.scenario}", []).append(one)
    texts = []
    for name, members in groups.items():
        good, bad = ([o for o in members if (o.verdict == HOLDS) == right] for right in (True, False))
        if good:
            texts.append(name + (f" (not against {_named(bad, good)})" if bad else ""))
    return "holds only for " + ", ".join(texts)


def _named(rows: Sequence[Comparison], others: Sequence[Comparison]) -> str:
    """Chips by name, with the submitter where other entries of the same chip came out differently."""
    both = {one.other for one in others}
    return ", ".join(dict.fromkeys(f"{o.other} of {o.submitter}" if o.other in both else o.other for o in rows))


HEAD = """# Three claims, checked

Claims about three chips that rest on MLPerf Inference, on the rows of the published results that they concern (and on the
same rows as they are predicted). A ratio above 1 says that the chip of the claim is ahead; rates are taken per card. A claim
is printed to one decimal, so it holds from half a step below. Regenerate this page with `python docs/make.py`, or with

    presilicon validate --claims --markdown docs/claims.md
"""


def page(found: Sequence[Claim]) -> str:
    """The page ``docs/claims.md``."""
    lines = [HEAD]
    for claim in found:
        lines += [f"## {claim.title}\n", f"> {claim.wording}\n", f"Source: {claim.source}.\n"]
        for part in claim.parts:
            lines.append(f"**{part.what[0].upper()}{part.what[1:]}: {part.verdict}.** {part.note}\n")
            if part.comparisons:
                head = ("benchmark", "scenario", "of", "against", "cards", "published", "predicted", "verdict")
                lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
                lines += ["| " + " | ".join(cells(one)) + " |" for one in part.comparisons]
                lines.append("")
            lines += [f"Not predicted: {reason}.\n" for reason in dict.fromkeys(o.reason for o in part.comparisons) if reason]
    return "\n".join(lines).rstrip("\n") + "\n"


def cells(one: Comparison) -> tuple[str, ...]:
    """A comparison as the texts of a table's row."""
    predicted = "-" if one.predicted is None else f"{one.predicted:.2f}"
    against = f"{one.other} ({one.submitter} {one.system})"
    return (one.benchmark, one.scenario, one.subject, against, str(one.cards), f"{one.published:.2f}", predicted, one.verdict)
