"""How much a step computes and moves: what its result needs, whatever the array pads and however often it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from presilicon.compiler.steps import Attention, Convolution, Gather, Lowered, Move, Product, Rows, Step, reads, writes


def macs(lowered: Lowered, step: Step, arguments: Mapping[str, int] | None = None) -> int:
    """MACs of a step; runtime arguments that are not given have their largest values."""
    known = {**lowered.arguments, **(arguments or {})}
    match step:
        case Product():
            return lowered.tensors[step.x].rows * int(lowered.constants[step.weights].size)
        case Convolution():
            height, width = step.out_size
            taps = step.kernel[0] * step.kernel[1] * step.channels // step.groups
            return step.batch * height * width * taps * step.out_channels
        case Attention():
            tokens = lowered.tensors[step.q].rows // step.batch
            keys = lowered.tensors[step.k].rows // step.batch
            pairs = tokens * (known[step.length] if step.length else keys)
            if step.causal:
                first = known[step.position] if step.position else 0
                pairs = sum(min(keys, first + 1 + i) for i in range(tokens))
            return step.batch * step.heads * pairs * 2 * step.dim
        case _:
            return 0


def unique_bytes(lowered: Lowered, step: Step, arguments: Mapping[str, int] | None = None) -> int:
    """Bytes that a step must read and write if nothing stays on the chip between steps; int4 weights are half a byte each."""
    known = {**lowered.arguments, **(arguments or {})}
    total = 0
    for name in dict.fromkeys(reads(step)):
        if isinstance(step, Gather) and name == step.table:
            total += lowered.tensors[step.out].bytes
        elif rows := _rows_at_position(lowered, step, name):
            array = lowered.constants.get(name)
            total += rows * (lowered.tensors[name].bytes // lowered.tensors[name].rows if array is None else array[0].nbytes)
        elif name in lowered.tensors:
            total += _read_bytes(lowered, step, name, known)
        else:
            array = lowered.constants[name]
            packed = isinstance(step, Product) and step.multipliers and name in (step.weights, step.multipliers)
            total += array.size // 2 if packed else array.nbytes
    return total + sum(_written_bytes(lowered, step, name) for name in dict.fromkeys(writes(step)))


def _rows_at_position(lowered: Lowered, step: Step, name: str) -> int:
    """Rows of a table or cache that a step reads or writes from a runtime row on; 0 where it has all of them."""
    if not isinstance(step, Product | Rows):
        return 0
    if not any(b.row for b in (*step.streams, *step.outputs) if b.tensor == name):
        return 0
    if isinstance(step, Product):
        return lowered.tensors[step.x].rows
    return next(lowered.tensors[b.tensor].rows for b in step.streams if b.tensor in lowered.tensors and not b.row)


def _read_bytes(lowered: Lowered, step: Step, name: str, known: Mapping[str, int]) -> int:
    tensor = lowered.tensors[name]
    if isinstance(step, Attention):
        tokens, keys = lowered.tensors[step.q].rows // step.batch, lowered.tensors[step.k].rows // step.batch
        seen = known[step.length] if step.length else keys
        if step.causal:
            seen = min(keys, (known[step.position] if step.position else 0) + tokens)
        columns = step.dim * ((step.q == name) * step.heads + ((step.k == name) + (step.v == name)) * step.kv_heads)
        return step.batch * (tokens if name == step.q else seen) * columns
    if isinstance(step, Move):
        return math.prod(step.shape) * tensor.bytes // (tensor.rows * tensor.columns)
    if isinstance(step, Product) and name == step.x:
        return tensor.rows * int(lowered.constants[step.weights].shape[0])
    return tensor.bytes


def _written_bytes(lowered: Lowered, step: Step, name: str) -> int:
    tensor = lowered.tensors[name]
    if isinstance(step, Move):
        return math.prod(step.shape) * tensor.bytes // (tensor.rows * tensor.columns)
    rows = _rows_at_position(lowered, step, name)
    return tensor.bytes // tensor.rows * (rows or tensor.rows)
