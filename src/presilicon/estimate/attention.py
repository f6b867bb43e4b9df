"""Fused attention: query blocks and causal masks, caches read by few queries, splits of a long cache, windows.

Two schedules. *Many* new positions (prefill, encoders): blocks of query rows of one head go to cores, which pass over the
keys that a block sees; what is taken in and written out moves before and after. *Few* (decode, speculative decode): the
query heads that share a KV head are the rows of one tile, the cache streams past it, and a long cache is split among cores
whose partial results are then combined. Rows of a block and number of splits are those that take least time, as a tuned
library would choose. A core with the array of several counts as several (``Machine.tiles_at_once``), as it does for matmul.

More bandwidth, cores or clock is never slower and more tokens never faster by construction: each candidate's time obeys
that, and minimum and maximum keep it.
"""

from __future__ import annotations

import numpy as np

from presilicon.estimate.cost import Cost, Real
from presilicon.estimate.energy import power_limited_s
from presilicon.estimate.machine import Machine
from presilicon.graph import Attention, Size

# Query rows of a block that kernels choose among; keys are multiplied KEYS at a time; a kernel for a cache takes up to FEW
# new positions, and splits the cache into one of SPLITS parts.
BLOCKS = (64, 128, 256, 512)
KEYS = 64
FEW = 8
SPLITS = (1, 2, 4, 8, 16, 32, 64, 128)
# A core with a large array is fed in proportion: an element of keys and values for at most this many of its operations.
OPS_PER_ELEMENT = 256.0
# Rows that a matrix instruction multiplies at least.
LEAST_ROWS = 16
# The same on every GPU, fitted once on A100, H100 and H200 together (docs/validation.md).
# Several small units of work (a block of queries, or an unshared KV head) are in flight on a core: the time that one's
# filling costs, over that of a tile of heads.
SMALL_FILL = 0.16
# A single unit of work cannot keep its core busy: its time over the one it takes among others.
ALONE = 1.5
# How much of the shorter of compute and memory does not overlap when a cache is read.
NOT_OVERLAPPED = 0.15
# Vector operations that a query-key pair of one head costs between the two products: scale, mask, maximum, exponential, sum.
SOFTMAX_OPS = 30.0
# The share of its peak that an 8-bit product reaches where a 16-bit one reaches all: power, and narrowing the probabilities.
EIGHT_BIT_SHARE = 0.7
# Heads whose 8-bit rows are shorter than a memory line have no tuned kernel: they are narrowed by kernels of their own,
# NARROWING_LAUNCHES of them, and a block fills like a tile of heads.
LINE_BYTES = 128
NARROWING_LAUNCHES = 2
# Traffic of narrowing Q, K and V to 8 bits, in passes over them (most is fused with taking them in).
NARROWING_PASSES = 0.3
# Kernels for 8-bit caches keep several units in flight up to this many query heads a KV head. Kernels for unshared KV heads do
# so too, but know no windows.
GROUP_8BIT = 16


def _overlapped(one: Real, other: Real) -> Real:
    return np.maximum(one, other) + NOT_OVERLAPPED * np.minimum(one, other)


def _fed(machine: Machine, op: Attention, elements_per_cycle: Real) -> Real:
    """Elements a second that reach one core: as measured on GPUs, or in proportion to its array."""
    return np.maximum(
        elements_per_cycle * machine.clock_hz, machine.rate(op.activations) / machine.tiles_at_once / OPS_PER_ELEMENT
    )


def _seen(op: Attention, kv: Size, rows: int) -> tuple[Real, Real, Real]:
    """Blocks of ``rows`` queries a head and sequence, the keys they pass over in all, and those of the longest one.

    Whole steps of keys are counted: block j from the end sees kv - j rows positions, at most the window and its own rows.
    """
    q = np.asarray(op.query_tokens, dtype=np.float64)
    window = np.asarray(op.window, dtype=np.float64)
    padded = np.ceil(kv / KEYS) * KEYS
    limit = np.where(window == 0, np.inf, np.ceil((window + rows) / KEYS) * KEYS)
    longest = np.minimum(padded, limit)
    blocks = np.ceil(q / rows)
    if not op.causal:
        return blocks, blocks * longest, longest
    full = np.minimum(blocks, np.floor((padded - longest) / rows) + 1.0)  # of them see all that the window lets them
    rest = blocks - full
    triangle = rest * padded - rows * (blocks * (blocks - 1.0) - full * (full - 1.0)) / 2.0
    return blocks, full * longest + triangle, longest


def _many(machine: Machine, op: Attention, eight_bit: bool) -> tuple[Real, Real, Real]:
    """Start, compute time and bytes moved of many new positions in blocks of query rows."""
    c = machine.constants
    kv = np.asarray(op.kv_tokens, dtype=np.float64)
    heads = np.asarray(op.batch, dtype=np.float64) * op.heads
    width = np.asarray(op.head_dim, dtype=np.float64) + op.value_dim
    core_rate = (
        machine.rate(op.activations) * (c.attention_share * (EIGHT_BIT_SHARE if eight_bit else 1.0)) / machine.tiles_at_once
    )
    pair_s = _overlapped(2.0 * width / core_rate, SOFTMAX_OPS * machine.tiles_at_once / machine.vector_ops_per_s)
    key_s = width / _fed(machine, op, c.operand_bytes_per_cycle / (1.0 if eight_bit else 2.0))
    untuned = np.asarray(eight_bit & (np.asarray(op.head_dim) < LINE_BYTES))
    masked = np.where((np.asarray(op.window) > 0) & (np.asarray(op.window) < kv), 2.0, 1.0)  # edges of a block's keys
    fill_s = masked * c.attention_fill_s * np.where(untuned, 1.0, SMALL_FILL)
    busy: Real = np.inf
    for rows in BLOCKS:
        blocks, keys, longest = _seen(op, kv, rows)
        step_s = np.maximum(rows * pair_s, key_s)
        block_fill_s = fill_s * (rows / BLOCKS[0])
        work = heads * (keys * step_s + blocks * block_fill_s)
        block_s = np.maximum(work / machine.tiles_at_once, ALONE * longest * step_s + block_fill_s)
        if rows > BLOCKS[0]:  # queries, and sums in 32 bits, must fit beside the keys
            held = rows * (2.0 * np.asarray(op.head_dim) + 4.0 * np.asarray(op.value_dim))
            block_s = np.where(held <= machine.scratchpad_bytes, block_s, np.inf)
        busy = np.minimum(busy, block_s)
    q = np.asarray(op.query_tokens, dtype=np.float64)
    new = op.batch * q * op.kv_elements_per_token
    moved = op.unique_bytes
    if op.cached:  # new entries are written to the cache before they are read from it
        moved = moved + np.maximum(c.cache_passes - 1.0, 0.0) * new * 2.0
    if eight_bit:
        moved = moved + NARROWING_PASSES * 3.0 * (new + heads * q * op.head_dim)
    start = c.attention_start_s + (c.intake_s if op.cached else 0.0)
    start = start + np.where(untuned, NARROWING_LAUNCHES * c.launch_s, 0.0)
    return start, busy, moved


def _few(machine: Machine, op: Attention) -> tuple[Real, Real]:
    """Start, and time of the rest, of at most ``FEW`` new positions that read a cache."""
    c = machine.constants
    q = np.minimum(np.asarray(op.query_tokens, dtype=np.float64), FEW)
    kv = np.asarray(op.kv_tokens, dtype=np.float64)
    window = np.asarray(op.window, dtype=np.float64)
    reach = np.where(window == 0, kv, np.minimum(kv, window + q - 1.0))
    kv_heads = np.asarray(op.kv_heads, dtype=np.float64)
    group = op.heads / kv_heads
    units = op.batch * kv_heads
    entry = np.asarray(op.head_dim, dtype=np.float64) + (0.0 if op.shared_kv else np.asarray(op.value_dim, dtype=np.float64))
    width = np.asarray(op.head_dim, dtype=np.float64) + op.value_dim
    shared = group * q > 1.0
    narrow = (group > 1.0) & (group <= GROUP_8BIT) & (op.kv_cache.bits <= 8)
    small = narrow | (~shared & (window == 0))
    fill_s = np.where(small, SMALL_FILL, 1.0) * c.attention_fill_s
    rows = np.ceil(group * q / LEAST_ROWS) * LEAST_ROWS
    pair_s = 2.0 * width * machine.tiles_at_once / (machine.rate(op.activations) * c.attention_share)
    pair_s = pair_s + SOFTMAX_OPS * machine.tiles_at_once / machine.vector_ops_per_s
    key_s = entry / _fed(machine, op, c.cache_elements_per_cycle) + rows * pair_s
    bandwidth = c.memory_share * machine.memory_bytes_per_s
    cache_s = units * reach * entry * op.kv_cache.bytes_per_element / bandwidth
    outputs = op.batch * op.heads * q * op.value_dim
    best: Real = np.inf
    for splits in SPLITS:
        keys = np.ceil(reach / (splits * KEYS)) * KEYS
        busy = np.maximum(1.0, np.ceil(units * (splits / machine.tiles_at_once))) * (fill_s + keys * key_s)
        whole = _overlapped(busy, cache_s)
        if splits > 1:
            whole = whole + c.attention_split_s + splits * 4.0 * outputs / bandwidth
        best = np.minimum(best, whole)
    start = c.attention_start_s + np.where(group > 1.0, 0.0, c.launch_s)
    return start, best + op.batch * op.heads * q * width * 2.0 / bandwidth


def attention_cost(machine: Machine, op: Attention) -> Cost:
    """Cost of one repeat of fused attention; FormatError where the chip cannot multiply its format.

    Many new positions take no less time than ``FEW`` of them would.
    """
    c = machine.constants
    eight_bit = op.activations.bits <= 8 and machine.has(op.activations)
    bandwidth = c.memory_share * machine.memory_bytes_per_s
    few_start, few_rest = _few(machine, op)
    many = np.asarray(op.query_tokens) > FEW
    start, compute_s, dram_bytes = few_start, few_rest, np.asarray(op.unique_bytes, dtype=np.float64)
    if np.any(many):
        many_start, busy, moved = _many(machine, op, eight_bit)
        start = np.where(many, many_start, start)
        compute_s = np.where(many, busy, compute_s)
        dram_bytes = np.where(many, moved, dram_bytes)
    memory_s = dram_bytes / bandwidth
    native = machine.native(op.activations)
    macs, vector_ops = op.macs, op.vector_ops
    power_s = power_limited_s(machine, multiplied=native, macs=macs, vector_ops=vector_ops, dram_bytes=dram_bytes)
    latency_s = few_start + np.maximum(few_rest, np.where(many, 0.0, power_s))
    latency_s = np.where(many, np.maximum(latency_s, start + np.maximum(compute_s, power_s) + memory_s), latency_s)
    return Cost(
        latency_s=latency_s,
        compute_s=compute_s,
        memory_s=memory_s,
        power_s=power_s,
        overhead_s=start,
        dram_bytes=dram_bytes,
        macs=macs,
        vector_ops=vector_ops,
        multiplied=native,
    )
