"""MATMUL: what it leaves in the accumulators, when its blocks are multiplied, what it reads.

Block T = j1 kb + jb (j1 < k1, jb < kb) multiplies array_rows bytes of every moving row by a stationary tile of array_rows x
array_cols; moving row i = i1 m0 + i0 begins at ``x + i0 x_stride0 + i1 x_stride1 + j1 k_stride1 + jb array_rows``. Of the
last of the kb blocks ``tail`` bytes count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from presilicon.errors import IsaError
from presilicon.isa.instruction import check_fields
from presilicon.isa.layout import WEIGHTS
from presilicon.isa.state import State
from presilicon.template import Core
from presilicon.trace import Activity

Fields = Mapping[str, int]

# |x w| <= 2^14, so sums of this many products are whole numbers up to 2^24: exact in fp32.
_EXACT_K = 1024
PACKED, INT4, STRIDED, TRANSPOSED = range(len(WEIGHTS))


def _view(state: State, start: int, shape: tuple[int, ...], strides: tuple[int, ...], what: str) -> NDArray[np.uint8]:
    reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    low, high = start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + 1
    if low < 0 or high > len(state.spad):
        raise IsaError(
            f"matmul reads {what} at {low:#x} to {high - 1:#x}", hint=f"{len(state.spad)} bytes of scratchpad", code=3
        )
    return as_strided(state.spad[start:], shape, strides, writeable=False)


def tile_bytes(core: Core) -> int:
    """Bytes of one packed int8 tile, its padding rows included; int4: half of it."""
    return core.weight_words * core.weight_rows_per_cycle * core.cols


def moving(state: State, fields: Fields) -> NDArray[np.int8]:
    """The moving operand, int8 [m0 m1, k1 kb array_rows], zero beyond the tails."""
    rows, kb, tail = state.core.rows, fields["kb"], fields["tail"]
    shape = fields["m1"], fields["m0"], fields["k1"], (kb - 1) * rows + tail
    strides = fields["x_stride1"], fields["x_stride0"], fields["k_stride1"], 1
    x = _view(state, fields["x"], shape, strides, "x").view(np.int8)
    if tail < rows:
        whole = np.zeros((*shape[:3], kb * rows), np.int8)
        whole[..., : shape[3]] = x
        x = whole
    return x.reshape(shape[0] * shape[1], -1)


def stationary(state: State, fields: Fields) -> NDArray[np.int8]:
    """The stationary operand, int8 [k1 kb array_rows, array_cols], int4 weights multiplied by their groups' multipliers."""
    core, mode, w = state.core, fields["weights"], fields["w"]
    rows, cols, blocks = core.rows, core.cols, fields["k1"] * fields["kb"]
    if mode == PACKED:
        tiles = _view(state, w, (blocks, rows, cols), (tile_bytes(core), cols, 1), "w")
        return tiles.view(np.int8).reshape(-1, cols)
    if mode == STRIDED:
        return _view(state, w, (blocks * rows, cols), (fields["w_pitch"], 1), "w").view(np.int8)
    if mode == TRANSPOSED:
        return _view(state, w, (cols, blocks * rows), (fields["w_pitch"], 1), "w").view(np.int8).T
    pairs = _view(state, w, (blocks, rows, cols // 2), (tile_bytes(core) // 2, cols // 2, 1), "w")
    weights = np.empty((blocks, rows, cols), np.int8)
    weights[..., 0::2] = (pairs << 4).view(np.int8) >> 4
    weights[..., 1::2] = pairs.view(np.int8) >> 4
    groups = -(-blocks // fields["group_blocks"])
    pairs = _view(state, fields["groups"], (groups, cols // 2), (cols // 2, 1), "groups")
    factors = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(groups, 1, cols).view(np.int8)
    weights *= np.repeat(factors, fields["group_blocks"], axis=0)[:blocks]
    return weights.reshape(-1, cols)


def product(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """``x @ w`` of int8 matrices, wrapped to int32, exactly."""
    total = np.zeros((x.shape[0], w.shape[1]), np.int32)
    for k in range(0, x.shape[1], _EXACT_K):
        part = x[:, k : k + _EXACT_K].astype(np.float32) @ w[k : k + _EXACT_K].astype(np.float32)
        total += part.astype(np.int32)
    return total


def execute_matmul(state: State, fields: Fields) -> None:
    """Everything a MATMUL does to ``state``; IsaError with the hardware's code where it cannot."""
    check_fields(state.core, "matmul", fields)
    if not state.values:
        return
    first, count = fields["acc"], fields["m0"] * fields["m1"]
    if first + count > state.core.accumulator_rows:
        raise IsaError(
            f"matmul writes accumulator rows {first} to {first + count - 1}",
            hint=f"a bank has {state.core.accumulator_rows}",
            code=4,
        )
    sums = product(moving(state, fields), stationary(state, fields))
    to = state.accumulators[fields["bank"], first : first + count]
    if fields["accumulate"]:
        to += sums
    else:
        to[...] = sums


def sums_are_written(core: Core, before: Fields, fields: Fields) -> bool:
    """Whether a MATMUL that comes at once behind another finds the sums it reads: rows of both must be far enough apart."""
    block = max(before["m0"] * before["m1"], core.accumulate_cycles)
    return block + before["acc"] - fields["acc"] >= core.accumulate_cycles


@dataclass(frozen=True, slots=True)
class MatmulTime:
    """When a MATMUL takes the next, when it is done, the end of its last block (for the next), cycles the array multiplies."""

    ready: int
    done: int
    free: int
    busy: int


def fetch_cycles(core: Core, fields: Fields) -> int:
    """Cycles in which one stationary tile is read, without an int4 group's multipliers."""
    mode = fields["weights"]
    return core.rows if mode == STRIDED else core.cols if mode == TRANSPOSED else core.weight_words


def matmul_time(core: Core, fields: Fields, issue: int, free: int) -> MatmulTime:
    """Cycles of a MATMUL issued in ``issue``; ``free`` is the end of the last block of the one before (at first 0).

    The fetch of block b + 1 begins with the rows of block b: ls_{b+1} = max(ls_b + F_b, cs_b) = cs_b, since cs_b = max(ls_b +
    F_b, the block before's end). So cs_{b+1} = cs_b + max(F_{b+1}, max(m, accumulate_cycles)): a sum, not a recurrence.
    """
    rows = fields["m0"] * fields["m1"]
    blocks = fields["k1"] * fields["kb"]
    block = max(rows, core.accumulate_cycles)
    fetch = fetch_cycles(core, fields)
    multipliers = int(fields["weights"] == INT4)
    first = max(issue + 1 + fetch + multipliers, free)
    later = blocks - 1
    with_multipliers = multipliers * (later // fields["group_blocks"])
    last = first + (later - with_multipliers) * max(fetch, block) + with_multipliers * max(fetch + 1, block)
    return MatmulTime(last + 1, last + block - 1 + core.matmul_drain_cycles, last + block, rows * blocks)


def matmul_actions(core: Core, fields: Fields) -> Activity:
    """What a MATMUL multiplies, reads and writes."""
    rows, blocks = fields["m0"] * fields["m1"], fields["k1"] * fields["kb"]
    depth = fields["k1"] * ((fields["kb"] - 1) * core.rows + fields["tail"])
    mode = fields["weights"]
    weights = blocks * {PACKED: tile_bytes(core), INT4: tile_bytes(core) // 2}.get(mode, core.rows * core.cols)
    if mode == INT4:
        weights += -(-blocks // fields["group_blocks"]) * core.cols // 2
    sums = rows * core.cols * 4
    return Activity(
        busy={"matmul": rows * blocks},
        macs=rows * depth * core.cols,
        reads={"scratchpad": rows * blocks * core.rows + weights, "accumulator": sums * (blocks - 1 + fields["accumulate"])},
        writes={"accumulator": sums * blocks},
    )
