"""What a mask does, found by running the nodes that make it: whatever an exporter writes, its values tell.

A mask may depend on a length input (``attention_mask``: ones, then zeros), on a position input (``position_ids``: P, P + 1 ...)
or on nothing. It is tried at several lengths or positions and compared with the masks that the chip has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.importing.graph import Array, FloatGraph
from presilicon.compiler.importing.runtime import evaluate
from presilicon.errors import ModelError

ELEMENTS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}
"""Element types of inputs as numpy has them."""
# What is added to a score that counts and to one that does not: nothing, and enough that its exponential is none.
_COUNTS, _HIDES = 1e-3, -1e3


@dataclass(frozen=True, slots=True)
class Mask:
    """Keys that a query sees: all; the first of the ``length`` input's ones; or those up to its own place (``causal``).

    ``position`` is the input that tells the first query's place, empty where that is 0.
    """

    causal: bool = False
    length: str = ""
    position: str = ""


def lengths_of(graph: FloatGraph, name: str) -> tuple[int, ...]:
    """Lengths at which a mask input is tried: the ends and two between."""
    size = graph.shape(name)[-1]
    return tuple(sorted({1, max(1, size // 3), max(1, size - 1), size}))


def ones(graph: FloatGraph, name: str, length: int) -> Array:
    """A mask input with so many leading ones."""
    shape, kind = graph.types[name]
    return np.broadcast_to(np.arange(shape[-1]) < length, shape).astype(ELEMENTS[kind])


def places(graph: FloatGraph, name: str, first: int) -> Array:
    """A position input that begins with a place."""
    shape, kind = graph.types[name]
    return np.broadcast_to(first + np.arange(shape[-1]), shape).astype(ELEMENTS[kind])


@dataclass(frozen=True, slots=True)
class Hidden:
    """One mask on scores: ``value`` is added to them, or says by a truth value where they count (``counts``) or do not."""

    value: str
    added: bool
    counts: bool = True

    def visible(self, array: Array) -> NDArray[np.bool_] | None:
        """Where scores count; None where the mask does more than hide."""
        if not self.added:
            return np.asarray(array.astype(np.bool_) == self.counts)
        numbers = array.astype(np.float64)
        seen, hidden = np.abs(numbers) <= _COUNTS, numbers <= _HIDES
        return np.asarray(seen) if bool((seen | hidden).all()) else None


class _Tried:
    """The mask that several make together, on scores (..., queries, keys), at any values of its inputs."""

    def __init__(self, raw: FloatGraph, hidden: Sequence[Hidden], shape: tuple[int, ...]) -> None:
        self.raw, self.hidden, self.shape = raw, hidden, shape
        self.inputs = sorted(frozenset().union(*(raw.depends(h.value) for h in hidden)))
        self.queries, self.keys = shape[-2:]

    def seen(self, feeds: Mapping[str, Array]) -> NDArray[np.bool_] | None:
        """(queries, keys): what counts; None where it is no mask, or differs from head to head."""
        arrays = evaluate(self.raw, feeds, [h.value for h in self.hidden])
        found = np.ones(self.shape, np.bool_)
        for h, array in zip(self.hidden, arrays, strict=True):
            visible = h.visible(array)
            if visible is None:
                return None
            found = found & visible
        flat = found.reshape(-1, self.queries, self.keys)
        return np.asarray(flat[0]) if bool((flat == flat[:1]).all()) else None

    def causal(self, first: int) -> NDArray[np.bool_]:
        """What a query sees whose row begins at a place."""
        return np.asarray(np.arange(self.keys)[None, :] <= first + np.arange(self.queries)[:, None])

    def by_length(self, name: str) -> Mask | None:
        """The mask where an input is one of leading ones."""
        square, keys = self.queries == self.keys, np.arange(self.keys)[None, :]
        tried = [(n, self.seen({name: ones(self.raw, name, n)})) for n in lengths_of(self.raw, name)]
        if all(now is not None and np.array_equal(now, np.broadcast_to(keys < n, now.shape)) for n, now in tried):
            return Mask(length=name)
        # Queries beyond the length are padding: what they see does not matter.
        if square and all(now is not None and np.array_equal(now[:n], self.causal(0)[:n] & (keys < n)) for n, now in tried):
            return Mask(causal=True)
        return None

    def by_position(self, name: str) -> Mask | None:
        """The mask where an input tells places; the others are all ones."""
        full = {other: ones(self.raw, other, self.raw.shape(other)[-1]) for other in self.inputs if other != name}
        for first in sorted({0, (self.keys - self.queries) // 2, self.keys - self.queries}):
            now = self.seen({**full, name: places(self.raw, name, first)})
            if now is None or not np.array_equal(now, self.causal(first)):
                return None
        return Mask(causal=True, position=name)


def classified(raw: FloatGraph, hidden: Sequence[Hidden], shape: tuple[int, ...], where: str) -> Mask:
    """The mask that all of ``hidden`` make on scores (..., queries, keys); ModelError where the chip has no such mask."""
    tried = _Tried(raw, hidden, shape)
    if not tried.inputs:
        now = tried.seen({})
        if now is not None and bool(now.all()):
            return Mask()
        if now is not None and tried.queries == tried.keys and np.array_equal(now, tried.causal(0)):
            return Mask(causal=True)
        raise ModelError("the mask of its attention is a constant that is not causal, or adds a bias to scores", where=where,
                         hint="a cache needs position_ids: its places are otherwise fixed by the cache's length")  # fmt: skip
    rows = {name: raw.shape(name)[-1] for name in tried.inputs if 1 <= len(raw.shape(name)) <= 2}
    for name in rows:
        found = tried.by_length(name) if rows[name] == tried.keys and len(tried.inputs) == 1 else None
        found = found or (tried.by_position(name) if rows[name] == tried.queries else None)
        if found is not None:
            return found
    raise ModelError(f"the mask of its attention, made from {', '.join(tried.inputs)}, is none that the chip has", where=where,
                     hint="leading ones of attention_mask, keys up to the query's place by position_ids, causal")  # fmt: skip


def counts_rows(raw: FloatGraph, weight: str, divisor: str) -> str:
    """The length input by which rows are averaged: ``weight`` (1, rows, any) is its mask, ``divisor`` its count; else empty."""
    inputs = raw.depends(weight) | raw.depends(divisor)
    if len(inputs) != 1 or weight not in raw.types or divisor not in raw.types:
        return ""
    (length,) = inputs
    shape = raw.shape(length)
    if len(shape) != 2 or raw.shape(weight)[:2] != shape:
        return ""
    for n in lengths_of(raw, length):
        mask, count = evaluate(raw, {length: ones(raw, length, n)}, [weight, divisor])
        wanted = np.broadcast_to((np.arange(shape[1]) < n).reshape(1, -1, *(1,) * (mask.ndim - 2)), mask.shape)
        if not np.array_equal(mask, wanted) or not bool((count == n).all()):
            return ""
    return length
