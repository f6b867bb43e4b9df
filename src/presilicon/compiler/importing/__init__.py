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
from presilicon.compiler.importing.graph import FloatGraph, Node
from presilicon.compiler.importing.normal import normalised
from presilicon.compiler.importing.read import graph_of, read_graph
from presilicon.compiler.importing.rewrite import rewritten

__all__ = ["FloatGraph", "Imported", "Node", "import_model", "import_onnx"]


@dataclass(frozen=True, slots=True)
class Imported:
    """A file's graph as it is, which ONNX Runtime can run, and the same in canonical operators. Values keep their names.

    ``reasons``: why nodes were left as they are where a pattern almost fits.
    """

    raw: FloatGraph
    graph: FloatGraph
    reasons: Mapping[str, str]


def import_onnx(path: str | Path, dims: Mapping[str, int] | None = None) -> Imported:
    """The graphs of an ONNX file with the sizes in ``dims``; ModelError as ``read_graph``."""
    return _canonical(read_graph(path, dims))


def import_model(model: Any, name: str, dims: Mapping[str, int] | None = None) -> Imported:
    """The graphs of an onnx ModelProto that holds its weights; ModelError as ``graph_of``."""
    return _canonical(graph_of(model, name, dims))


def _canonical(raw: FloatGraph) -> Imported:
    graph, reasons = raw, dict[str, str]()
    for title, change in (
        ("normal form", normalised),
        ("operators from their patterns", rewritten),
        ("attention", lambda graph: joined(raw, graph, reasons)),
        ("convolutions", folded),
    ):
        graph = change(graph)
        if int(os.environ.get("DEBUG") or 0) >= 2:
            print(f"-- {title}: {len(graph.nodes)} nodes\n{graph}", file=sys.stderr)
    return Imported(raw, graph, reasons)
