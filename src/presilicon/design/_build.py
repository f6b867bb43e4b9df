"""The chosen chip of the template goes on: its Verilog, and a scaled-down copy checked at every level.

A matmul and one transformer block (where the model has attention) run on reference, simulator and RTL and must agree byte for
byte. The copy has an array of at most 8 x 8; the block has the model's head dimension and ratio of widths, and random weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.check import compare
from presilicon.check_model import check_model
from presilicon.chip import Chip
from presilicon.compiler.corpus import gemm_case
from presilicon.errors import ChipError
from presilicon.files import write_folder
from presilicon.flow import build as compiled_for
from presilicon.frontend.encoder_onnx import bert
from presilicon.graph import Attention, Matmul
from presilicon.template import Core

from ._archive import Candidate
from ._problem import Problem

LARGEST_SIDE = 8
GEMM = (32, 64, 48)
TOKENS, HEADS, LONGEST_HEAD = 16, 2, 32
_WORDS = 64
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One program on all levels: bytes that differ between neighbours, and cycles by level."""

    name: str
    mismatches: dict[str, int]
    cycles: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {"name": self.name, "mismatches": self.mismatches, "cycles": self.cycles}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Files of the chosen chip's hardware, the copy that was checked, and how the checks went."""

    files: tuple[str, ...]
    copy: str
    checks: tuple[Checked, ...]

    @property
    def agrees(self) -> bool:
        """Whether all levels gave the same bytes."""
        return not any(any(one.mismatches.values()) for one in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        checks = [one.to_json() for one in self.checks]
        return {"files": list(self.files), "copy": self.copy, "agrees": self.agrees, "checks": checks}


def scaled_down(chip: Chip) -> Chip:
    """The chip with one core of an array of at most 8 x 8, and what the template's laws ask beside it."""
    core, template = Core.of(chip), chip.template
    assert template is not None
    rows, cols = min(core.rows, LARGEST_SIDE), min(core.cols, LARGEST_SIDE)
    bus = 16
    changed = replace(
        template, bus_bytes=bus, weight_rows_per_cycle=-(-bus // cols), accumulator_rows=min(core.accumulator_rows, 128)
    )
    rate = 2.0 * rows * cols * chip.need("clock_hz")
    return replace(
        chip, name=f"{chip.name}-{rows}x{cols}", cores=1, array_rows=rows, array_cols=cols,
        vector_lanes=min(core.lanes, cols), scratchpad_bytes=65536, template=changed,
        peak_ops_per_s=dict.fromkeys(chip.peak_ops_per_s, rate),
    )  # fmt: skip


def build(
    problem: Problem, chosen: Candidate, folder: str | Path, *, rtl: bool = True, progress: Progress = lambda _: None
) -> Built:
    """Write the Verilog of the chosen chip into ``folder``/rtl and check its copy; ChipError where it is not of the template.

    ``rtl``: run the copy's Verilog too, else reference and simulator only.
    """
    chip = chosen.chip()
    if chip.template is None:
        raise ChipError(
            f"its matrix units multiply {' and '.join(chip.peak_ops_per_s)}, and no RTL of that exists", where=chip.name,
            hint="--space template searches chips that have one",
        )  # fmt: skip
    from presilicon.rtl.emit import files

    progress("emitting Verilog ...")
    texts = files(Core.of(chip))
    write_folder(Path(folder) / "rtl", texts)
    copy = scaled_down(chip)
    checks = [_gemm(copy, rtl, progress)]
    if (head := _head(problem)) is not None:
        checks.append(_block(copy, head, rtl, progress))
    return Built(files=tuple(sorted(texts)), copy=copy.title or copy.name, checks=tuple(checks))


def _gemm(copy: Chip, rtl: bool, progress: Progress) -> Checked:
    core = Core.of(copy)
    case = gemm_case(core, np.random.default_rng(0), *GEMM)
    progress(f"checking {case.name} on {copy.name} ...")
    with _machine(core, case.program.dram_bytes, rtl) as machine:
        done = compare(case, core, machine=machine)
    return Checked(name=case.name, mismatches=dict(done.mismatches), cycles=dict(done.cycles))


def _machine(core: Core, dram_bytes: int, rtl: bool) -> Any:
    if not rtl:
        return nullcontext()
    from presilicon.rtl.runner import RtlMachine

    return RtlMachine(core, np.zeros(dram_bytes, np.uint8))


def _head(problem: Problem) -> tuple[int, int] | None:
    """Head dimension of the model's attention, and how many times the hidden width its feed-forward is; None without one."""
    formats = problem.formats(str(problem.space.axis("formats").values[0]))
    assert formats is not None
    model: Any = problem.model
    graph = model.inference(batch=1, formats=formats, tokens=problem.tokens)
    attention = next((op for op in graph if isinstance(op, Attention)), None)
    if attention is None:
        return None
    hidden = float(attention.heads * attention.head_dim)
    widest = max(float(op.n) for op in graph if isinstance(op, Matmul) and float(op.k) == hidden)
    return min(int(attention.head_dim), LONGEST_HEAD), max(1, round(widest / hidden))


def _block(copy: Chip, head: tuple[int, int], rtl: bool, progress: Progress) -> Checked:
    import onnx

    dim, ratio = head
    hidden = HEADS * dim
    config = {"hidden_size": hidden, "num_attention_heads": HEADS, "num_hidden_layers": 1, "layer_norm_eps": 1e-12}
    name = f"block-{TOKENS}x{hidden}"
    progress(f"checking {name} on {copy.name} ...")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        onnx.save(bert(config, _weights(hidden, ratio * hidden)), str(path))
        compiled = compiled_for(path, copy, dims={"sequence": TOKENS}).compiled
    ids = np.random.default_rng(1).integers(0, _WORDS, (1, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    done = check_model(compiled, inputs, rtl=rtl)
    return Checked(name=name, mismatches=dict(done.mismatches), cycles=dict(done.cycles))


def _weights(hidden: int, inner: int) -> dict[str, NDArray[np.float32]]:
    """Random weights of a BERT encoder of one layer, by the names that Hugging Face gives them."""
    rng = np.random.default_rng(2)
    layer = "encoder.layer.0"
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (_WORDS, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.position_embeddings.weight": (TOKENS, hidden),
        **{f"{layer}.attention.self.{part}.weight": (hidden, hidden) for part in ("query", "key", "value")},
        f"{layer}.attention.output.dense.weight": (hidden, hidden),
        f"{layer}.intermediate.dense.weight": (inner, hidden),
        f"{layer}.output.dense.weight": (hidden, inner),
    }
    biases = {name.replace(".weight", ".bias"): (shape[0],) for name, shape in shapes.items() if name.startswith("encoder")}
    found = {name: rng.normal(0.0, shape[-1] ** -0.5, shape).astype(np.float32) for name, shape in (shapes | biases).items()}
    for norm in ("embeddings.LayerNorm", f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"):
        found[f"{norm}.weight"] = np.ones(hidden, np.float32)
        found[f"{norm}.bias"] = np.zeros(hidden, np.float32)
    return found
