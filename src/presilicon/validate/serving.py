"""Measured serving points against the replay: time per output token and time to first token at a steady concurrency.

Each point is a closed loop of its concurrency on one replica in virtual time. Predicted are the means over all requests, those
of the start included, when all clients ask at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon import chip as chips
from presilicon import frontend, replay
from presilicon.dtypes import BF16, FP8, INT4, MXFP4, NVFP4, Formats
from presilicon.errors import PresiliconError
from presilicon.estimate.service import Load, service_cost
from presilicon.frontend.language import LanguageModel
from presilicon.mapping import Parallelism
from presilicon.validate.facts import Table
from presilicon.validate.score import Predictions, held_back

# Seconds of a request before its prompt is worked on: HTTP, tokenizer, scheduler; and how often each client asks (the origin
# does not say; the fewer, the more the rush at the start counts). Both chosen together on the rows of serving.csv that are not
# held back, among 3, 5, 8, 12 turns and 0 to 40 ms: 5 and 10 ms gave the least median error of the time to first token.
REQUEST_S = 0.01
TURNS = 5
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
    reason: NDArray[Any]


def _group(rows: Table) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """TPOT, TTFT and a roofline's TPOT of all rows of one chip, model, format and parallelism."""
    first = rows.row(0)
    chip = chips.load(str(first["chip"]))
    model = frontend.load(str(first["model"]))
    if not isinstance(model, LanguageModel):
        raise PresiliconError("not a language model", where=str(first["model"]))
    tensor, data, expert = (int(first[f"{way}_parallel"]) for way in ("tensor", "data", "expert"))
    pipeline = max(1, int(first["gpus"]) // (tensor * data))
    p = Parallelism(tensor=tensor, pipeline=pipeline, expert=expert, data=data)
    formats = formats_of(str(first["precision"]), chip)
    prompts, outputs = rows["input_tokens"], rows["output_tokens"]
    deployment = replay.deploy(model, chip, parallelism=p, formats=formats)
    fleet = replay.Fleet(deployment=deployment)
    tpot, ttft = np.zeros(len(rows)), np.zeros(len(rows))
    for index in range(len(rows)):
        clients = int(rows["total_concurrency"][index])
        lengths = replay.Lengths(
            replay.Distribution("fixed", float(prompts[index])), replay.Distribution("fixed", float(outputs[index]))
        )
        found = replay.run(fleet, replay.ClosedLoop(clients, replay.together(lengths, TURNS * clients, 0)))
        if found.refused:
            raise PresiliconError("the prompts are longer than the memory or the context", where=str(first["model"]))
        # Of a single token nothing follows the first.
        tpot[index], ttft[index] = found.tpot_s.mean if outputs[index] > 1 else found.ttft_s.mean, found.ttft_s.mean + REQUEST_S
    concurrency = np.maximum(rows["total_concurrency"], data)
    machine = deployment.machine
    step = service_cost(machine, model, Load(concurrency, prompts, outputs), formats=formats, parallelism=p).decode.graph
    moved = np.asarray(step.unique_bytes) / (0.8 * machine.memory_bytes_per_s)
    worked = 2.0 * np.asarray(step.macs) / (0.75 * machine.rate(formats.activations))
    return tpot, ttft, np.maximum(moved, worked) + 3e-6


def _keys(table: Table) -> list[str]:
    return ["|".join(str(table[name][i]) for name in _KEY) for i in range(len(table))]


@lru_cache(maxsize=4)
def _points(table: Table) -> _Points:
    """All rows of a table replayed, once."""
    rows = len(table)
    found = _Points(np.zeros(rows), np.zeros(rows), np.zeros(rows), np.array([""] * rows, dtype=object))
    keys = np.array(_keys(table))
    for key in dict.fromkeys(keys.tolist()):
        mine = np.flatnonzero(keys == key)
        try:
            found.tpot_s[mine], found.ttft_s[mine], found.roofline_s[mine] = _group(table.take(mine))
        except PresiliconError as error:
            found.reason[mine] = str(error)
    return found


def _all(table: Table, of: str) -> Predictions:
    points = _points(table)
    labels: Any = np.array([f"{m} {p}" for m, p in zip(table["model"], table["precision"], strict=True)], dtype=object)
    lengths = zip(_keys(table), table["input_tokens"], table["output_tokens"], strict=True)
    return Predictions(
        table=table,
        chip=table["chip"],
        label=labels,
        measured=table[of],
        predicted=getattr(points, of),
        reason=points.reason,
        held=held_back(f"{k} {i} {o}" for k, i, o in lengths),
        roofline=points.roofline_s if of == "tpot_s" else None,
    )


def predict(table: Table) -> Predictions:
    """TPOT (s) of every row of a serving table; rows that cannot be predicted carry the reason."""
    return _all(table, "tpot_s")


def predict_ttft(table: Table) -> Predictions:
    """TTFT (s) of every row of a serving table."""
    return _all(table, "ttft_s")
