"""LOAD and STORE: meaning and bursts against a slow model that goes row by row and byte by byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_drawn import CORES, core

from presilicon import float32
from presilicon.errors import IsaError
from presilicon.isa import State, actions, execute, load, load_entries, store, store_bursts

DRAM = 1 << 15


def rows(f, indices):
    """(i1, DRAM address) of every row, n1 innermost."""
    for i3 in range(f["n3"]):
        for i2 in range(f["n2"]):
            for i1 in range(f["n1"]):
                if f.get("gather"):
                    yield i1, f["dram"] + int(indices[f["index0"] + i1]) * f["stride1"]
                else:
                    yield i1, f["dram"] + i1 * f["stride1"] + i2 * f["stride2"] + i3 * f["stride3"]


def outside(f, i1) -> bool:
    return f["limit"] > 0 and not 0 <= f["y0"] + i1 < f["limit"]


@st.composite
def moves(draw, op):
    """Fields of a move within a small DRAM and scratchpad; strides may be negative or overlap."""
    n1, n2, n3 = draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    strides = [draw(st.integers(-300, 300)) for _ in range(3)]
    reach = sum(abs(s) * (n - 1) for s, n in zip(strides, (n1, n2, n3), strict=True))
    given = {
        "dram": draw(st.sampled_from((0, 4096, 10000))) + reach + draw(st.integers(0, 70)),
        "spad": draw(st.integers(0, 40)),
        "run": draw(st.one_of(st.integers(1, 40), st.integers(4000, 4200))),
        "pitch": draw(st.integers(0, 300)),
        "n1": n1,
        "n2": n2,
        "n3": n3,
        **{f"stride{i + 1}": s for i, s in enumerate(strides)},
    }
    if op == "store":
        return store(**given).resolve()
    given |= {"left": draw(st.integers(0, 40)), "right": draw(st.integers(0, 40)), "fill": draw(st.integers(0, 255))}
    if draw(st.booleans()):
        given |= {"limit": draw(st.integers(1, 9)), "y0": draw(st.integers(-9, 9))}
    if draw(st.integers(0, 3)) == 0:
        given |= {"gather": 1, "n2": 1, "n3": 1, "index0": draw(st.integers(0, 200)), "dram": 0, "stride1": abs(strides[0])}
    return load(**given).resolve()


def filled(machine) -> State:
    rng = np.random.default_rng(0)
    state = State(machine, rng.integers(0, 256, DRAM, dtype=np.uint8))
    state.spad[:] = rng.integers(0, 256, len(state.spad), dtype=np.uint8)
    state.indices[:] = rng.integers(0, 9, len(state.indices))
    return state


@settings(max_examples=150, deadline=None)
@given(moves("load"))
def test_a_load_does_what_its_rows_say(f):
    state = filled(core())
    expected = state.spad.copy()
    width = f["left"] + f["run"] + f["right"]
    for q, (i1, address) in enumerate(rows(f, state.indices)):
        line = np.full(width, f["fill"], np.uint8)
        if not outside(f, i1):
            line[f["left"] : f["left"] + f["run"]] = state.dram[address : address + f["run"]]
        expected[f["spad"] + q * f["pitch"] :][:width] = line
    execute(state, "load", f)
    assert (state.spad == expected).all()


@settings(max_examples=100, deadline=None)
@given(moves("store"))
def test_a_store_does_what_its_rows_say(f):
    state = filled(core())
    expected = state.dram.copy()
    for q, (_, address) in enumerate(rows(f, None)):
        expected[address : address + f["run"]] = state.spad[f["spad"] + q * f["pitch"] :][: f["run"]]
    execute(state, "store", f)
    assert (state.dram == expected).all()


def bursts(machine, address: int, run: int):
    """Aligned bursts of a row that never cross 4 KB: (address, beats, bytes)."""
    bus, end = machine.bus_bytes, address + run
    while address < end:
        stop = min(end, (address // 4096 + 1) * 4096)
        start = address // bus * bus
        yield start, -(-(stop - start) // bus), stop - address
        address = stop


@settings(max_examples=150, deadline=None)
@given(moves("load"), st.sampled_from(CORES))
def test_entries_are_fills_and_bursts_in_order(f, machine):
    indices = filled(machine).indices
    expected = []

    def fill(size: int) -> None:
        if size:
            expected.append((True, 0, -(-size // machine.bus_bytes), size))

    for i1, address in rows(f, indices):
        if outside(f, i1):
            fill(f["left"] + f["run"] + f["right"])
            continue
        fill(f["left"])
        expected += [(False, *burst) for burst in bursts(machine, address, f["run"])]
        fill(f["right"])
    got = load_entries(machine, f, indices)
    assert list(zip(*(a.tolist() for a in (got.fill, got.address, got.beats, got.bytes)), strict=True)) == expected
    moved = actions(machine, "load", f, entries=got)
    assert moved.reads["dram"] == machine.bus_bytes * sum(beats for is_fill, _, beats, _ in expected if not is_fill)


@settings(max_examples=100, deadline=None)
@given(moves("store"), st.sampled_from(CORES))
def test_bursts_of_a_store_follow_its_rows(f, machine):
    expected = [burst for _, address in rows(f, None) for burst in bursts(machine, address, f["run"])]
    got = store_bursts(machine, f)
    assert not got.fill.any()
    assert list(zip(got.address.tolist(), got.beats.tolist(), got.bytes.tolist(), strict=True)) == expected


def test_other_targets():
    state = filled(core())
    state.dram[:2048].view(np.uint32)[:] = np.arange(512) * 4099 + 0x7F7FFFF0
    execute(state, "load", load(dram=0, spad=0, run=2048, target="tables").resolve())
    assert (state.tables == float32.canonical(state.dram[:2048].view(np.uint32))).all()
    execute(state, "load", load(dram=4096, spad=64, run=64, target="indices").resolve())
    assert (state.indices[16:32] == state.dram[4096:4160].view(np.uint32)).all()
    execute(state, "load", load(dram=4096, spad=128, run=128, target="instructions").resolve())
    assert (state.instructions[2:4].reshape(-1) == state.dram[4096:4224]).all()
    execute(state, "load", load(dram=4096, spad=128, run=128, target="kernels").resolve())
    assert (state.kernels[8:16].reshape(-1) == state.dram[4096:4224]).all()


REFUSED = {
    ("bytes 0xfff0 to 0x1000f of the scratchpad", 3): lambda: ("load", load(dram=0, spad=65520, run=32)),
    ("of the DRAM", 9): lambda: ("load", load(dram=DRAM - 16, spad=0, run=17)),
    ("bytes -0x10 to", 9): lambda: ("load", load(dram=0, spad=0, run=1, n1=2, stride1=-16)),
    ("of the DRAM ", 10): lambda: ("store", store(dram=DRAM - 16, spad=0, run=17)),
    ("of the scratchpad", 3): lambda: ("store", store(dram=0, spad=65535, run=2)),
    ("of the tables", 3): lambda: ("load", load(dram=0, spad=2048, run=16, target="tables")),
    ("index 256 is past", 14): lambda: ("load", load(dram=0, spad=0, run=16, n1=2, gather=1, index0=255)),
    ("aligned to the bus", 13): lambda: ("load", load(dram=8, spad=0, run=16, target="indices")),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c[0])
def test_what_reaches_too_far_has_the_hardwares_code(case):
    message, code = case
    op, one = REFUSED[case]()
    with pytest.raises(IsaError) as caught:
        execute(filled(core()), op, one.resolve())
    assert message.strip() in str(caught.value)
    assert caught.value.code == code


def test_without_values_only_what_steers_the_machine_is_kept():
    state = State(core(), filled(core()).dram, values=False)
    execute(state, "load", load(dram=0, spad=0, run=64).resolve())
    execute(state, "load", load(dram=0, spad=0, run=64, target="kernels").resolve())
    assert len(state.spad) == 0
    assert state.kernels[:4].tobytes() == state.dram[:64].tobytes()
