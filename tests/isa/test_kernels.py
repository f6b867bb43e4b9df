"""The vector unit's meaning, vectorised, against a slow one that goes group by group and lane by lane; its slots."""

from functools import partial

import numpy as np
import pytest
from isa_drawn import core

from presilicon import float32
from presilicon.errors import IsaError
from presilicon.isa import State, Uop, actions, execute, kernel, kernel_text, sections, vector, vector_slots, vector_time
from presilicon.isa.kernel_check import check_lanes, check_registers, check_streams
from presilicon.isa.streams import element_bytes, groups_are_free, passes_are_free

SPECIAL = (0, 1 << 31, 1, 0x7F800000, 0xFFC12345)
OPS = ("add", "max", "product", "move", "select", "round", "table0", "table1", "recip", "rsqrt")


def stream_address(f: dict[str, int], lanes: int, row: int, strip: int, number: int) -> int:
    along = 0 if f["fixed"] >> number & 1 else strip * lanes * element_bytes(f, number)
    return f[f"stream{number}"] + row * f[f"pitch{number}"] + along


def slow(state: State, f: dict[str, int]) -> None:
    """A VECTOR as the specification words it: for every group, micro-operation, element and lane."""
    machine, spad = state.core, state.spad
    lanes, chunks = machine.lanes, machine.cols // machine.lanes
    uops = state.kernel(f["kernel"])
    groups = f["rows"] if f["by_strips"] else -(-f["rows"] // 8)
    registers = state.registers

    def one(u: Uop, group: int, t: int) -> None:
        before = registers.copy()
        for i in range(8):
            row, strip = (group, 8 * t + i) if f["by_strips"] else (8 * group + i, t + u.offset)
            idle = row >= f["rows"] or strip >= f["strips"]

            address = partial(stream_address, f, lanes, row, strip)
            read = np.zeros(lanes, np.uint32)
            if u.reads_stream and not idle:
                size = element_bytes(f, u.read_stream)
                raw = spad[address(u.read_stream) :][: lanes * size].copy()
                read = float32.from_int32(raw.view(np.int8).astype(np.int32)) if size == 1 else raw.view(np.uint32)
            a = before[u.a_reg, i]
            if u.a_kind in (1, 3):
                a = np.zeros(lanes, np.uint32)
                if not idle:
                    sums = state.accumulators[f["bank"], f["acc"] + row + strip // chunks * f["acc_step"]]
                    sums = sums[strip % chunks * lanes :][:lanes]
                    a = float32.from_int32(sums + (before[u.a_reg, i].view(np.int32) if u.a_kind == 3 else 0))
            if u.a_kind == 2:
                a = read
            imm = np.full(lanes, u.imm, np.uint32)
            b = (before[u.b_reg, i], imm, read, before[u.b_reg, i][np.arange(lanes) ^ (1 << u.b_xor)])[u.b_kind]
            c = (before[u.c_reg, i], imm, read, np.zeros(lanes, np.uint32))[u.c_kind]
            p = float32.multiply(a, b) ^ np.uint32(u.negate_p << 31)
            if u.negate_p:
                p = np.where((p & 0x7FFFFFFF) > 0x7F800000, np.uint32(float32.NAN | 1 << 31), p)
            signed = c ^ np.uint32(u.negate_c << 31)
            table = np.clip(float32.to_int8(p), -128, 127).astype(int) + 128
            result = {
                "add": lambda p=p, s=signed: float32.add(p, s),
                "max": lambda p=p, s=signed: float32.maximum(p, s),
                "product": lambda p=p: float32.canonical(p),
                "move": lambda a=a: a,
                "select": lambda a=a, b=b, s=signed: float32.select(a, b, s),
                "round": lambda p=p: float32.round_even(p),
                "table0": lambda t=table: state.tables[t],
                "table1": lambda t=table: state.tables[256 + t],
                "recip": lambda a=a: float32.reciprocal_seed(a),
                "rsqrt": lambda a=a: float32.reciprocal_root_seed(a),
            }[u.op]()
            if u.masked:
                hidden = strip * lanes + np.arange(lanes) >= f["valid"] + (row if f["causal"] else 0)
                result = np.where(hidden | idle, c, result)
            if u.write_en and not idle:
                count = min(max(f["columns"] - strip * lanes, 0), lanes)
                kind, at = f["formats"] >> 2 * u.write_stream & 3, address(u.write_stream)
                data = (result, float32.to_int8(result, f["zero_point"]), float32.to_int32(result))[kind][:count]
                data = np.ascontiguousarray(data).view(np.uint8)
                spad[at : at + len(data)] = data
            if u.to_en:
                registers[u.to, i] = result

    for group in range(groups):
        for part in sections(uops):
            step = (1 if f["by_strips"] else part.step) if part.step else 1
            end = -(-f["strips"] // 8) if f["by_strips"] else f["strips"]
            for t in range(0, end, step) if part.step else (0,):
                for u in part.uops:
                    if not u.once or group == 0:
                        one(u, group, t)


def random_uop(rng: np.random.Generator, known: list[int], lanes: int, streams: dict[str, tuple[int, ...]]) -> dict:
    op = OPS[rng.integers(len(OPS))]
    kinds = [int(rng.choice([0, 0, 1, 2, 3])), int(rng.choice([0, 0, 1, 2, 3])), int(rng.integers(4))]
    if not known:
        kinds = [int(rng.choice([1, 2])), int(rng.choice([1, 2])), int(rng.choice([1, 3]))]
    register = lambda: int(rng.choice(known)) if known else 0  # noqa: E731
    masked = bool(rng.integers(4) == 0)
    no_b, with_c = op in ("move", "recip", "rsqrt"), op in ("add", "max", "select") or masked
    a, b, c = kinds[0], (-1 if no_b else kinds[1]), (kinds[2] if with_c else -1)
    reads_stream = 2 in (a, b, c)
    write = bool(rng.integers(3) == 0) and bool(streams["write"])
    return {
        "op": op,
        "imm": int(rng.choice([0x3F800000, 0xBF000000, 0x40490FDB, 0x7F800000, 0x00000001, 0x7FC00000])) if 1 in (b, c) else 0,
        "a_kind": a,
        "a_reg": register() if a in (0, 3) else 0,
        "b_kind": max(b, 0),
        "b_reg": register() if b in (0, 3) else 0,
        "b_xor": int(rng.integers(lanes.bit_length() - 1)) if b == 3 else 0,
        "c_kind": max(c, 0),
        "c_reg": register() if c == 0 else 0,
        "negate_p": op not in ("move", "recip", "rsqrt", "select") and bool(rng.integers(2)),
        "negate_c": op in ("add", "max", "select") and bool(rng.integers(2)),
        "masked": masked,
        "to_en": True,
        "to": int(rng.integers(6)),
        "read_stream": int(rng.choice(streams["read"])) if reads_stream else 0,
        "write_en": write,
        "write_stream": int(rng.choice(streams["write"])) if write else 0,
    }


def random_case(rng: np.random.Generator, machine):
    """A kernel that the verifier would take, with its fields; None where the draw is not one."""
    known: list[int] = []
    in_place = rng.integers(2)
    streams = {"read": (0, 1), "write": (2, 0) if in_place else (2, 3)}
    by_strips = int(rng.integers(2))
    uops = []
    for part in range(int(rng.integers(1, 4))):
        looped, step = bool(rng.integers(2)), int(rng.integers(1, 4))
        body = []
        for _ in range(int(rng.integers(1, 4))):
            given = random_uop(rng, known, machine.lanes, streams)
            given["offset"] = 0 if by_strips else int(rng.integers(step if looped else 2))
            given["once"] = part == 0 and not looped and not body and bool(rng.integers(3) == 0)
            body.append(given)
            known = sorted({*known, given["to"]})
        if looped:
            body[0]["loop_begin"] = True
            body[-1] |= {"loop_end": True, "step": step}
        uops += [Uop(**given) for given in body]
    uops = kernel(uops)
    rows, strips = int(rng.integers(1, 20)), int(rng.integers(1, 12 if by_strips else 5))
    columns = int(rng.integers(1, strips * machine.lanes + 1))
    formats = tuple(
        str(rng.choice(["fp32", "int8"])) if i < 2 else str(rng.choice(["fp32", "int8", "int32"])) for i in range(4)
    )
    pitch = strips * machine.lanes * 4
    fixed = tuple(i for i in range(4) if rng.integers(6) == 0)
    made = vector(
        kernel=0,
        rows=rows,
        strips=strips,
        columns=columns,
        valid=int(rng.integers(columns + 3)),
        streams=tuple(int(0x2000 * i + rng.integers(9)) for i in range(4)),
        pitches=tuple(int(pitch + rng.integers(9)) if i not in fixed or i > 1 else int(rng.integers(9)) for i in range(4)),
        formats=formats,
        fixed=fixed,
        by_strips=by_strips,
        causal=int(rng.integers(2)),
        zero_point=int(rng.integers(-128, 128)),
        bank=int(rng.integers(2)),
        acc=int(rng.integers(9)),
        acc_step=rows,
    )
    fields = made.resolve()
    try:
        check_registers(uops)
        check_lanes(machine, fields, uops)
        check_streams(machine, fields, uops)
    except IsaError:
        return None
    return uops, fields


def filled(machine, rng: np.random.Generator, uops) -> State:
    state = State(machine)
    words = rng.normal(0, 30, len(state.spad) // 4).astype(np.float32).view(np.uint32)
    words[rng.integers(0, len(words), 200)] = rng.choice(np.array(SPECIAL, np.uint32), 200)
    state.spad[:] = words.view(np.uint8)
    state.accumulators[:] = rng.integers(-(1 << 20), 1 << 20, state.accumulators.shape)
    state.tables[:] = rng.normal(size=512).astype(np.float32).view(np.uint32)
    state.kernels.reshape(-1)[: 16 * len(uops)] = np.frombuffer(b"".join(u.encode() for u in uops), np.uint8)
    return state


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_random_kernels_do_the_same_vectorised_and_one_by_one(seed: int, lanes: int):
    rng = np.random.default_rng(100 * lanes + seed)
    machine = core(16, 16, lanes, accumulator_rows=512)
    seen = set()
    done = 0
    while done < 25:
        case = random_case(rng, machine)
        if case is None:
            continue
        uops, fields = case
        state = filled(machine, rng, uops)
        other = State(machine)
        for name in ("spad", "accumulators", "tables", "kernels"):
            getattr(other, name)[...] = getattr(state, name)
        execute(state, "vector", fields)
        slow(other, fields)
        assert (state.spad == other.spad).all(), (uops, fields)
        free = groups_are_free(machine, fields, uops)
        seen.add((free, free and any(p.step and passes_are_free(machine, fields, p) for p in sections(uops))))
        done += 1
    assert len(seen) > 1


def vector_case(text: str, **fields) -> tuple[State, dict[str, int]]:
    uops = kernel_text(text)
    state = filled(core(), np.random.default_rng(5), uops)
    return state, vector(kernel=0, **({"rows": 8, "strips": 1, "columns": 16} | fields)).resolve()


def test_in_place_with_another_layout_goes_group_by_group():
    """int8 results over the fp32 rows they come from: row r is written where rows below r / 4 were."""
    uops = kernel_text("loop {\nr1 = stream0 * imm(1.5)\nstream1 = r1 * imm(1)\n}")
    state = filled(core(), np.random.default_rng(1), uops)
    fields = vector(
        kernel=0, rows=24, strips=2, columns=32, streams=(0, 0), pitches=(128, 32), formats=("fp32", "int8")
    ).resolve()
    other = State(core())
    for name in ("spad", "kernels"):
        getattr(other, name)[...] = getattr(state, name)
    assert not groups_are_free(core(), fields, uops)
    execute(state, "vector", fields)
    slow(other, fields)
    assert (state.spad == other.spad).all()


def test_what_is_beyond_a_memory_has_the_hardwares_code():
    state, fields = vector_case("stream0 = acc * imm(1)", streams=(65530,), pitches=(64,))
    with pytest.raises(IsaError, match="stream 0 reaches") as caught:
        execute(state, "vector", fields)
    assert caught.value.code == 3
    state, fields = vector_case("stream0 = acc * imm(1)", pitches=(64,), acc=127)
    with pytest.raises(IsaError, match="accumulator row 134") as caught:
        execute(state, "vector", fields)
    assert caught.value.code == 4
    state, fields = vector_case("stream0 = acc * imm(1)")
    state.kernels[:] = np.frombuffer(kernel_text("r1 = r0\nr1 = r0")[0].encode(), np.uint8)
    state.written(2)
    with pytest.raises(IsaError, match="runs past") as caught:
        execute(state, "vector", fields)
    assert caught.value.code == 12


def test_slots_and_cycles():
    uops = kernel_text("r9 = stream1 once\nr1 = r9\nloop step 2 {\nr2 = stream0\nr3 = stream0 @1\n}\nstream2 = r3")
    fields = vector(kernel=0, rows=20, strips=5, columns=9).resolve()
    assert vector_slots(uops, fields) == 1 + 3 * (1 + 2 * 3 + 1)
    by_strips = vector(kernel=0, rows=2, strips=9, columns=9, by_strips=1).resolve()
    assert vector_slots(uops, by_strips) == 1 + 2 * (1 + 2 * 2 + 1)
    time = vector_time(core(), 25, 100)
    assert time.done == 100 + 2 + 8 * 25 - 1 + core().vector_drain_cycles
    assert (time.ready, time.busy) == (time.done + 1, 200)
    done = actions(core(), "vector", fields, uops)
    assert done.busy == {"vector": 8 * 25}
    assert done.reads["kernels"] == 16 * 25
    assert done.reads["scratchpad"] == 4 * 128 * (1 + 3 * 6)
