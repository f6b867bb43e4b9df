"""Matrix multiplications and convolutions: tiles, waves, split-k, reached rates, conversion of operands.

An output is cut into tiles, one core computes a tile at a time, all cores together a wave of them. The time of a wave is
that of the matrix unit or of feeding it, whichever is longer, plus filling the pipeline; the whole overlaps with memory.
The tile and the number of splits of k are those that take least time, as a tuned library would choose.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from presilicon.dtypes import NumberFormat
from presilicon.estimate.cost import NOTHING_KEPT, Cost, Kept, Real
from presilicon.estimate.energy import power_limited_s
from presilicon.estimate.machine import Machine
from presilicon.graph import Convolution, ExpertMatmul, Matmul, Size

# Output tiles (rows, columns) that GPU libraries and array compilers choose among.
TILES = ((16, 64), (32, 64), (64, 64), (64, 128), (128, 64), (128, 128), (64, 256), (128, 256), (256, 128))
# Columns below which groups of a grouped convolution are multiplied together as one block-diagonal matrix.
PACKED_COLUMNS = 64
# Into how many parts k may be split.
SPLITS = (1, 2, 4, 8, 16)
# Depth of one step along k that is loaded and multiplied at once.
DEPTH = 64
# The same on every GPU, fitted once on A100, H100 and H200 together (docs/validation.md): how much of a partial wave's idle
# time is lost (persistent kernels win some back), and how fast partial sums of split k move through the last-level cache, in
# multiples of the memory's bandwidth.
WAVE_LOSS = 0.6
CACHE_OVER_MEMORY = 2.0


def multiplied_format(machine: Machine, weights: NumberFormat, activations: NumberFormat) -> str:
    """The format in which the matrix unit works: the wider operand's, or what the chip widens it to."""
    wide = activations if activations.bits >= weights.bits else weights
    return machine.native(wide.name)


def _tiled(
    machine: Machine,
    *,
    m: Size,
    n: Size,
    k: Size,
    groups: Size,
    rate: Real,
    left_bytes: float,
    right_bytes: float,
    dram_s: Real,
    floor_s: Real,
) -> tuple[Real, Real]:
    """Least time of the multiplication itself, and the time of its matrix units alone, over tiles and splits of k."""
    c = machine.constants
    cores = machine.tiles_at_once
    per_core = rate * c.matmul_share / cores
    scale = machine.tile_scale
    stream = c.operand_bytes_per_cycle * scale * machine.clock_hz
    best: Real = np.inf
    compute: Real = np.inf
    for tile_rows, tile_cols in TILES:
        rows, cols = tile_rows * scale, tile_cols * scale
        held_rows = np.minimum(rows, np.ceil(np.asarray(m) / 8) * 8)
        held_cols = np.minimum(cols, n)
        tiles = groups * np.ceil(np.asarray(m) / rows) * np.ceil(np.asarray(n) / cols)
        multiply_s = 2.0 * np.maximum(rows, c.least_rows) * cols / per_core
        step_s = np.maximum(multiply_s, (held_rows * left_bytes + held_cols * right_bytes) / stream)
        for splits in SPLITS:
            depth = np.ceil(np.asarray(k) / (splits * DEPTH)) * DEPTH
            share = tiles * (splits / cores)
            waves = WAVE_LOSS * np.ceil(share) + (1 - WAVE_LOSS) * np.maximum(share, 1.0)
            busy = waves * (depth * step_s + c.wave_s)
            whole = np.maximum(np.maximum(busy, floor_s), dram_s) + c.not_overlapped * np.minimum(busy, dram_s)
            if splits > 1:
                partial = splits * 8.0 * groups * m * n
                whole = whole + c.split_s + partial / (CACHE_OVER_MEMORY * machine.memory_bytes_per_s)
            best = np.minimum(best, whole)
            compute = np.minimum(compute, busy)
    return best, compute


def _cost(
    machine: Machine,
    *,
    m: Size,
    n: Size,
    k: Size,
    groups: Size,
    macs: Size,
    weights: NumberFormat,
    activations: NumberFormat,
    source: NumberFormat,
    input_bytes: Size,
    weight_bytes: Size,
    output_bytes: Size,
    elements_in: Size,
    kept: Kept = NOTHING_KEPT,
) -> Cost:
    c = machine.constants
    native = multiplied_format(machine, weights, activations)
    rate = machine.rate(native)
    bandwidth = c.memory_share * machine.memory_bytes_per_s
    # An operand narrower than the format it is multiplied in travels narrow and is widened inside the core.
    left = min(activations.bytes_per_element, source.bytes_per_element)
    converted = activations.bits < source.bits and machine.has(activations)
    read = input_bytes if not converted else elements_in * activations.bytes_per_element
    copies = 1.0 + c.weight_copies * (machine.cores - 1.0)
    dram_bytes = kept.moved(weight_bytes * copies, read + output_bytes)
    dram_s = dram_bytes / bandwidth
    power_s = power_limited_s(machine, multiplied=native, macs=macs, dram_bytes=dram_bytes)
    body, busy = _tiled(
        machine,
        m=m,
        n=n,
        k=k,
        groups=groups,
        rate=rate,
        left_bytes=left if converted or source.bits <= activations.bits else source.bytes_per_element,
        right_bytes=weights.bytes_per_element,
        dram_s=dram_s,
        floor_s=power_s,
    )
    overhead: Real = c.launch_s
    if converted:
        extra = elements_in * (source.bytes_per_element + activations.bytes_per_element)
        overhead = overhead + c.quantize_s + c.quantize_passes * extra / bandwidth
        dram_bytes = dram_bytes + extra
    return Cost(
        latency_s=overhead + body,
        compute_s=busy,
        memory_s=dram_s,
        power_s=power_s,
        overhead_s=overhead,
        dram_bytes=dram_bytes,
        macs=macs,
        multiplied=native,
    )


def matmul_cost(machine: Machine, op: Matmul, kept: Kept = NOTHING_KEPT) -> Cost:
    """Cost of one (m, k) x (k, n) multiplication, ``op.groups`` of them side by side."""
    right = op.touched_weight_bytes if op.has_weights else op.groups * op.k * op.n * op.weights.bytes_per_element
    elements = op.groups * op.m * op.k
    return _cost(
        machine,
        m=op.m,
        n=op.n,
        k=op.k,
        groups=op.groups,
        macs=op.macs,
        weights=op.weights,
        activations=op.activations,
        source=op.source,
        input_bytes=elements * op.source.bytes_per_element,
        weight_bytes=right,
        output_bytes=op.output_bytes,
        elements_in=elements,
        kept=kept,
    )


def expert_cost(machine: Machine, op: ExpertMatmul) -> Cost:
    """Cost of a grouped multiplication over the experts that are hit.

    The fullest expert holds ``imbalance`` times the mean number of rows (never more than one row a token).
    """
    active = np.maximum(op.active_experts, 1.0)
    mean = op.routes / active
    rows = np.minimum(np.maximum(mean * machine.constants.imbalance, 1.0), np.maximum(op.tokens, mean))
    return _cost(
        machine,
        m=rows,
        n=op.n,
        k=op.k,
        groups=active,
        macs=op.macs,
        weights=op.weights,
        activations=op.activations,
        source=op.source,
        input_bytes=op.input_bytes,
        weight_bytes=op.touched_weight_bytes,
        output_bytes=op.output_bytes,
        elements_in=np.minimum(op.tokens, op.routes) * op.k,
    )


def convolution_cost(machine: Machine, op: Convolution, kept: Kept = NOTHING_KEPT) -> Cost:
    """Cost of a convolution as the multiplication it is: output positions x taps x output channels, per group.

    Narrow groups are packed side by side until they fill ``PACKED_COLUMNS`` columns; the zeros between them are
    multiplied too. Where that costs more than the vector unit (depthwise), the vector unit does it.
    """
    groups = np.asarray(op.groups, dtype=np.float64)
    columns = op.out_channels / groups
    packed = np.minimum(groups, np.maximum(1.0, np.floor(PACKED_COLUMNS / columns)))
    taps = op.in_channels / groups * op.kernel_height * op.kernel_width
    cost = _cost(
        machine,
        m=op.batch * op.out_height * op.out_width,
        n=columns * packed,
        k=taps * packed,
        groups=groups / packed,
        macs=op.macs * packed,
        weights=op.weights,
        activations=op.activations,
        source=op.source,
        input_bytes=op.input_bytes,
        weight_bytes=op.touched_weight_bytes,
        output_bytes=op.output_bytes,
        elements_in=op.batch * op.in_channels * op.in_height * op.in_width,
        kept=kept,
    )
    if np.all(packed == 1.0):
        return cost
    vector_s = np.where(packed > 1.0, 2.0 * op.macs / machine.vector_ops_per_s, np.inf)
    on_vector = machine.constants.launch_s + np.maximum(cost.memory_s, vector_s)
    return replace(
        cost,
        latency_s=np.minimum(cost.latency_s, on_vector),
        compute_s=np.minimum(cost.compute_s, vector_s),
        macs=op.macs,
    )
