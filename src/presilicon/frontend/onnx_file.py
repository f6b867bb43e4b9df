"""ONNX files as Networks: sizes of their inputs set, every node counted, the batch left free where the file leaves it free.

The batch is the leading size of an input that the file leaves open ("N", "?", -1; not "sequence" and its like), or any
size named after a batch, that ``dims`` does not set. The graph is then traced for batches of 1, 2 and 3: every size of
every operator must grow by the same step, so any batch (or array of batches) follows. Where the file or ``dims`` fixes
it, one sample is one run of the file as it stands, and a batch of n is n runs one after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import Formats, NumberFormat
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend.network import Network
from presilicon.frontend.onnx_fuse import operators, repeated
from presilicon.frontend.onnx_inputs import Inputs
from presilicon.frontend.onnx_reader import read
from presilicon.frontend.onnx_trace import Trace
from presilicon.frontend.onnx_values import FLOATS
from presilicon.graph import Attention, Elementwise, Graph, Operator, Size


def load_onnx(path: str | Path, dims: Mapping[str, int] | None = None) -> Network:
    """The Network of an ONNX file; weights are not read, only checked to be there.

    ``dims`` sets symbolic sizes by name (``sequence``) or by place (``input[1]``), and the value of an integer input of
    one element by its name (``sr``). Sizes that stay open raise ModelError, except the batch (see the module). Raises
    ModelError where the file is broken, has operators that are not supported, or has sizes that depend on data.
    """
    path = Path(path)
    model, external = read(path)
    versions = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    source = _Source(model, versions, external, Inputs(model.graph, dict(dims or {}), str(path)))
    try:
        source.traced(1)
    except ModelError as problem:
        raise ModelError(problem.message, where=_placed(str(path), problem.where), hint=problem.hint) from problem
    name = path.stem
    produced = " ".join(part for part in (model.producer_name, model.producer_version) if part)
    sample = "one run of the file" if not source.inputs.has_batch else "one element of the file's batch"
    return Network(
        name=name,
        title=f"ONNX file {path.name}" + (f" written by {produced[:60]}" if produced else ""),
        source=str(path),
        build=lambda batch, tokens, formats: source.graph(name, batch, formats),
        sample=sample,
    )


def _placed(path: str, where: str) -> str:
    return where if where.startswith(path) else f"{path}: {where}" if where else path


class _Source:
    """The model, ready to be traced for a batch."""

    def __init__(self, model: Any, versions: Mapping[str, int], external: Mapping[str, NDArray[Any]], inputs: Inputs) -> None:
        self._model, self._versions, self._external, self.inputs = model, versions, external, inputs
        self.traced = lru_cache(maxsize=None)(self._traced)

    def _traced(self, batch: int) -> tuple[Operator, ...]:
        trace = Trace(self._versions, self._external)
        trace.run(self._model.graph, self.inputs.values(batch))
        return operators(trace.steps, trace.returned)

    def graph(self, name: str, batch: Size, formats: Formats) -> Graph:
        """One inference of ``batch`` samples."""
        one = self.traced(1)
        if np.ndim(batch) == 0 and batch == 1:
            counted = one
        elif self.inputs.has_batch:
            counted = _scaled(one, self.traced(2), self.traced(3), batch, name)
        elif np.ndim(batch) == 0:
            counted = tuple(o for operator in one for o in repeated(operator, int(batch)))
        else:
            raise WorkloadError("its batch is fixed in the file, so it takes one batch at a time", where=name,
                                hint="export it with a symbolic leading size")  # fmt: skip
        counted = tuple(_in_formats(operator, formats) for operator in counted)
        live: Size = 0
        for operator in counted:
            live = np.maximum(live, operator.input_bytes + operator.output_bytes)
        return Graph(name, "inference", counted, samples=batch, activation_bytes=live)


def _in_formats(operator: Operator, formats: Formats) -> Operator:
    """``operator`` with its real number formats replaced by the caller's; quantised ones are the file's."""
    chosen: dict[str, NumberFormat] = {}
    for f in fields(operator):
        own = getattr(operator, f.name)
        if isinstance(own, NumberFormat) and own in FLOATS:
            stored = f.name == "weights" and getattr(operator, "has_weights", True)
            chosen[f.name] = formats.weights if stored else formats.activations
    if isinstance(operator, Attention) and operator.cached:
        chosen["kv_cache"] = formats.kv_cache
    return replace(operator, **chosen)  # type: ignore[arg-type]


def _scaled(
    one: tuple[Operator, ...], two: tuple[Operator, ...], three: tuple[Operator, ...], batch: Size, where: str
) -> tuple[Operator, ...]:
    """The operators at ``batch``, from those at 1, 2 and 3; ModelError where their sizes do not grow evenly."""
    if [(type(o), o.name) for o in one] != [(type(o), o.name) for o in two] or len(two) != len(three):
        raise ModelError("it has other operators at other batches", where=where, hint="fix the batch with --dim name=N")
    size = batch if isinstance(batch, int) else np.asarray(batch, dtype=np.float64)
    return tuple(_grown(group, size, where) for group in zip(one, two, three, strict=True))


def _grown(group: tuple[Operator, Operator, Operator], batch: Size, where: str) -> Operator:
    """One operator at ``batch``; per-element figures (reads, writes, operations) are followed through their products."""
    first = group[0]
    changed: dict[str, Any] = {}
    for f in fields(first):
        values = [getattr(o, f.name) for o in group]
        if isinstance(values[0], NumberFormat | str | bool) or values[0] == values[1] == values[2]:
            continue
        weight: list[Size] = [1, 1, 1]
        if isinstance(first, Elementwise) and f.name in ("reads", "writes", "ops"):
            weight = [o.elements for o in group if isinstance(o, Elementwise)]
        products = [v * w for v, w in zip(values, weight, strict=True)]
        step = products[1] - products[0]
        if f.name in ("count", "sharers") or not math.isclose(products[2] - products[1], step, rel_tol=1e-9, abs_tol=1e-6):
            raise ModelError(f"{f.name} of {first.name} does not grow evenly with the batch: {products}", where=where,
                             hint="fix the batch with --dim name=N")  # fmt: skip
        changed[f.name] = products[0] + step * (batch - 1)
    if isinstance(first, Elementwise):
        elements = changed.get("elements", first.elements)
        for name in {"reads", "writes", "ops"} & changed.keys():
            changed[name] = changed[name] / np.maximum(elements, 1)
    return replace(first, **changed)
