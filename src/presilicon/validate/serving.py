"""Measured serving points against the estimate: time per output token and time to first token at a steady concurrency.

In a closed loop of C requests in flight each request sees, during its own decoding, the prompts of the other C - 1 go
through: TPOT = decode step + (C - 1) prefill / output tokens. Queueing at the start is not modelled here (it comes with
replay); TTFT is reported, with a share of the other prompts before one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon import chip as chips
from presilicon import frontend
from presilicon.dtypes import BF16, FP8, INT4, MXFP4, NVFP4, Formats
from presilicon.errors import PresiliconError
from presilicon.estimate.machine import machine
from presilicon.estimate.service import Load, service_cost
from presilicon.frontend.language import LanguageModel
from presilicon.mapping import Parallelism
from presilicon.validate.facts import Table
from presilicon.validate.score import Predictions, held_back

# Seconds of a request before its prompt is worked on: HTTP, tokenizer, scheduler; and the share of the other prompts in
# flight that go before one's own. Both set once on the rows of serving.csv that are not held back.
REQUEST_S = 0.02
BEFORE_SHARE = 0.3
_KEY = ("chip", "model", "precision", "tensor_parallel", "data_parallel", "expert_parallel", "gpus")


def formats_of(precision: str, chip: chips.Chip) -> Formats:
    """What the origin calls fp8, fp4, int4: fp8 weights and activations; fp4 with 16-bit activations unless native."""
    if precision in ("fp8", "fp8_block"):
        return Formats(FP8, FP8, BF16)
    if precision in ("fp4", "nvfp4", "mxfp4"):
        native = "nvfp4" in chip.peak_ops_per_s and precision == "nvfp4"
        return Formats(NVFP4, NVFP4, FP8) if native else Formats(MXFP4, BF16, BF16)
    if precision == "int4":
        return Formats(INT4, BF16, BF16)
    return Formats.parse(precision)


@dataclass(frozen=True, slots=True)
class _Points:
    tpot_s: NDArray[np.float64]
    ttft_s: NDArray[np.float64]
    roofline_s: NDArray[np.float64]


def _group(rows: Table) -> _Points:
    """All rows of one chip, model, format and parallelism at once."""
    first = rows.row(0)
    chip = chips.load(str(first["chip"]))
    found = machine(chip)
    model = frontend.load(str(first["model"]))
    if not isinstance(model, LanguageModel):
        raise PresiliconError("not a language model", where=str(first["model"]))
    tensor, data, expert = (int(first[f"{way}_parallel"]) for way in ("tensor", "data", "expert"))
    pipeline = max(1, int(first["gpus"]) // (tensor * data))
    p = Parallelism(tensor=tensor, pipeline=pipeline, expert=expert, data=data)
    formats = formats_of(str(first["precision"]), chip)
    prompts, outputs = rows["input_tokens"], rows["output_tokens"]
    concurrency = np.maximum(rows["total_concurrency"], data)
    together = service_cost(found, model, Load(concurrency, prompts, outputs), formats=formats, parallelism=p)
    alone = service_cost(found, model, Load(float(data), prompts, outputs), formats=formats, parallelism=p)
    others = concurrency / data - 1.0
    decode, one, all_ = (
        np.asarray(v, dtype=np.float64) for v in (together.time_per_output_token_s, alone.prefill_s, together.prefill_s)
    )
    step = together.decode.graph
    moved = np.asarray(step.unique_bytes) / (0.8 * found.memory_bytes_per_s)
    worked = 2.0 * np.asarray(step.macs) / (0.75 * found.rate(formats.activations))
    return _Points(
        tpot_s=decode + others * one / outputs,
        ttft_s=REQUEST_S + decode + one + BEFORE_SHARE * (all_ - one),
        roofline_s=np.maximum(moved, worked) + 3e-6,
    )


def _all(table: Table, of: str) -> Predictions:
    rows = len(table)
    predicted, roofline = np.zeros(rows), np.zeros(rows)
    reason = np.array([""] * rows, dtype=object)
    keys = np.array(["|".join(str(table[name][i]) for name in _KEY) for i in range(rows)])
    for key in dict.fromkeys(keys.tolist()):
        mine = np.flatnonzero(keys == key)
        try:
            points = _group(table.take(mine))
            predicted[mine], roofline[mine] = getattr(points, of), points.roofline_s
        except PresiliconError as error:
            reason[mine] = str(error)
    labels: Any = np.array([f"{m} {p}" for m, p in zip(table["model"], table["precision"], strict=True)], dtype=object)
    held = held_back(f"{k} {i} {o}" for k, i, o in zip(keys, table["input_tokens"], table["output_tokens"], strict=True))
    return Predictions(
        table=table,
        chip=table["chip"],
        label=labels,
        measured=table["tpot_s" if of == "tpot_s" else "ttft_s"],
        predicted=predicted,
        reason=reason,
        held=held,
        roofline=roofline if of == "tpot_s" else None,
    )


def predict(table: Table) -> Predictions:
    """TPOT (s) of every row of a serving table; rows that cannot be predicted carry the reason."""
    return _all(table, "tpot_s")


def predict_ttft(table: Table) -> Predictions:
    """TTFT (s) of every row of a serving table."""
    return _all(table, "ttft_s")
