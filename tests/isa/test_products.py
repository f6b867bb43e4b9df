"""MATMUL: meaning against sums written out, cycles against the recurrence of the specification."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_drawn import CORES, core

from presilicon.errors import IsaError
from presilicon.isa import State, actions, execute, matmul, matmul_time
from presilicon.isa.footprint import accesses, footprint, merged
from presilicon.isa.products import fetch_cycles, product


@st.composite
def products(draw, machine):
    """A MATMUL with its state; strides may be anything that stays in the scratchpad."""
    weights = draw(st.integers(0, 3))
    return matmul(
        x=0x4000 + draw(st.integers(0, 70)),
        w=draw(st.integers(0, 70)),
        groups=0x3800 + draw(st.integers(0, 9)),
        acc=draw(st.integers(0, 20)),
        m0=draw(st.integers(1, 6)),
        m1=draw(st.integers(1, 3)),
        kb=draw(st.integers(1, 3)),
        k1=draw(st.integers(1, 2)),
        tail=draw(st.integers(1, machine.rows)),
        x_stride0=draw(st.integers(-90, 90)),
        x_stride1=draw(st.integers(-200, 200)),
        k_stride1=draw(st.integers(-150, 150)),
        bank=draw(st.integers(0, 1)),
        accumulate=draw(st.integers(0, 1)),
        weights=weights,
        w_pitch=draw(st.integers(0, 120)),
        group_blocks=draw(st.integers(1, 3)),
    ).resolve()


def filled(machine) -> State:
    rng = np.random.default_rng(3)
    state = State(machine)
    state.spad[:] = rng.integers(0, 256, len(state.spad), dtype=np.uint8)
    state.accumulators[:] = rng.integers(-(1 << 31), 1 << 31, state.accumulators.shape)
    return state


def stationary(machine, spad, f, block: int, row: int) -> np.ndarray:
    """Row ``row`` of tile ``block`` as the specification places it."""
    signed, cols = spad.view(np.int8), machine.cols
    tile = machine.weight_words * machine.weight_rows_per_cycle * cols
    if f["weights"] == 0:
        return signed[f["w"] + block * tile + row * cols :][:cols].astype(int)
    if f["weights"] == 2:
        return signed[f["w"] + (block * machine.rows + row) * f["w_pitch"] :][:cols].astype(int)
    if f["weights"] == 3:
        return np.array([signed[f["w"] + block * machine.rows + c * f["w_pitch"] + row] for c in range(cols)], int)
    pairs = spad[f["w"] + block * tile // 2 + row * cols // 2 :][: cols // 2].astype(int)
    factors = spad[f["groups"] + block // f["group_blocks"] * cols // 2 :][: cols // 2].astype(int)
    nibbles = np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)
    return np.where(nibbles > 7, nibbles - 16, nibbles) * np.stack([factors & 15, factors >> 4], 1).reshape(-1)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(CORES))
def test_a_matmul_is_its_sums(data, machine):
    f = data.draw(products(machine))
    state = filled(machine)
    spad, expected = state.spad.copy(), state.accumulators.copy()
    signed = spad.view(np.int8)
    for i1 in range(f["m1"]):
        for i0 in range(f["m0"]):
            to = expected[f["bank"], f["acc"] + i1 * f["m0"] + i0]
            total = to.astype(int) if f["accumulate"] else np.zeros(machine.cols, int)
            for j1 in range(f["k1"]):
                for jb in range(f["kb"]):
                    at = f["x"] + i0 * f["x_stride0"] + i1 * f["x_stride1"] + j1 * f["k_stride1"] + jb * machine.rows
                    for r in range(f["tail"] if jb == f["kb"] - 1 else machine.rows):
                        total += int(signed[at + r]) * stationary(machine, spad, f, j1 * f["kb"] + jb, r)
            to[:] = (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    execute(state, "matmul", f)
    assert (state.accumulators == expected).all()


def test_products_are_exact_at_their_largest():
    x, w = np.full((2, 5000), -128, np.int8), np.full((5000, 3), -128, np.int8)
    assert (product(x, w) == 5000 << 14).all()
    w[::2] = 127
    assert (product(x, w) == x.astype(np.int64) @ w.astype(np.int64)).all()


@settings(deadline=None)
@given(
    st.sampled_from(CORES),
    st.lists(st.tuples(*(st.integers(1, 9) for _ in range(4)), st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=4),
)
def test_cycles_are_those_of_the_recurrence(machine, row):
    free = ready = end = 0
    for m0, m1, kb, k1, weights, wait in row:
        f = matmul(x=0, w=0, m0=m0, m1=m1, kb=kb, k1=k1, tail=1, x_stride0=1, weights=weights, group_blocks=2).resolve()
        issue = ready + wait
        fetch = {2: machine.rows, 3: machine.cols}.get(weights, -(-machine.rows // machine.weight_rows_per_cycle))
        assert fetch_cycles(machine, f) == fetch
        start, block = issue + 1, max(m0 * m1, machine.accumulate_cycles)
        for number in range(kb * k1):
            fetched = start + fetch + (weights == 1 and number % 2 == 0)
            begin = max(fetched, end)
            start, end = max(fetched, begin), begin + block
        time = matmul_time(machine, f, issue, free)
        assert (time.ready, time.done, time.free) == (begin + 1, begin + block - 1 + machine.matmul_drain_cycles, end)
        assert time.busy == m0 * m1 * kb * k1
        free, ready = time.free, time.ready


def test_a_long_product_is_counted_at_once_and_its_actions_too():
    f = matmul(x=0, w=0, m0=512, kb=32, tail=16, x_stride0=512).resolve()
    time = matmul_time(core(), f, 0, 0)
    assert time.busy / (time.done - time.ready + 512 * 32) > 0.95
    done = actions(core(), "matmul", f)
    assert done.macs == 512 * 512 * 16
    assert done.reads["scratchpad"] == 512 * 512 + 512 * 16
    assert done.writes["accumulator"] == 512 * 16 * 4 * 32


def test_what_reaches_too_far_has_the_hardwares_code():
    for f, message, code in (
        (matmul(x=65530, w=0, m0=1, tail=16, x_stride0=0), "reads x at 0xfffa", 3),
        (matmul(x=0, w=65536 - 255, m0=1, tail=1, x_stride0=0), "reads w", 3),
        (matmul(x=0, w=0, groups=65535, m0=1, tail=1, x_stride0=0, weights="int4"), "reads groups", 3),
        (matmul(x=0, w=0, m0=3, acc=126, tail=1, x_stride0=0), "rows 126 to 128", 4),
    ):
        with pytest.raises(IsaError, match=message) as caught:
            execute(State(core()), "matmul", f.resolve())
        assert caught.value.code == code


def test_large_products_are_quick():
    machine = core(scratchpad_bytes=1 << 20, accumulator_rows=512)
    state = filled(machine)
    f = matmul(x=0, w=0x80000, m0=512, kb=32, tail=16, x_stride0=512).resolve()
    execute(state, "matmul", f)
    begin = time.perf_counter()
    for _ in range(8):
        execute(state, "matmul", f)
    # 512 x 512 x 512 is 32 of these: 0.3 s where nothing else runs, here with room for a busy machine.
    assert time.perf_counter() - begin < 8 * 0.3 / 32 * 10


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-40, 40)), max_size=3).map(tuple), st.integers(1, 30))
def test_merged_runs_are_the_units_of_the_nest(nest, run):
    points = {0}
    for count, stride in nest:
        points = {p + i * stride for p in points for i in range(count)}
    units = {p + i for p in points for i in range(run)}
    runs = merged(nest, run)
    assert {u for low, high in runs for u in range(low, high)} == units
    assert all(a[1] < b[0] for a, b in pairwise(runs))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(CORES))
def test_boxes_cover_the_accesses(data, machine):
    f = data.draw(products(machine))
    reads, writes = footprint(machine, "matmul", f)
    for box, access in zip([*reads, *writes], sorted(accesses(machine, "matmul", f), key=lambda a: a.write), strict=True):
        covered = {box.start + i * box.pitch + j for i in range(box.rows) for j in range(box.run)}
        assert {access.start + u for low, high in access.runs() for u in range(low, high)} <= covered
