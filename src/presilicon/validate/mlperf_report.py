"""What the report of the MLPerf table holds besides its errors: ranks among chips, and errors by what the fits saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.scenario.benchmarks import benchmarks
from presilicon.validate.score import Mask, Predictions, score, spearman

# Chips that a benchmark must list before its ranks are compared.
LEAST_RANKED = 8
_LATENCIES = ("ms", "s")
_SYSTEM = ("round", "submitter", "system", "benchmark")


def contradictory(found: Predictions) -> Mask:
    """Rows whose single sample takes longer than eight samples at once do on the same system in the same round."""
    table = found.table
    wrong = np.zeros(len(table), dtype=bool)
    if not set(_SYSTEM) <= set(table.columns):
        return wrong
    eight: dict[tuple[str, ...], float] = {}
    keys = list(zip(*(table[name].tolist() for name in _SYSTEM), table["unit"].tolist(), strict=True))
    for index in np.flatnonzero((table["scenario"] == "MultiStream") & np.isin(table["unit"], _LATENCIES)).tolist():
        eight[keys[index]] = float(found.measured[index])
    for index in np.flatnonzero(table["scenario"] == "SingleStream").tolist():
        wrong[index] = found.measured[index] > eight.get(keys[index], np.inf)
    return wrong


def ranks(found: Predictions) -> list[dict[str, Any]]:
    """Spearman's rank correlation per benchmark, scenario and unit with enough chips, on each chip's best row.

    A rate counts per accelerator; the best row is that of the highest published rate, or of the lowest latency. Where rows
    are contradictory, the correlation without them stands beside the plain one, and ``contradictory`` names them.
    """
    count = np.where(np.isin(found.table["unit"], _LATENCIES), 1.0, found.table["total_accelerators"])
    measured, predicted = found.measured / count, found.predicted / count
    wrong, entries = contradictory(found), []
    for label in sorted(set(found.label[found.used].tolist())):
        rows = found.used & (found.label == label)
        chosen = _best(found, rows, measured)
        if len(chosen) < LEAST_RANKED:
            continue
        sound = _best(found, rows & ~wrong, measured)
        entry = {"group": label, "chips": len(chosen), "spearman": spearman(measured[chosen], predicted[chosen])}
        out = [_named(found, index) for index in np.flatnonzero(rows & wrong).tolist()]
        if out:
            entry["without_contradictory"] = spearman(measured[sound], predicted[sound])
            entry["contradictory"] = out
        entries.append(entry)
    return entries


def _is_language(benchmark: str) -> bool:
    known = benchmarks().get(benchmark)
    return known is not None and bool(known.language_model)


def _named(found: Predictions, index: int) -> str:
    row = found.table.row(index)
    return f"{row['round']} {row['submitter']} {row['system']}: single sample {row['value']:g} {row['unit']}"


def _best(found: Predictions, rows: Mask, measured: NDArray[np.float64]) -> list[int]:
    """The best row of each chip."""
    best: dict[str, int] = {}
    for i in np.flatnonzero(rows).tolist():
        sign = -1.0 if found.table["unit"][i] in _LATENCIES else 1.0
        if found.chip[i] not in best or sign * measured[i] > sign * measured[best[found.chip[i]]]:
            best[found.chip[i]] = i
    return list(best.values())


def parts(found: Predictions) -> dict[str, Mapping[str, Any]]:
    """Errors of all predicted rows, of those held back, of the others, and of the Server and Interactive scenarios.

    Of the last, those of language models besides: replayed, with one constant that was fitted on the rows not held back.
    """
    server = np.isin(found.table["scenario"], ("Server", "Interactive"))
    language = server & np.array([_is_language(str(name)) for name in found.table["benchmark"]])
    masks = {
        "all_rows": found.used,
        "held_back": found.used & found.held,
        "not_held_back": found.used & ~found.held,
        "server": found.used & server,
        "language_server": found.used & language,
        "language_server_held_back": found.used & language & found.held,
    }
    return {name: score(found.measured[mask], found.predicted[mask]).to_json() for name, mask in masks.items()}
