"""ONNX Runtime, as far as the compiler needs it: constants folded, float models run with their values in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import Apart, Array, FloatGraph
from presilicon.errors import InputError, ModelError


def session(graph: FloatGraph, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A session of the nodes between some values and others on the CPU; ModelError where ONNX Runtime refuses them."""
    runtime = _runtime()
    apart = Apart()
    model = graph.model(inputs, outputs, apart)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if apart.folder or apart.arrays:
        # What is stored narrow is widened when it is needed and then given up again, not all of it first.
        options.execution_order = runtime.ExecutionOrder.PRIORITY_BASED
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", apart.folder)
        values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in apart.arrays.values()]
        options.add_external_initializers(list(apart.arrays), values)
    try:
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # its exceptions have no common base but this
        raise ModelError(f"ONNX Runtime refuses it: {_sentence(problem)}", where=graph.name) from None


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError("ONNX Runtime is not installed", hint="pip install 'presilicon[compile]'") from None
    return onnxruntime


def _sentence(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]


def run(ready: Any, feeds: Mapping[str, Array], where: str) -> list[Array]:
    """All outputs of a session; ModelError where the run fails."""
    try:
        return [np.asarray(result) for result in ready.run(None, dict(feeds))]
    except Exception as problem:
        raise ModelError(f"ONNX Runtime stops: {_sentence(problem)}", where=where) from None


def evaluate(graph: FloatGraph, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
    """Values of the float graph for given others, by ONNX Runtime."""
    if missing := [name for name in outputs if name not in feeds and name not in graph.constants]:
        ready = session(graph, list(feeds), missing)
        used = {i.name for i in ready.get_inputs()}
        found = dict(zip(missing, run(ready, {n: a for n, a in feeds.items() if n in used}, graph.name), strict=True))
    else:
        found = {}
    return [found[n] if n in found else np.asarray(feeds[n] if n in feeds else graph.constants[n]) for n in outputs]
