"""Measured collectives against their cost."""

from __future__ import annotations

from typing import cast

import numpy as np

from presilicon.estimate.collective import collective_cost
from presilicon.graph import Collective, CollectiveKind
from presilicon.validate.bench import LIBRARY, ROOFLINE_LAUNCH_S, ROOFLINE_MEMORY, Bench, Library, Rows, predict_rows
from presilicon.validate.facts import Table
from presilicon.validate.score import Floats, Predictions

NAMES = (
    "collective_start_s",
    "collective_hop_s",
    "collective_line_s",
    "collective_copy_s",
    "link_share",
    "in_switch_share",
)
FEATURES = ("in_switch_share",)


def _one(rows: Rows) -> tuple[Floats, Floats]:
    predicted, plain = np.empty(len(rows.table)), np.empty(len(rows.table))
    for chips in np.unique(rows.table["chips"]).tolist():
        own = rows.table["chips"] == chips
        message = rows.table["message_bytes"][own]
        kind = cast(CollectiveKind, rows.label)
        op = Collective(name=rows.label, collective=kind, message_bytes=message, chips=int(chips))
        predicted[own] = np.maximum(collective_cost(rows.machine, op).latency_s, 1e-9)
        sent = (2.0 if rows.label == "all_reduce" else 1.0) * (chips - 1.0) / chips * message
        plain[own] = ROOFLINE_LAUNCH_S + sent / (ROOFLINE_MEMORY * rows.machine.link_bytes_per_s)
    return predicted, plain


def predict(table: Table, library: Library = LIBRARY) -> Predictions:
    """Latency (s) of every row, grouped by collective; every other message size is held back (all but 512 B times 4^i)."""
    doublings = np.log2(table["message_bytes"]) - 9.0
    held = (doublings % 2.0) != 0.0
    return predict_rows(table, library, label=table["collective"], measured=table["latency_s"], held=held, one=_one)


BENCH = Bench("collective", NAMES, predict, features=FEATURES)
