"""Ranges of activations from the user's data: the float model runs on ONNX Runtime with the values in question as outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.importing.graph import Array, FloatGraph
from presilicon.compiler.importing.masks import ELEMENTS, ones, places
from presilicon.compiler.importing.runtime import run, session
from presilicon.errors import ModelError, nearest

Method = Literal["range", "percentile", "error"]
Ranges = Mapping[str, tuple[float, float]]

BINS = 2048
PERCENTILE = 99.99
# Shares of the whole range that "error" tries at each end.
_SHARES = np.linspace(1.0, 0.4, 31)


def calibrated(
    graph: FloatGraph, wanted: Sequence[str], samples: Sequence[Mapping[str, Array]], method: Method = "range"
) -> Ranges:
    """Lowest and highest of each wanted value over the samples, as ``method`` says.

    ``range``: all of it. ``percentile``: all but 0.01 % at each end. ``error``: the range whose 256 levels have the least
    square error. ModelError where a value is not finite.
    """
    names = [name for name in dict.fromkeys(wanted) if name in graph.types and graph.is_float(name)]
    if not names:
        return {}
    made = [name for name in names if name not in graph.inputs]
    ready = session(graph, list(graph.inputs), made) if made else None

    def values() -> Iterator[tuple[str, Array]]:
        for feeds in samples:
            results = run(ready, {i.name: feeds[i.name] for i in ready.get_inputs()}, graph.name) if ready else []
            yield from zip(made, results, strict=True)
            yield from ((name, feeds[name]) for name in names if name in graph.inputs)

    ranges: dict[str, tuple[float, float]] = {}
    for name, array in values():
        low, high = float(array.min(initial=np.inf)), float(array.max(initial=-np.inf))
        if not np.isfinite([low, high]).all() and array.size:
            raise ModelError(f"{name} is not finite on the calibration data", where=graph.name)
        known = ranges.get(name, (low, high))
        ranges[name] = min(low, known[0]), max(high, known[1])
    if method == "range":
        return ranges
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for name, array in values():
        counts[name] += np.histogram(array, BINS, ranges[name])[0]
    return {name: _clipped(counts[name], *ranges[name], method) for name in names}


def _clipped(counts: NDArray[np.int64], low: float, high: float, method: Method) -> tuple[float, float]:
    """The part of a range that a method keeps, from a histogram over it."""
    if high <= low:
        return low, high
    edges = np.linspace(low, high, BINS + 1)
    if method == "percentile":
        share = np.cumsum(counts) / counts.sum()
        first = int(np.searchsorted(share, 1 - PERCENTILE / 100))
        last = int(np.searchsorted(share, PERCENTILE / 100))
        return float(edges[first]), float(edges[min(last, BINS - 1) + 1])
    middles = (edges[:-1] + edges[1:]) / 2
    tries = ((min(low * a, 0.0), max(high * b, 0.0)) for a in _SHARES for b in _SHARES)
    return min(tries, key=lambda ends: _error(counts, middles, *ends))


def _error(counts: NDArray[np.int64], middles: NDArray[np.float64], low: float, high: float) -> float:
    """Square error of 256 levels from ``low`` to ``high``: a twelfth of a step's square inside, the distance beyond."""
    beyond = np.maximum(middles - high, 0) + np.maximum(low - middles, 0)
    step = (high - low) / 255
    return float((counts * (np.square(beyond) + np.where(beyond > 0, 0, step * step / 12))).sum())


# Data -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Data:
    """Calibration data by input, samples along the first axis."""

    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        if not self.arrays:
            raise ModelError("is empty", where="calibration data", hint="arrays by input, samples along the first axis")
        counts = {name: len(array) if array.ndim else 0 for name, array in self.arrays.items()}
        if not all(counts.values()):
            empty = next(name for name, count in counts.items() if not count)
            raise ModelError(f"{empty} holds no samples", where="calibration data", hint="samples along the first axis")
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {n}" for name, n in counts.items())
            raise ModelError(f"its arrays have different numbers of samples: {listed}", where="calibration data",
                             hint="one sample each along the first axis")  # fmt: skip
        for name, array in self.arrays.items():
            if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
                raise ModelError(f"{name} has numbers that are not finite", where="calibration data")

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.arrays.values())))

    def samples(self, graph: FloatGraph) -> list[dict[str, Array]]:
        """The samples as inputs of the graph; ModelError where names, types or shapes do not match."""
        for name in self.arrays:
            if name not in graph.inputs:
                hint = nearest(name, list(graph.inputs)) or "its inputs are " + ", ".join(graph.inputs)
                raise ModelError(f"the model has no input {name!r}", where="calibration data", hint=hint)
        found: list[dict[str, Array]] = []
        for number in range(self.count):
            found.append({name: self._one(graph, name, number) for name in graph.inputs})
        return found

    def _one(self, graph: FloatGraph, name: str, number: int) -> Array:
        shape, kind = graph.types[name]
        if name not in self.arrays:
            if 0 in shape:
                return np.zeros(shape, ELEMENTS[kind])
            raise ModelError(f"input {name} is missing", where="calibration data")
        sample = self.arrays[name][number]
        whole = ELEMENTS[kind] is not np.float32
        if (sample.dtype.kind not in "iub") if whole else (sample.dtype.kind not in "fiub"):
            raise ModelError(f"{name} is of type {sample.dtype}", where="calibration data", hint=np.dtype(ELEMENTS[kind]).name)
        if sample.shape not in (shape, shape[1:] if shape[:1] == (1,) else shape):
            raise ModelError(
                f"a sample of {name} is {' x '.join(map(str, sample.shape)) or 'one number'}, the model takes"
                f" {' x '.join(map(str, shape))}",
                where="calibration data",
            )
        return np.asarray(sample.reshape(shape), ELEMENTS[kind])


def random_samples(graph: FloatGraph, count: int = 8, seed: int = 0) -> list[dict[str, Array]]:
    """Samples where the user has none: normal numbers, indices of the tables they look up, masks of ones, places from 0 on."""
    rng = np.random.default_rng(seed)
    return [{name: _drawn(graph, name, rng) for name in graph.inputs} for _ in range(count)]


def _drawn(graph: FloatGraph, name: str, rng: np.random.Generator) -> Array:
    shape, kind = graph.types[name]
    if ELEMENTS[kind] is np.float32:
        return rng.standard_normal(shape).astype(np.float32)
    tables = [graph.shape(node.inputs[0])[int(node.attributes.get("axis", 0))] for node in graph.readers.get(name, ())
              if node.op == "Gather" and node.inputs[1] == name]  # fmt: skip
    if "mask" in name:
        return ones(graph, name, shape[-1])
    if "position" in name:
        return places(graph, name, 0)
    return rng.integers(0, min(tables, default=2), shape).astype(ELEMENTS[kind])
