"""Constants of every family, fitted on the kernel tables one after the other.

``python -m presilicon.validate constants`` writes them into ``data/families``, with what they were fitted on in
``data/validation/fitted.toml``. Only rows that are not held back are looked at.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from presilicon.chip import load
from presilicon.errors import ChipError
from presilicon.estimate.constants import Constants, families, family
from presilicon.files import write_whole
from presilicon.validate import attention, collective, gemm, power
from presilicon.validate.bench import Bench, Library
from presilicon.validate.facts import Table
from presilicon.validate.fit import Fit, error, fit_constants
from presilicon.validate.score import Mask

BENCHES: Mapping[str, Bench] = {b.table: b for b in (power.BENCH, gemm.BENCH, attention.BENCH, collective.BENCH)}
"""Kernel tables in the order of their fits: each sees the constants fitted before it."""

# A feature is there if fitting it lowers the loss by more than this, and by more than this share of it.
CLEARLY, CLEARLY_SHARE = 5e-4, 0.01


@dataclass(frozen=True, slots=True)
class TableFit:
    """What one table gave: the chips and the number of rows it was fitted on, and the fit."""

    chips: tuple[str, ...]
    rows: int
    fit: Fit


@dataclass(frozen=True, slots=True)
class FamilyFit:
    """All constants of a family, and the fit of each table."""

    constants: Mapping[str, float]
    tables: Mapping[str, TableFit]


def _sample(table: Table, seen: Mask, label: Any, most: int) -> np.ndarray[Any, Any]:
    """Indices of at most ``most`` seen rows of each chip and label, spread evenly by a fixed shuffle."""
    chosen = []
    for chip in np.unique(table["chip"]):
        for each in np.unique(label):
            rows = np.flatnonzero(seen & (table["chip"] == chip) & (label == each))
            shuffled = np.random.default_rng(0).permutation(rows)[:most]
            chosen.append(np.sort(shuffled))
    return np.concatenate(chosen) if chosen else np.array([], dtype=int)


def fit_bench(
    bench: Bench, table: Table, library: Library, start: Mapping[str, float], *, split: bool = True
) -> TableFit | None:
    """The constants of one bench fitted on a table's rows, those held back left out where ``split``; None without rows."""
    first = bench.predict(table, library)
    seen = first.used & ~(first.held & split) & ~np.isin(first.label, bench.unfitted)
    chosen = _sample(table, seen, first.label, bench.most_rows)
    if not len(chosen):
        return None
    rows, measured = table.take(chosen), first.measured[chosen]
    known = dict(library.constants or {})
    names = (*bench.names, *(name for name in bench.unmeasured if name not in known))

    def fit(without: tuple[str, ...]) -> Fit:
        fixed = dict.fromkeys(without, 0.0)

        def loss(values: Mapping[str, float]) -> float:
            tried = Library(library.chips, known | dict(values) | fixed)
            return bench.loss(rows, tried) if bench.loss else error(bench.predict(rows, tried).predicted, measured)

        found = fit_constants(loss, _felt(loss, {name: start[name] for name in names}))
        return replace(found, constants={**found.constants, **fixed})

    best = fit(bench.features)
    if bench.features:
        full = fit(())
        best = full if best.loss - full.loss > max(CLEARLY, CLEARLY_SHARE * best.loss) else best
    return TableFit(tuple(sorted({str(c) for c in first.chip[chosen]})), len(chosen), best)


def _felt(loss: Callable[[Mapping[str, float]], float], start: Mapping[str, float]) -> dict[str, float]:
    """The constants that matter to these rows: the others (conversion, where nothing is converted) are left alone."""
    base = loss(start)
    return {
        name: value
        for name, value in start.items()
        if any(loss({**start, name: value * factor}) != base for factor in (0.5, 2.0))
    }


def starting() -> dict[str, float]:
    """Where every fit begins: the generic family's values, so that nothing of an earlier fit is left in it."""
    generic = family("generic")
    return {f.name: float(getattr(generic, f.name)) for f in fields(Constants)} | _WITHOUT_DEFAULT


# Constants whose generic value of zero says "derive it" or "not there" need another beginning.
_WITHOUT_DEFAULT = {"operation_j_per_bit": 4e-14, "in_switch_share": 0.5}


def fit_family(found: Mapping[str, Table], chips: Collection[str]) -> FamilyFit:
    """All constants from the rows of some chips, table after table."""
    values: dict[str, float] = {}
    fits: dict[str, TableFit] = {}
    for kind, bench in BENCHES.items():
        if kind not in found:
            continue
        own = found[kind].take(np.isin(found[kind]["chip"], list(chips)))
        if not len(own):
            continue
        fitted = fit_bench(bench, own, Library(constants=values), starting())
        if fitted:
            fits[kind] = fitted
            values |= fitted.fit.constants
    return FamilyFit(values, fits)


def families_of(found: Mapping[str, Table]) -> dict[str, tuple[str, ...]]:
    """Families with measured kernels, and their measured chips by the names the tables use."""
    members: dict[str, set[str]] = {}
    for kind in BENCHES:
        for name in np.unique(found[kind]["chip"]).tolist() if kind in found else ():
            try:
                members.setdefault(load(name).family, set()).add(name)
            except ChipError:
                continue
    return {name: tuple(sorted(chips)) for name, chips in sorted(members.items())}


def _data(room: str) -> Any:
    return resources.files("presilicon") / "data" / room


@cache
def fitted() -> Mapping[str, Any]:
    """By family and table: the chips, rows and constants that ``data/families`` were fitted on."""
    text = (_data("validation") / "fitted.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def with_values(text: str, values: Mapping[str, float]) -> str:
    """A family's TOML text with some of its constants replaced, or added to the end of their table; comments stay."""
    head, mark, rest = text.partition("[constants]\n")
    body, after_mark, after = rest.partition("\n[")
    for name, value in values.items():
        pattern = re.compile(rf"^{name} *=[^#\n]*?( *#[^\n]*)?$", re.MULTILINE)
        shown = f"{value:.4g}"
        line = f"{name} = {shown if '.' in shown or 'e' in shown else shown + '.0'}"
        if pattern.search(body):
            body = pattern.sub(lambda match, line=line: line + (match.group(1) or ""), body)  # type: ignore[misc]
        else:
            body = body.rstrip("\n") + f"\n{line}\n"
    if after_mark and not body.endswith("\n"):
        body += "\n"
    return head + mark + body + after_mark + after


def write(fits: Mapping[str, FamilyFit]) -> None:
    """Write fitted constants into ``data/families`` and what they rest on into ``data/validation/fitted.toml``."""
    for name, fit in fits.items():
        path = Path(str(_data("families") / f"{name}.toml"))
        write_whole(path, with_values(path.read_text(encoding="utf-8"), fit.constants))
    write_whole(Path(str(_data("validation") / "fitted.toml")), record(fits))


def record(fits: Mapping[str, FamilyFit]) -> str:
    """What constants rest on, as TOML: chips, rows, error and names, by family and table."""
    found = {
        name: {
            kind: {
                "chips": list(part.chips),
                "rows": part.rows,
                "mean_clipped_log_error": round(part.fit.loss, 4),
                "constants": list(part.fit.constants),
            }
            for kind, part in fit.tables.items()
        }
        for name, fit in fits.items()
    }
    head = "# What the constants of data/families were fitted on: written by `python -m presilicon.validate constants`.\n"
    return head + tomli_w.dumps(found)


def refit(read: Sequence[Table], told: Callable[[str], None] = lambda _: None) -> None:
    """Fit every family on its tables and write the package's data; ``told`` hears what each fit gave."""
    found = {table.kind: table for table in read}
    fits = {name: fit_family(found, chips) for name, chips in families_of(found).items()}
    for name, fit in fits.items():
        for kind, part in fit.tables.items():
            values = ", ".join(f"{key} {value:.3g}" for key, value in part.fit.constants.items())
            told(f"{name} {kind}: {part.rows} rows, error {part.fit.loss:.4f}: {values}")
    write(fits)
    for cache_of in (families, family, fitted):
        cache_of.cache_clear()
