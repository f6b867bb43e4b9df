"""Measured attention kernels, prefill and decode, against the cost of fused attention."""

from __future__ import annotations

import numpy as np

from presilicon.dtypes import number_format
from presilicon.estimate.attention import attention_cost
from presilicon.graph import Attention
from presilicon.validate.bench import LIBRARY, Bench, Library, Rows, needs, plain_roofline, predict_rows
from presilicon.validate.facts import Table
from presilicon.validate.score import Floats, Predictions, held_back

NAMES = (
    "attention_start_s",
    "intake_s",
    "attention_fill_s",
    "attention_share",
    "cache_elements_per_cycle",
    "cache_passes",
    "attention_split_s",
)
_GROUP = ("num_heads", "num_key_value_heads", "head_dim", "window_size")


def operator(rows: Table, activations: str, kv_cache: str) -> Attention:
    """All rows as one causal attention of array-valued sizes."""
    return Attention(
        name="attention",
        batch=rows["batch_size"],
        query_tokens=rows["query_tokens"],
        kv_tokens=rows["kv_tokens"],
        heads=rows["num_heads"],
        kv_heads=rows["num_key_value_heads"],
        head_dim=rows["head_dim"],
        value_dim=rows["head_dim"],
        window=rows["window_size"],
        activations=number_format(activations),
        kv_cache=number_format(kv_cache),
    )


def _one(rows: Rows) -> tuple[Floats, Floats]:
    _, activations, kv_cache = rows.label.replace("/", " ").split()
    needs(rows.machine, activations)
    op = operator(rows.table, activations, kv_cache)
    plain = plain_roofline(rows.machine, op.macs, rows.machine.rate(activations), op.unique_bytes)
    return np.asarray(attention_cost(rows.machine, op).latency_s, dtype=np.float64), plain


def predict(table: Table, library: Library = LIBRARY) -> Predictions:
    """Latency (s) of every row, grouped by phase and formats ("decode bf16/fp8"); groups of heads and window are held back."""
    parts = zip(table["phase"].tolist(), table["attn_dtype"].tolist(), table["kv_cache_dtype"].tolist(), strict=True)
    label = np.array([f"{phase} {activations}/{kv_cache}" for phase, activations, kv_cache in parts])
    keys = zip(*(table[name].astype(int).tolist() for name in _GROUP), strict=True)
    held = held_back(",".join(map(str, key)) for key in keys)
    return predict_rows(table, library, label=label, measured=table["latency_s"], held=held, one=_one)


BENCH = Bench("attention", NAMES, predict)
