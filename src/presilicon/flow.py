"""The whole path as one reads it: a model's file to steps to programs, and those run on any level.

import presilicon
model = presilicon.compile("model.onnx", "core-16x16", calibrate="samples.npz")
y = model.run({"x": x})["y"]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presilicon.chip import Chip, load
from presilicon.compiler.array_files import read_arrays
from presilicon.compiler.compiled import ChipPart, Compiled, HostPart
from presilicon.compiler.emission import emit
from presilicon.compiler.importing import Source
from presilicon.compiler.lower import WeightFormat, lower
from presilicon.compiler.lowering.report import SupportReport
from presilicon.errors import CapacityError, WorkloadError
from presilicon.frontend.encoder_onnx import calibration as encoder_calibration
from presilicon.frontend.encoder_onnx import encoder_model, installed
from presilicon.session import Array, Level, Session
from presilicon.template import Core


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A compilation: the model, what became of each node of its file, and the seconds that each part of the work took."""

    compiled: Compiled
    report: SupportReport
    seconds: Mapping[str, float]

    def session(self, level: Level = "simulate", **options: Any) -> Session:
        """The model ready to run on a level."""
        return Session(self.compiled, level, **options)

    def run(self, inputs: Mapping[str, Array], level: Level = "simulate") -> Mapping[str, Array]:
        """Outputs for inputs, both by the names of the model's file, with states as at the start."""
        with self.session(level) as session:
            return session.run(inputs).outputs


def build(
    model: str | Path,
    chip: Chip,
    *,
    dims: Mapping[str, int] | None = None,
    tokens: int | None = None,
    calibration: Mapping[str, Array] | None = None,
    weights: WeightFormat = "int8",
    host_fallback: bool = False,
    fine: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> Built:
    """A model's ONNX file, or a model by name (with ``tokens``) whose package is installed, as programs for a template chip.

    ``calibration``: samples by input along a new first axis; models by name bring sentences of ours. ``fine``: convolutions
    whose image is taken in two terms of int8. ModelError where the file or the data cannot be used or nodes are refused (with
    ``host_fallback`` they run on the host), ChipError where the chip is not of the template, CapacityError where something
    does not fit it.
    """
    core = Core.of(chip)
    began = time.perf_counter()
    progress(f"reading and lowering {model} ...")
    lowered = lower(
        _source(model, tokens),
        dims=_dims(model, dims, tokens),
        calibration=_sentences(model, tokens) if calibration is None else calibration,
        weights=weights,
        host_fallback=host_fallback,
        fine=fine,
    )
    halfway = time.perf_counter()
    parts: list[ChipPart | HostPart] = []
    for part in lowered.parts:
        if isinstance(part, HostPart):
            parts.append(part)
            continue
        progress(f"emitting {len(part.lowered.steps)} steps ...")
        made = emit(part.lowered, core)
        parts.append(
            ChipPart(
                lowered=part.lowered,
                programs=made.programs,
                step_of=made.step_of,
                inputs=part.inputs,
                outputs=part.outputs,
            )
        )
    name = str(model).rpartition("/")[2].removesuffix(".onnx")
    compiled = Compiled(name=name, chip=chip, parts=tuple(parts), inputs=lowered.inputs, outputs=lowered.outputs)
    check_memory(compiled)
    seconds = {"lower": halfway - began, "emit": time.perf_counter() - halfway}
    return Built(compiled=compiled, report=lowered.report, seconds=seconds)


def _source(model: str | Path, tokens: int | None) -> Source:
    """A model's file, or a model by name whose package is installed."""
    folder = installed(str(model))
    if folder is None:
        if tokens is not None:
            raise WorkloadError("tokens are of models by name", where=str(model), hint="--dim name=N of an ONNX file")
        return Source.file(model)
    return Source(encoder_model(folder), str(model).rpartition("/")[2])


def _sentences(model: str | Path, tokens: int | None) -> Mapping[str, Array] | None:
    """What a model by name is calibrated on where the user brings nothing."""
    return None if tokens is None or installed(str(model)) is None else encoder_calibration(str(model), tokens)


def _dims(model: str | Path, dims: Mapping[str, int] | None, tokens: int | None) -> dict[str, int]:
    if installed(str(model)) is None:
        return dict(dims or {})
    if tokens is None:
        raise WorkloadError("its number of tokens is not given", where=str(model), hint="--tokens N")
    return {**(dims or {}), "sequence": tokens}


def compile(model: str | Path, chip: str | Chip, *, calibrate: str | Path | None = None, **options: Any) -> Built:
    """``build`` with a chip by name and calibration data in an .npz file: three lines to a model on a chip."""
    if calibrate is not None:
        options["calibration"] = read_arrays(calibrate)
    return build(model, load(chip) if isinstance(chip, str) else chip, **options)


def check_memory(compiled: Compiled) -> None:
    """CapacityError where the model needs more DRAM than the chip has, with both numbers."""
    have = compiled.chip.need("memory.bytes")
    if compiled.dram_bytes > have:
        raise CapacityError(
            f"{compiled.name} takes {compiled.dram_bytes / 1e6:,.1f} MB and the memory holds {have / 1e6:,.1f} MB",
            where=compiled.chip.name,
            hint="a chip with more memory, fewer tokens, or --weights int4",
        )
