"""The inputs of an ONNX graph: which sizes are open, which of them is the batch, what the caller sets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import ModelError, nearest
from presilicon.frontend.onnx_values import Value, value

_MOST_SIZE = 1 << 40
_SEQUENCE_LIKE = re.compile(r"seq|len|tok|time|frame|step|past|height|width|history", re.IGNORECASE)
_BATCH_LIKE = re.compile(r"batch", re.IGNORECASE)
NAMELESS = frozenset({"", "?", "None"})
"""What exporters write where a size has no name."""


class Inputs:
    """Sizes and known values of the graph's inputs; checks ``dims`` against them."""

    def __init__(self, graph: Any, dims: Mapping[str, int], where: str) -> None:
        stored = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
        self._inputs = [i for i in graph.input if i.name not in stored]
        self._dims, self.has_batch, self._where = dims, False, where
        names: set[str] = set()
        missing: list[str] = []
        for key, size in dims.items():
            lowest = -_MOST_SIZE if key in {i.name for i in self._inputs} else 0
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or not lowest <= size <= _MOST_SIZE:
                raise ModelError(f"--dim {key}={size} is not a size", where=where, hint="a whole number from 0 to 2^40")
        for i in self._inputs:
            if not i.type.HasField("tensor_type") or not i.type.tensor_type.HasField("shape"):
                raise ModelError(f"input {i.name!r} is no tensor with a rank", where=where)
            names |= self._keys(i)
        self._batch_names = {name for i in self._inputs for name in self._batches(i)}
        for i in self._inputs:
            missing += self._open(i)
        unknown = [key for key in dims if key not in names]
        if unknown:
            hint = nearest(unknown[0], sorted(names)) or (
                "one of " + ", ".join(sorted(names)) if names else "it has none to set"
            )
            raise ModelError(f"--dim {', '.join(unknown)}: no input has a size of that name", where=where, hint=hint)
        if missing:
            raise ModelError(f"sizes are not set: {'; '.join(missing)}", where=where, hint="set each with --dim name=N")
        self.has_batch = any(self._is_batch(i, a) for i in self._inputs for a in range(len(i.type.tensor_type.shape.dim)))

    def _keys(self, i: Any) -> set[str]:
        """What ``dims`` may name at input ``i``."""
        keys: set[str] = set()
        sizes = i.type.tensor_type.shape.dim
        for axis, dim in enumerate(sizes):
            if self._fixed(dim) is None:
                keys |= {f"{i.name}[{axis}]"} | ({dim.dim_param} - NAMELESS)
        if i.type.tensor_type.elem_type in (6, 7, 9) and all(self._fixed(d) == 1 for d in sizes):
            keys.add(i.name)
        return keys

    def _fixed(self, dim: Any) -> int | None:
        return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None

    def _set(self, i: Any, axis: int) -> int | None:
        dim = i.type.tensor_type.shape.dim[axis]
        fixed = self._fixed(dim)
        return fixed if fixed is not None else self._dims.get(f"{i.name}[{axis}]", self._dims.get(dim.dim_param))

    def _batches(self, i: Any) -> list[str]:
        """Names of sizes of input ``i`` that are its batch."""
        names = [dim.dim_param for dim in i.type.tensor_type.shape.dim]
        leading = [name for name in names[:1] if not _SEQUENCE_LIKE.search(name)]
        return [name for name in (*leading, *filter(_BATCH_LIKE.search, names)) if name not in NAMELESS]

    def _open(self, i: Any) -> list[str]:
        """Describes the sizes of input ``i`` that nothing sets, its batch apart."""
        missing = []
        for axis, dim in enumerate(i.type.tensor_type.shape.dim):
            nameless = dim.dim_param in NAMELESS
            if self._set(i, axis) is None and not (nameless and axis == 0) and dim.dim_param not in self._batch_names:
                shown = f" ({dim.dim_param!r})" if dim.dim_param not in NAMELESS else ""
                missing.append(f"input {i.name!r} axis {axis}{shown or f', as {i.name}[{axis}]'}")
        return missing

    def _is_batch(self, i: Any, axis: int) -> bool:
        return self._set(i, axis) is None

    def values(self, batch: int) -> dict[str, Value]:
        """The inputs as Values for a batch."""
        result = {}
        for i in self._inputs:
            rank = len(i.type.tensor_type.shape.dim)
            sizes = tuple(batch if self._is_batch(i, a) else int(self._set(i, a) or 0) for a in range(rank))
            known = self._dims.get(i.name) if math.prod(sizes) == 1 else None
            kind = i.type.tensor_type.elem_type
            data: NDArray[Any] | None = None
            if known is not None and kind in (6, 7, 9) and i.name in self._keys(i):
                data = np.full(sizes, known, dtype={6: np.int32, 7: np.int64, 9: np.bool_}[kind])
            result[i.name] = value(sizes, kind, i.name, data=data, stored=data is not None, origin=i.name)
        return result
