"""ONNX files as float graphs of canonical operators, ready to be calibrated and lowered."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presilicon.compiler.importing.attention import joined
from presilicon.compiler.importing.convolutions import folded
from presilicon.compiler.importing.fused import written_out
from presilicon.compiler.importing.graph import FloatGraph, Node
from presilicon.compiler.importing.normal import normalised
from presilicon.compiler.importing.read import graph_of, read_model
from presilicon.compiler.importing.recurrent import unrolled
from presilicon.compiler.importing.rewrite import rewritten
from presilicon.frontend.onnx_inputs import NAMELESS

__all__ = ["FloatGraph", "Imported", "Node", "Source", "import_model"]


@dataclass(frozen=True, slots=True)
class Imported:
    """A file's graph as it is, which ONNX Runtime can run, and the same in canonical operators. Values keep their names.

    ``reasons``: why nodes were left as they are where a pattern almost fits.
    """

    raw: FloatGraph
    graph: FloatGraph
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """A model that was read: its onnx ModelProto with the weights, its name, and its path where it has one."""

    model: Any
    name: str
    where: str = ""

    @classmethod
    def file(cls, path: str | Path) -> Source:
        """The model in a file; ModelError where it is broken or its weights are missing."""
        return cls(read_model(Path(path)), Path(path).stem, str(path))

    def raw(self, dims: Mapping[str, int] | None = None) -> FloatGraph:
        """The graph as it is (operators that hold a whole layer written out), with the sizes in ``dims``.

        ModelError as ``graph_of``.
        """
        return written_out(graph_of(self.model, self.name, dims, self.where))

    def imported(self, dims: Mapping[str, int] | None = None) -> Imported:
        """The graph as it is and in canonical operators."""
        return _canonical(self.raw(dims))

    def sizes_of(self, arrays: Mapping[str, Any], dims: Mapping[str, int]) -> dict[str, int]:
        """``dims`` with the open sizes that arrays have (samples along their first axis), and 0 for what no array tells."""
        found = dict(dims)
        told: set[str] = set()
        for i in self.model.graph.input:
            sizes = _open_sizes(i)
            array = arrays.get(i.name)
            if array is not None and array.ndim in (len(sizes), len(sizes) + 1):
                own = array.shape[1:] if array.ndim == len(sizes) + 1 else (1, *array.shape[1:])
                told |= {name for name in sizes if name}
                found |= {name: int(n) for name, n in zip(sizes, own, strict=True) if name}
        missing = {name for i in self.model.graph.input if i.name not in arrays for name in _open_sizes(i)}
        return found | dict.fromkeys(missing - told - {""}, 0) if arrays else found


def _open_sizes(given: Any) -> list[str]:
    """What ``dims`` calls each size of an input that the file leaves open; empty for the others."""
    return [
        "" if dim.HasField("dim_value") and dim.dim_value >= 0 else
        dim.dim_param if dim.dim_param not in NAMELESS else f"{given.name}[{axis}]"
        for axis, dim in enumerate(given.type.tensor_type.shape.dim)
    ]  # fmt: skip


def import_model(model: Any, name: str, dims: Mapping[str, int] | None = None) -> Imported:
    """The graphs of an onnx ModelProto that holds its weights; ModelError as ``graph_of``."""
    return Source(model, name).imported(dims)


def _canonical(raw: FloatGraph) -> Imported:
    graph, reasons = raw, dict[str, str]()
    for title, change in (
        ("normal form", normalised),
        ("recurrent layers", unrolled),
        ("operators from their patterns", rewritten),
        ("attention", lambda graph: joined(raw, graph, reasons)),
        ("convolutions", folded),
    ):
        graph = change(graph)
        if int(os.environ.get("DEBUG") or 0) >= 2:
            print(f"-- {title}: {len(graph.nodes)} nodes\n{graph}", file=sys.stderr)
    return Imported(raw, graph, reasons)
