"""Cores, instructions, micro-operations and programs, drawn by hypothesis."""

from dataclasses import replace

from hypothesis import strategies as st

from presilicon.isa import ALU, LAYOUT, Instruction, Kernel, Program, Region, Segment, Uop, kernel
from presilicon.isa.instruction import CHOICES
from presilicon.isa.layout import UOP, UOPS
from presilicon.isa.uop import NO_B, RAW, WITH_C
from presilicon.template import ENGINES, Core


def core(rows=16, cols=16, lanes=16, **sizes) -> Core:
    """A small core of the template."""
    given = {
        "rows": rows,
        "cols": cols,
        "lanes": lanes,
        "bus_bytes": 16,
        "weight_rows_per_cycle": max(1, 16 // cols),
        "scratchpad_bytes": 1 << 16,
        "scratchpad_banks": 8,
        "accumulator_rows": 128,
    }
    return Core(**(given | sizes))


CORES = (
    core(),
    core(4, 4, 4),
    core(8, 8, 8, bus_bytes=32, weight_rows_per_cycle=4),
    core(16, 32, 8, bus_bytes=64, weight_rows_per_cycle=2),
    core(32, 16, 16, weight_rows_per_cycle=5),
)
ENGINE_SETS = st.frozensets(st.sampled_from(ENGINES))


@st.composite
def instructions(draw, ops=tuple(LAYOUT)) -> Instruction:
    """A legal instruction."""
    op = draw(st.sampled_from(ops))
    values, registers = [], []
    for f in LAYOUT[op]:
        low, high = f.low, f.high
        if (op, f.name) in CHOICES:
            high = len(CHOICES[op, f.name]) - 1
        edge = st.sampled_from((low, high, min(max(low, 1), high), high // 2))
        values.append(draw(st.one_of(edge, st.integers(low, high))))
        if f.register_at >= 0:
            registers.append(draw(st.sampled_from((0, 0, 1, 15))))
    waits = op in ("load", "store", "matmul", "vector", "sync")
    wait, signal = (draw(ENGINE_SETS) if waits else frozenset() for _ in range(2))
    named = dict(zip((f.name for f in LAYOUT[op]), range(len(values)), strict=True))
    for name in ("n1", "n2", "n3", "run", "m0", "m1", "kb", "k1", "tail", "group_blocks", "rows", "strips", "length", "to"):
        if name in named:
            values[named[name]] = max(values[named[name]], 1)
    if op == "load":
        if values[named["gather"]]:
            values[named["n2"]] = values[named["n3"]] = 1
            registers[named["n2"]] = 0
        if values[named["target"]]:
            values[named["left"]] = values[named["right"]] = values[named["limit"]] = 0
    if op == "set":
        values[named["op"]] %= len(ALU)
    return Instruction(op, tuple(values), tuple(registers), wait, signal)


@st.composite
def uops(draw, streams: bool = True) -> Uop:
    """A legal micro-operation, outside of loops."""
    op = draw(st.sampled_from(tuple(UOPS)))
    fields = {f.name: draw(st.integers(0, f.high)) for f in UOP}
    fields |= {"op": op, "loop_begin": 0, "loop_end": 0, "step": 0, "last": 0, "once": 0}
    fields["masked"] = masked = fields["masked"] and 1
    b = "" if op in NO_B else fields["b_kind"]
    c = fields["c_kind"] if op in WITH_C or masked else ""
    kinds = fields["a_kind"], b, c
    idle = {
        "a_reg": kinds[0] not in (0, 3),
        "b_kind": b == "",
        "b_reg": b not in (0, 3),
        "b_xor": b != 3,
        "c_kind": c == "",
        "c_reg": c != 0,
        "imm": 1 not in (b, c),
        "read_stream": 2 not in kinds,
        "negate_p": op in RAW,
        "negate_c": op not in WITH_C,
        "to": not fields["to_en"],
        "write_stream": not fields["write_en"],
    }
    fields |= {name: 0 for name, unused in idle.items() if unused}
    if fields["b_xor"] > 4:
        fields["b_xor"] -= 4
    flags = {f.name for f in UOP if f.bits == 1}
    return Uop(**{name: bool(value) if name in flags else value for name, value in fields.items()})


@st.composite
def kernels(draw) -> tuple[Uop, ...]:
    """A kernel: micro-operations for the first group, then some with loops."""
    found = [replace(u, once=True) for u in draw(st.lists(uops(), max_size=2))]
    for _ in range(draw(st.integers(0 if found else 1, 3))):
        body = draw(st.lists(uops(), min_size=1, max_size=3))
        if draw(st.booleans()):
            body[0] = replace(body[0], loop_begin=True)
            body[-1] = replace(body[-1], loop_end=True, step=draw(st.integers(1, 8)))
        found += body
    return kernel(found)


@st.composite
def programs(draw, machine: Core) -> Program:
    """A program that can be written down; what it does makes no sense."""
    code = draw(st.lists(instructions(tuple(op for op in LAYOUT if op not in ("loop", "end"))), min_size=1, max_size=6))
    made, start = [], 0
    for number, body in enumerate(draw(st.lists(kernels(), max_size=3))):
        made.append(Kernel(f"k{number}", start, body))
        start += made[-1].slots
    data = [
        Segment(0x10000 + 0x1000 * i, b) for i, b in enumerate(draw(st.lists(st.binary(min_size=1, max_size=100), max_size=2)))
    ]
    shapes = st.lists(st.integers(1, 50), min_size=1, max_size=3).map(tuple)
    regions = [
        Region(f"r{i}", kind, dtype, draw(shapes), 64 * i, draw(st.integers(0, 15)))
        for i, (kind, dtype) in enumerate(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(("input", "output", "state", "scratch")), st.sampled_from(("int8", "float32"))),
                    max_size=3,
                )
            )
        )
    ]
    return Program.build(machine, code, kernels=made, data=data, regions=regions, address=64 * draw(st.integers(0, 3)))
