"""A slow model of the vector unit as the specification words it, and random kernels within its laws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from amaranth.utils import exact_log2

from presilicon import float32
from presilicon.isa import LAYOUT, UOP, UOPS, State, Uop, kernel, sections
from presilicon.template import GROUP, Core

# What kernels read lies below; what they write, above.
MEMORY = 1 << 13
FORMAT_BYTES = (4, 1, 4)
Fields = dict[str, int]
Write = tuple[int, int, bytes]


@dataclass
class Model:
    """Section 8 of the specification, slot by slot; reads memory, tables and registers of ``state`` and writes registers."""

    state: State

    def run(self, fields: Fields, uops: tuple[Uop, ...]) -> list[Write]:
        """The writes: element (8 a slot), address, bytes."""
        writes, slots = [], 0
        for group in range(fields["rows"] if fields["by_strips"] else -(-fields["rows"] // GROUP)):
            for uop, strip in self._order(fields, uops, group):
                writes += self._slot(fields, uop, group, strip, slots)
                slots += 1
        return writes

    def _order(self, fields: Fields, uops: tuple[Uop, ...], group: int) -> Iterator[tuple[Uop, int]]:
        for section in sections(uops):
            step = GROUP if fields["by_strips"] else section.step
            for strip in range(0, fields["strips"], step) if section.step else [0]:
                for uop in section.uops:
                    if not (uop.once and group):
                        yield uop, strip + uop.offset

    def _slot(self, fields: Fields, uop: Uop, group: int, first_strip: int, slot: int) -> Iterator[Write]:
        state, core = self.state, self.state.core
        lanes = core.lanes
        i = np.arange(GROUP)
        row = np.full(GROUP, group) if fields["by_strips"] else GROUP * group + i
        strip = first_strip + i if fields["by_strips"] else np.full(GROUP, first_strip)
        idle = (row >= fields["rows"]) | (strip >= fields["strips"])
        column = strip[:, None] * lanes + np.arange(lanes)

        def address(stream: int) -> tuple[int, np.ndarray]:
            size = FORMAT_BYTES[fields["formats"] >> 2 * stream & 3]
            along = 0 if fields["fixed"] >> stream & 1 else strip * lanes * size
            return size, fields[f"stream{stream}"] + row * fields[f"pitch{stream}"] + along

        size, start = address(uop.read_stream)
        raw = state.spad[np.where(idle, 0, start)[:, None] + np.arange(lanes * size)]
        stream = float32.from_int32(raw.view(np.int8).astype(np.int32)) if size == 1 else raw.view(np.uint32)
        acc_row = fields["acc"] + row + strip // core.chunks * fields["acc_step"]
        bank = state.accumulators[fields["bank"]].reshape(core.accumulator_rows, core.chunks, lanes)
        acc = bank[np.where(idle, 0, acc_row), strip % core.chunks]
        own = state.registers[uop.a_reg]
        stream, acc, total = (np.where(idle[:, None], 0, x).astype(x.dtype) for x in (stream, acc, acc + own.view(np.int32)))
        imm = np.full((GROUP, lanes), uop.imm, np.uint32)
        exchanged = state.registers[uop.b_reg][:, np.arange(lanes) ^ (1 << uop.b_xor)] if uop.b_kind == 3 else imm
        a = (own, float32.from_int32(acc), stream, float32.from_int32(total))[uop.a_kind]
        b = (state.registers[uop.b_reg], imm, stream, exchanged)[uop.b_kind]
        c = (state.registers[uop.c_reg], imm, stream, np.zeros_like(imm))[uop.c_kind]
        p = float32.multiply(a, b)
        p = np.where(p == float32.NAN, p, float32.negate(p)) if uop.negate_p else p
        negated = float32.negate(c) if uop.negate_c else c
        index = float32.to_int8(p).astype(np.int32) + 128
        result = {
            "add": lambda: float32.add(p, negated),
            "max": lambda: float32.maximum(p, negated),
            "product": lambda: p,
            "move": lambda: a,
            "select": lambda: float32.select(a, b, negated),
            "round": lambda: float32.round_even(p),
            "table0": lambda: state.tables[index],
            "table1": lambda: state.tables[256 + index],
            "recip": lambda: float32.reciprocal_seed(a),
            "rsqrt": lambda: float32.reciprocal_root_seed(a),
        }[uop.op]()
        if uop.masked:
            valid = fields["valid"] + (row if fields["causal"] else 0 * row)
            result = np.where((column >= valid[:, None]) | idle[:, None], c, result)
        if uop.to_en:
            state.registers[uop.to] = result
        if not uop.write_en:
            return
        size, start = address(uop.write_stream)
        kind = fields["formats"] >> 2 * uop.write_stream & 3
        values = (result, float32.to_int8(result, fields["zero_point"]), float32.to_int32(result))[kind]
        for e in range(GROUP):
            count = min(max(fields["columns"] - int(strip[e]) * lanes, 0), lanes)
            if count and not idle[e]:
                yield slot * GROUP + e, int(start[e]), values[e, :count].tobytes()


def random_uop(rng: np.random.Generator, core: Core, **flags: int) -> Uop:
    """A micro-operation; streams 0 and 1 are read, 2 and 3 written; what does not count is zero."""
    numbers = {f.name: int(rng.integers(0, 1 << f.bits)) for f in UOP}
    op = str(rng.choice(["add", *UOPS]))
    f = {name: numbers[name] for name in ("a_kind", "a_reg", "b_kind", "b_reg", "c_kind", "c_reg", "to")}
    f |= {"b_xor": int(rng.integers(0, exact_log2(core.lanes)))}
    f |= {
        "imm": int(float32.bits(rng.choice([0.5, -3.0, 1e-3, 100.0, rng.normal()]))) if rng.random() < 0.9 else numbers["imm"]
    }
    f |= {"read_stream": int(rng.integers(0, 2)), "write_stream": int(rng.integers(2, 4))}
    for flag, share in (("negate_p", 0.2), ("negate_c", 0.3), ("masked", 0.3), ("write_en", 0.4), ("to_en", 0.8)):
        f[flag] = int(rng.random() < share)
    takes_b, takes_c = op not in ("move", "recip", "rsqrt"), op in ("add", "max", "select") or f["masked"]
    counts = {
        "a_reg": f["a_kind"] in (0, 3),
        "b_kind": takes_b,
        "b_reg": takes_b and f["b_kind"] in (0, 3),
        "b_xor": takes_b and f["b_kind"] == 3,
        "c_kind": takes_c,
        "c_reg": takes_c and f["c_kind"] == 0,
        "imm": (takes_b and f["b_kind"] == 1) or (takes_c and f["c_kind"] == 1),
        "read_stream": f["a_kind"] == 2 or (takes_b and f["b_kind"] == 2) or (takes_c and f["c_kind"] == 2),
        "negate_p": takes_b and op != "select",
        "negate_c": op in ("add", "max", "select"),
        "to": f["to_en"],
        "write_stream": f["write_en"],
    }
    return Uop(op=op, **{name: value if counts.get(name, True) else 0 for name, value in f.items()}, **flags)


def random_kernel(rng: np.random.Generator, core: Core, by_strips: int) -> tuple[Uop, ...]:
    def some(low: int, high: int, **flags: int) -> list[Uop]:
        offsets = rng.choice([0, 0, 0, 1, 2, 7], 8) * (not by_strips)
        return [random_uop(rng, core, offset=int(offsets[i]), **flags) for i in range(rng.integers(low, high))]

    once = some(0, 4, once=1)
    uops = [*once]
    for _ in range(rng.integers(1, 4)):
        body = some(1, 5)
        body[0] = replace(body[0], loop_begin=True)
        body[-1] = replace(body[-1], loop_end=True, step=int(rng.integers(1, 9)))
        uops += some(0, 3) + body
    uops += some(0, 3)
    return kernel(written_first(rng, once if once and rng.random() < 0.1 else uops))


def written_first(rng: np.random.Generator, uops: list[Uop]) -> list[Uop]:
    """``uops`` with registers replaced so that each is written before it is read; the first one loads one from memory."""
    first = uops[0]
    marks = {name: getattr(first, name) for name in ("offset", "once", "loop_begin", "loop_end", "step")}
    made = [Uop(op="move", a_kind=2, to_en=True, to=first.to, **marks)]
    for u in uops[1:]:
        known = [m.to for m in made if m.to_en]
        registers = {n: int(rng.choice(known)) for n in ("a_reg", "b_reg", "c_reg")}
        used = {"a_reg": u.a_kind in (0, 3), "b_reg": u.b in ("register", "exchange"), "c_reg": u.c == "register"}
        made.append(replace(u, **{name: registers[name] for name, count in used.items() if count}))
    return made


def random_fields(rng: np.random.Generator, core: Core, by_strips: int) -> Fields:
    rows, strips = int(rng.integers(1, 20)), int(rng.integers(1, 12))
    columns = strips * core.lanes
    fields = {f.name: 0 for f in LAYOUT["vector"]}
    for stream in range(4):
        fields[f"stream{stream}"] = int(rng.integers(0, 600)) + (stream >= 2) * (MEMORY + int(rng.integers(0, 1 << 14)))
        fields[f"pitch{stream}"] = int(rng.integers(0, 300))
        fields["formats"] |= int(rng.integers(0, 2 if stream < 2 else 3)) << 2 * stream
    return fields | {
        "rows": rows,
        "strips": strips,
        "columns": int(rng.integers(max(columns - 2 * core.lanes, 1), columns + 1)),
        "valid": int(rng.integers(0, columns + 2)),
        "fixed": int(rng.integers(0, 16)) & int(rng.integers(0, 16)),
        "by_strips": by_strips,
        "causal": int(rng.random() < 0.5),
        "zero_point": int(rng.integers(-128, 128)),
        "bank": int(rng.integers(0, 2)),
        "acc": int(rng.integers(0, 40)),
        "acc_step": int(rng.integers(0, 16)),
    }
