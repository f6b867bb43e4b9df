"""Single published measurements that were kept out of every fit, against the estimate.

A *layer* is one decoder layer as a framework without fused attention runs it: scores and probabilities pass through memory,
and each call costs what its authors measured (``[eager]`` in ``data/published/points.toml``) in place of our launch time. A
*service* is a model served by some cards, by the estimate alone, with the estimate's interval.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np

from presilicon import chip as chips
from presilicon import frontend
from presilicon.chip import Chip
from presilicon.dtypes import Formats
from presilicon.errors import ModelError, ParallelismError
from presilicon.estimate.intervals import interval
from presilicon.estimate.machine import Machine, machine
from presilicon.estimate.passes import pass_cost
from presilicon.estimate.reporting import ways
from presilicon.estimate.service import Load, ServiceCost, service_cost
from presilicon.frontend.language import LanguageModel
from presilicon.graph import Graph
from presilicon.mapping import Parallelism, partition, unfused
from presilicon.validate.facts import Table
from presilicon.validate.score import Predictions

# Batches tried where a measurement does not state its own: multiples of 8, as engines are built.
BATCHES = (1, 2, 4, *range(8, 1025, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measurement beside its prediction; ``low`` to ``high`` is where the measured value is expected.

    That is the interval of the estimate, or what ``bar`` allows. ``modern`` is the prediction of a layer by a serving stack
    of today (fused attention, our launch time); ``card_w`` the predicted power of a card.
    """

    name: str
    chip: str
    quantity: str
    unit: str
    measured: float
    predicted: float
    low: float
    high: float
    bar: float | None
    modern: float | None
    how: str
    card_w: float | None
    card_power_below_w: float | None
    source: str

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.measured - 1.0

    @property
    def inside(self) -> bool:
        """Whether the measured value lies where it is expected (and a card's power below what was said of it)."""
        cool = self.card_w is None or self.card_power_below_w is None or self.card_w < self.card_power_below_w
        return self.low <= self.measured <= self.high and cool

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        names = [name for name in self.__dataclass_fields__ if name != "source"]
        values = {name: getattr(self, name) for name in names}
        return values | {"error": self.error, "inside": self.inside, "source": self.source}


def _data() -> dict[str, Any]:
    text = (resources.files("presilicon") / "data" / "published" / "points.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _language(name: str) -> LanguageModel:
    model = frontend.load(name)
    if not isinstance(model, LanguageModel):
        raise ModelError("not a language model", where=name)
    return model


def layer(model: LanguageModel, phase: str, batch: int, tokens: int, formats: Formats, tensor: int) -> Graph:
    """One decoder layer of a model of equal layers, shared by ``tensor`` chips; no embedding and no head."""
    passed = model.prefill(batch=batch, tokens=tokens, formats=formats)
    if phase == "decode":
        passed = model.decode(batch=batch, context=tokens, formats=formats)
    own = tuple(replace(op, count=op.count // model.layers) for op in passed.operators if op.count >= model.layers)
    return partition(passed.with_operators(own), Parallelism(tensor=tensor))


def eager_s(found: Machine, graph: Graph, eager: Mapping[str, Any]) -> float:
    """Seconds of a layer without fused attention, each call at the framework's own cost in place of our launch time."""
    bare = replace(found, constants=replace(found.constants, launch_s=0.0))
    timed = [op for op in unfused(graph).operators if not op.name.endswith(tuple(eager["not_timed"]))]
    kernels = float(np.max(pass_cost(bare, graph.with_operators(tuple(timed))).latency_s))
    kinds = ("matmul", "softmax", "layernorm", "gelu")
    return kernels + sum(float(eager[f"{kind}_s"]) * int(eager[f"{kind}_calls"]) for kind in kinds)


def _layer_point(entry: Mapping[str, Any], eager: Mapping[str, Any]) -> Point:
    chip, model = chips.load(entry["chip"]), _language(entry["model"])
    found = machine(chip)
    sizes = (entry["phase"], int(entry["batch"]), int(entry["tokens"]))
    graph = layer(model, *sizes, Formats.parse(*entry["formats"].split("/")), int(entry["chips"]))
    predicted, bar = eager_s(found, graph, eager), float(entry["bar"])
    return Point(
        **_given(entry, chip),
        predicted=predicted,
        low=predicted / (1.0 + bar),
        high=predicted / (1.0 - bar),
        bar=bar,
        modern=float(np.max(pass_cost(found, graph).latency_s)),
        how=f"TP{entry['chips']}, batch {entry['batch']}, attention not fused, eager calls",
        card_w=None,
    )


def _given(entry: Mapping[str, Any], chip: Chip) -> dict[str, Any]:
    limit = entry.get("card_power_below_w")
    texts = {name: str(entry[name]) for name in ("name", "quantity", "unit", "source")}
    return texts | {"chip": chip.name, "measured": float(entry["measured"]), "card_power_below_w": limit}


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to share a model at its best batch: seconds of prompts and of steps, and tokens a second of a steady stream."""

    parallelism: Parallelism
    batch: int
    prompts_s: float
    step_s: float
    tokens_per_s: float
    power_w: float


def _way(cost: ServiceCost, quickest: bool) -> _Way | None:
    """The batch that gives the quickest step, or most tokens a second; None where none fits.

    Requests follow one another: a pipeline is filled once, not once a batch.
    """
    batch, prefill, step, power, fits = np.broadcast_arrays(
        cost.load.batch, cost.prefill_s, cost.time_per_output_token_s, cost.power_w, cost.fits
    )
    if not fits.any():
        return None
    stages, outputs = cost.parallelism.pipeline, float(cost.load.output_tokens)
    prompts = prefill * (stages / (2.0 * stages - 1.0))
    rate = batch * outputs / (prompts + (outputs - 1.0) * step)
    best = int(np.argmax(np.where(fits, 1.0 / step if quickest else rate, 0.0)))
    figures = (float(values[best]) for values in (prompts, step, rate, power))
    return _Way(cost.parallelism, int(batch[best]), *figures)


def _service_point(entry: Mapping[str, Any]) -> Point:
    chip, model = chips.load(entry["chip"]), _language(entry["model"])
    formats = Formats.parse(*entry["formats"].split("/")) if "formats" in entry else model.default_formats
    lengths, quickest = (int(entry["input_tokens"]), int(entry["output_tokens"])), entry["unit"] == "s"
    load = Load(np.array([entry["batch"]] if "batch" in entry else BATCHES, dtype=np.float64), *lengths)
    found: list[_Way] = []
    for p in ways(model, int(entry["chips"])):
        try:
            way = _way(service_cost(machine(chip), model, load, formats=formats, parallelism=p), quickest)
        except ParallelismError:
            continue
        found += [way] if way else []
    best = min(found, key=lambda way: way.step_s if quickest else -way.tokens_per_s)
    early, late = interval(chip.family, "serving ttft"), interval(chip.family, "serving tpot")
    if quickest:
        predicted, low, high = best.step_s, best.step_s * late[0], best.step_s * late[1]
    else:  # the whole time is that of prompts and of steps, each with the interval of its own kind
        steps_s = (lengths[1] - 1.0) * best.step_s
        spans = [best.prompts_s * prompt + steps_s * step for prompt, step in zip(early, late, strict=True)]
        predicted = best.tokens_per_s
        high, low = (predicted * (best.prompts_s + steps_s) / span for span in spans)
    return Point(
        **_given(entry, chip),
        predicted=predicted,
        low=low,
        high=high,
        bar=None,
        modern=None,
        how=f"{best.parallelism if entry['chips'] > 1 else 'one card'}, batch {best.batch}, {formats}: {entry['assumed']}",
        card_w=best.power_w / int(entry["chips"]),
    )


def points() -> tuple[Point, ...]:
    """Every point that can be predicted, beside its prediction."""
    found = _data()
    usable = [entry for entry in found["point"] if "left_out" not in entry]
    return tuple(_layer_point(e, found["eager"]) if e["kind"] == "layer" else _service_point(e) for e in usable)


def predict(found: tuple[Point, ...]) -> Predictions:
    """The points as a table of predictions; those that leave open what a prediction needs are skipped, with the reason."""
    entries = _data()["point"]
    by_name = {point.name: point for point in found}
    reason = np.array([entry.get("left_out", "") for entry in entries], dtype=object)
    columns = {
        "chip": np.array([chips.load(entry["chip"]).name for entry in entries]),
        "model": np.array([entry["model"] for entry in entries]),
        "value": np.array([float(entry["measured"]) for entry in entries]),
    }
    return Predictions(
        table=Table("points", "points.toml", np.arange(1, len(entries) + 1), columns),
        chip=columns["chip"].astype(object),
        label=np.array(
            [f"{entry['model']} {entry['quantity']} {entry.get('phase', '')}".strip() for entry in entries], dtype=object
        ),
        measured=columns["value"],
        predicted=np.array([by_name[e["name"]].predicted if e["name"] in by_name else np.nan for e in entries]),
        reason=reason,
        held=np.ones(len(entries), dtype=bool),
    )
