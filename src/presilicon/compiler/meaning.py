"""The exact meaning of each step in numpy, and of a whole lowered model: the reference that simulator and RTL must equal.

Integers are exact: products of int8 are taken in fp32 over runs of k that keep sums within 2^24, others in fp64, and wrapped to
int32 as the accumulators wrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from presilicon import float32 as f32
from presilicon.compiler.rowwise import reciprocal, row_maximum, row_sum
from presilicon.compiler.steps import (
    DTYPES,
    Attention,
    Binding,
    Convolution,
    Gather,
    Lowered,
    Move,
    Pool,
    Product,
    Reduce,
    Rows,
    Step,
)
from presilicon.compiler.vectors import evaluate
from presilicon.errors import CheckError

Array = NDArray[np.generic]
Values = dict[str, Array]

# Products of int8 whose sum is exact in fp32: each is at most 2^14.
_EXACT_RUN = (1 << 24) >> 14
# The largest probability as int8, and the part of it below which a probability rounds to 0.
TOP = 127
LEAST = 0.5 / TOP
# Entries of the table for each unit of the natural logarithm: 255 steps from LEAST to 1.
STEPS_A_UNIT = 255.0 / -math.log(LEAST)


@cache
def probability_table() -> bytes:
    """round(127 e^x) at 256 points from ln(0.5 / 127) to 0 as fp32; the first entry is 0: what lies below counts nothing."""
    values = [round(TOP * math.exp((entry - 255) / STEPS_A_UNIT)) for entry in range(256)]
    return np.array([0, *values[1:]], np.float32).tobytes()


def reference(
    lowered: Lowered,
    inputs: Mapping[str, Array],
    *,
    arguments: Mapping[str, int] | None = None,
    states: Mapping[str, Array] | None = None,
    watch: Callable[[Step, Mapping[str, Array]], None] | None = None,
) -> Values:
    """Outputs and states of a lowered model, exactly; ``watch`` sees each step with all tensors after it.

    ``inputs`` and ``states`` have the shapes of their tensors (any that hold as many elements), states begin as zeros.
    CheckError where an input or argument is missing.
    """
    given = {**(states or {}), **inputs}
    values: Values = dict(lowered.constants)
    for name in (*lowered.inputs, *lowered.states):
        tensor = lowered.tensors[name]
        shape, dtype = (tensor.rows, tensor.columns), DTYPES[tensor.dtype]
        if name not in given and name in lowered.inputs:
            raise CheckError(f"input {name} is not given", where=lowered.name)
        values[name] = np.array(given[name], dtype).reshape(shape) if name in given else np.zeros(shape, dtype)
    missing = [name for name in lowered.arguments if name not in (arguments or {})]
    if missing:
        raise CheckError(f"runtime argument {missing[0]} is not given", where=lowered.name)
    machine = _Meaning(lowered, values, dict(arguments or {}))
    for step in lowered.steps:
        machine.run(step)
        if watch is not None:
            watch(step, values)
    return {name: values[name] for name in (*lowered.outputs, *lowered.states)}


def exact_product(x: Array, w: Array) -> NDArray[np.int32]:
    """Integer x (m, k) times w (k, n), wrapped to int32."""
    if x.dtype != np.int8 or w.dtype != np.int8:
        return (x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64).astype(np.int32)
    total = np.zeros((x.shape[0], w.shape[1]), np.int32)
    for first in range(0, w.shape[0], _EXACT_RUN):
        part = x[:, first : first + _EXACT_RUN].astype(np.float32) @ w[first : first + _EXACT_RUN].astype(np.float32)
        total += part.astype(np.int32)
    return total


def weights_of(step: Product, values: Mapping[str, Array]) -> NDArray[np.int8]:
    """The int8 weights that the array multiplies with: int4 values times their group's multiplier."""
    weights = np.asarray(values[step.weights], np.int8)
    if not step.multipliers:
        return weights
    multipliers = np.asarray(values[step.multipliers], np.int16)
    return (weights * multipliers[np.arange(weights.shape[0]) // step.group]).astype(np.int8)


class _Meaning:
    """A lowered model while it is worked out."""

    def __init__(self, lowered: Lowered, values: Values, arguments: dict[str, int]) -> None:
        self.lowered, self.values, self.arguments = lowered, values, arguments

    def run(self, step: Step) -> None:
        match step:
            case Product():
                k = self.values[step.weights].shape[0]
                x = self.values[step.x][:, step.x_column : step.x_column + k]
                self.vectored(step, exact_product(x, weights_of(step, self.values)))
            case Convolution():
                self.vectored(step, self.convolution(step))
            case Rows():
                self.vectored(step, None)
            case Attention():
                self.attention(step)
            case Gather():
                index = self.values[step.index].reshape(-1).astype(np.int64)
                self.put(step.out, self.values[step.table][index])
            case Move():
                self.move(step)
            case Pool():
                self.pool(step)
            case Reduce():
                self.reduce(step)

    def argument(self, name: str) -> int:
        return self.arguments[name] if name else 0

    def put(self, name: str, value: Array) -> None:
        tensor = self.lowered.tensors[name]
        if value.shape != (tensor.rows, tensor.columns) or value.dtype != DTYPES[tensor.dtype]:
            raise CheckError(f"{name} is {tensor.rows} x {tensor.columns} {tensor.dtype}, not {value.shape} {value.dtype}")
        self.values[name] = value

    # Steps with a vector program -----------------------------------------------------------------------------------------

    def vectored(self, step: Product | Convolution | Rows, sums: NDArray[np.int32] | None) -> None:
        shape = sums.shape if sums is not None else self.shape_of_rows(step)
        valid = self.argument(step.valid) if isinstance(step, Rows) and step.valid else None
        found = evaluate(
            step.program,
            (shape[0], shape[1]),
            streams={b.name: self.bound(b, shape[0], shape[1]) for b in step.streams},
            columns={b.name: self.bound(b, 1, shape[1]) for b in step.columns},
            sums=sums,
            valid=valid,
        )
        for b in step.outputs:
            self.write(b, found[b.name])

    def shape_of_rows(self, step: Product | Convolution | Rows) -> tuple[int, int]:
        """Rows of the first output (a state's are more: then of the first stream), columns of the first stream."""
        for b in step.streams:
            tensor = self.lowered.tensors.get(b.tensor)
            if tensor is not None and not b.row:
                width = min([tensor.columns - b.column, *self.widths(step)])
                return tensor.rows, width
        raise CheckError("no stream says how many rows there are", where=step.name)

    def widths(self, step: Product | Convolution | Rows) -> list[int]:
        outputs = [b for b in step.outputs if not step.program.output(b.name).scalar]
        return [self.lowered.tensors[b.tensor].columns - b.column for b in outputs]

    def bound(self, b: Binding, rows: int, columns: int) -> Array:
        whole = self.values[b.tensor]
        whole = whole.reshape(1, -1) if whole.ndim == 1 else whole
        first = self.argument(b.row)
        part = whole[first : first + rows, b.column : b.column + columns]
        if part.shape != (rows, columns):
            raise CheckError(f"{b.tensor} has no {rows} x {columns} from row {first} and column {b.column} on", where=b.name)
        return part

    def write(self, b: Binding, value: Array) -> None:
        tensor = self.lowered.tensors[b.tensor]
        if not b.row and not b.column and value.shape == (tensor.rows, tensor.columns):
            self.put(b.tensor, value)
            return
        whole = self.whole(b.tensor)
        first = self.argument(b.row)
        part = whole[first : first + value.shape[0], b.column : b.column + value.shape[1]]
        if part.shape != value.shape or value.dtype != whole.dtype:
            raise CheckError(f"{value.shape} {value.dtype} do not fit into {b.tensor}", where=b.name)
        part[...] = value

    def whole(self, name: str) -> Array:
        """A tensor of which a part is written: zeros where nothing was yet."""
        tensor = self.lowered.tensors[name]
        if name not in self.values:
            self.values[name] = np.zeros((tensor.rows, tensor.columns), DTYPES[tensor.dtype])
        return self.values[name]

    def convolution(self, step: Convolution) -> NDArray[np.int32]:
        zero_point = self.lowered.tensors[step.x].zero_point
        windows = _windows(self.values[step.x], step, step.kernel, step.dilation, np.int8(zero_point))
        weights, groups = self.values[step.weights], step.groups
        per_in, per_out = step.channels // groups, step.out_channels // groups
        rows = windows.shape[0] * windows.shape[1]
        parts = []
        for group in range(groups):
            x = windows[..., group * per_in : (group + 1) * per_in].reshape(rows, -1)
            parts.append(exact_product(x, weights[:, group * per_out : (group + 1) * per_out]))
        return np.concatenate(parts, axis=1)

    # The others ----------------------------------------------------------------------------------------------------------

    def attention(self, step: Attention) -> None:
        q, k, v = (self.values[name] for name in (step.q, step.k, step.v))
        tokens, keys = q.shape[0] // step.batch, k.shape[0] // step.batch
        position = self.argument(step.position)
        counts = np.full(tokens, self.argument(step.length) if step.length else keys)
        if step.causal:
            counts = position + 1 + np.arange(tokens)
        outputs = []
        for sample in range(step.batch):
            heads = []
            for head in range(step.heads):
                own, shared = head * step.dim, head // (step.heads // step.kv_heads) * step.dim
                rows = slice(sample * tokens, (sample + 1) * tokens)
                seen = slice(sample * keys, (sample + 1) * keys)
                heads.append(
                    attend(
                        step,
                        q[rows, step.q_column + own :][:, : step.dim],
                        k[seen, step.k_column + shared :][:, : step.dim],
                        v[seen, step.v_column + shared :][:, : step.dim],
                        counts,
                        self.lowered.tensors[step.out].zero_point,
                    )
                )
            outputs.append(np.concatenate(heads, axis=1))
        self.put(step.out, np.concatenate(outputs))

    def move(self, step: Move) -> None:
        source, out = self.values[step.source].reshape(-1), self.whole(step.out)
        start = step.start + self.argument(step.source_row) * step.source_pitch
        target = step.out_start + self.argument(step.out_row) * step.out_pitch
        if source.dtype != out.dtype:
            raise CheckError(f"{step.source} is {source.dtype}, {step.out} {out.dtype}", where=step.name)
        flat = np.ascontiguousarray(out).reshape(-1)
        for first, strides, array in ((start, step.strides, source), (target, step.out_strides, flat)):
            reach = sum((n - 1) * stride for n, stride in zip(step.shape, strides, strict=True))
            if not 0 <= min(first, first + reach) <= max(first, first + reach) < array.size:
                raise CheckError(f"elements {first} to {first + reach} of {array.size} are moved", where=step.name)
        size = source.itemsize
        taken = as_strided(source[start:], step.shape, [size * s for s in step.strides])
        as_strided(flat[target:], step.shape, [size * s for s in step.out_strides])[...] = taken
        self.values[step.out] = flat.reshape(out.shape)

    def pool(self, step: Pool) -> None:
        x = self.values[step.x]
        fp32 = x.dtype == np.float32
        windows = _windows(x, step, step.kernel, (1, 1), x.dtype.type(0))
        inside = _windows(np.ones(x.shape, np.int8), step, step.kernel, (1, 1), np.int8(0))
        found: NDArray[np.uint32] | None = None
        for place in range(windows.shape[2]):
            one, there = windows[:, :, place], inside[:, :, place] == np.int8(1)
            bits = f32.bits(one) if fp32 else f32.from_int32(one.astype(np.int32))
            if step.kind == "mean":
                found = f32.add(np.where(there, bits, np.uint32(0)), f32.bits(np.zeros(one.shape)) if found is None else found)
            else:
                low = np.where(there, bits, f32.bits(-np.inf))
                found = low if found is None else f32.maximum(low, found)
        assert found is not None
        if step.kind == "mean":
            area = step.kernel[0] * step.kernel[1]
            count = np.full(inside.shape[:2], area) if step.count_padding else inside[..., 0].sum(axis=2)
            found = f32.multiply(found, f32.bits(1.0 / count.astype(np.float64))[..., None])
        flat = f32.canonical(found).reshape(-1, step.channels)
        self.put(step.out, f32.numbers(flat) if fp32 else f32.to_int8(flat))

    def reduce(self, step: Reduce) -> None:
        x = self.values[step.x]
        rows = x.shape[0] // step.batch
        count = self.argument(step.length) if step.length else rows
        results = []
        for sample in range(step.batch):
            found = f32.bits(np.full((1, x.shape[1]), -np.inf if step.kind == "max" else 0.0))
            for row in range(count):
                one = f32.bits(x[sample * rows + row : sample * rows + row + 1])
                found = f32.maximum(one, found) if step.kind == "max" else f32.add(one, found)
            if step.kind == "sum":
                scale = reciprocal(f32.bits(float(count))) if step.mean_of_length else f32.bits(step.scale)
                found = f32.multiply(found, scale)
            results.append(f32.numbers(found))
        self.put(step.out, np.concatenate(results))


def attend(step: Attention, q: Array, k: Array, v: Array, counts: NDArray[np.int64], zero_point: int = 0) -> NDArray[np.int8]:
    """One head: q (tokens, dim), k and v (keys, dim) int8, keys seen by each query; (tokens, dim) int8.

    t = sum * S + (127 - S max), S = ``score_scale`` * STEPS_A_UNIT; p = table[t], whole numbers; out = p v * (s / sum of p).
    """
    hidden = np.arange(k.shape[0])[None, :] >= counts[:, None]
    scale = f32.bits(step.score_scale * STEPS_A_UNIT)
    scores = f32.multiply(f32.from_int32(exact_product(q, k.T)), scale)
    largest = row_maximum(np.where(hidden, f32.bits(-np.inf), scores))
    shift = f32.add(f32.negate(largest), f32.bits(127.0))
    table = np.frombuffer(probability_table(), np.uint32)
    p = np.where(hidden, np.uint32(0), table[f32.to_int8(f32.add(scores, shift)).astype(np.int64) + 128])
    inverse = f32.multiply(reciprocal(row_sum(p)), f32.bits(step.value_scale))
    out = exact_product(f32.to_int8(p), v)
    return f32.to_int8(f32.multiply(f32.from_int32(out), inverse), zero_point)


def _windows(x: Array, step: Convolution | Pool, kernel: tuple[int, int], dilation: tuple[int, int], fill: np.generic) -> Array:
    """Windows of images as (batch, pixels, places of the window, channels)."""
    (oh, ow), (top, left, bottom, right) = step.out_size, step.padding
    images = x.reshape(step.batch, step.height, step.width, step.channels)
    padded = np.pad(images, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    parts = []
    for y in range(kernel[0]):
        for z in range(kernel[1]):
            rows = slice(y * dilation[0], y * dilation[0] + (oh - 1) * step.stride[0] + 1, step.stride[0])
            columns = slice(z * dilation[1], z * dilation[1] + (ow - 1) * step.stride[1] + 1, step.stride[1])
            parts.append(padded[:, rows, columns].reshape(step.batch, oh * ow, step.channels))
    return np.stack(parts, axis=2)
