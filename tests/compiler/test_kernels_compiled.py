"""Compiled kernels against the meaning of vector programs, on cores of every lane count."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.compiler.kernel_operations import COLUMNS
from presilicon.compiler.kernels import compile_kernel
from presilicon.compiler.rowwise import FUNCTIONS
from presilicon.compiler.vectors import (
    ONE,
    Column,
    Constant,
    Loop,
    Output,
    Scalar,
    Scalars,
    Stream,
    Sum,
    Swapped,
    Value,
    VectorProgram,
    evaluate,
    fused,
    interpolated,
    larger,
    minus,
    plus,
    product,
    reciprocal,
    reciprocal_root,
    smaller,
)
from presilicon.errors import CheckError
from presilicon.isa import State, execute
from presilicon.isa.kernel_check import check_lanes, check_registers, check_streams
from presilicon.template import Core

BASE = Core(
    rows=8,
    cols=8,
    lanes=8,
    bus_bytes=16,
    weight_rows_per_cycle=4,
    scratchpad_bytes=1 << 18,
    scratchpad_banks=8,
    accumulator_rows=256,
)
CORES = {
    "4 lanes": replace(BASE, rows=4, cols=4, lanes=4),
    "12x20": replace(BASE, rows=12, cols=20, lanes=4),
    "8 lanes": BASE,
    "32x16": replace(BASE, cols=32, lanes=16),
    "32 lanes": replace(BASE, cols=32, lanes=32),
    "64x64": replace(BASE, rows=64, cols=64, lanes=32),
}
BYTES = {"float32": 4, "int8": 1, "int32": 4}


def run(core, program, shape, *, streams=(), columns=(), sums=None, valid=None, block=False, **options):
    """The outputs of the compiled kernel, executed as the simulator does, and what must come out."""
    streams, columns = dict(streams), dict(columns)
    rows, n = shape
    dtypes = {name: str(value.dtype) for name, value in streams.items()}
    # Block form: a kernel sees one block of columns at a time.
    width = core.cols if block else -(-n // core.cols) * core.cols
    kernel = compile_kernel(core, program, dtypes=dtypes, block_strips=core.chunks if block else 0, **options)
    state = State(core)
    blocks = -(-n // core.cols)
    padded = blocks * core.cols
    if sums is not None:
        whole = np.zeros((rows, padded), np.int32)
        whole[:, :n] = sums
        for b in range(blocks):
            state.accumulators[0, b * rows : (b + 1) * rows] = whole[:, b * core.cols : (b + 1) * core.cols]
    at, address, outputs = {}, 0, {}

    def place(name, data, pitch):
        nonlocal address
        at[name] = (address, pitch)
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        state.spad[address : address + raw.size] = raw
        address += -(-raw.size // 64) * 64 + 256

    for name, value in streams.items():
        wide = np.zeros((rows, padded), value.dtype)
        wide[:, :n] = value
        place(name, wide, padded * value.itemsize)
    for name, value in columns.items():
        wide = np.zeros(padded, value.dtype)
        wide[:n] = value
        place(name, wide, 0)
    if kernel.packed:
        wide = np.zeros((blocks, len(kernel.packed), core.cols), np.uint32)
        for i, name in enumerate(kernel.packed):
            flat = np.zeros(padded, np.uint32)
            flat[:n] = columns[name].view(np.uint32)
            wide[:, i] = flat.reshape(blocks, core.cols)
        place(COLUMNS, wide, 0)
    for output in program.outputs:
        width_of = core.lanes if output.scalar else padded
        merged = next((names[1] for names in kernel.streams if names[0] == output.name and len(names) > 1), "")
        if merged:
            at[output.name] = at[merged]
        else:
            place(output.name, np.zeros((rows, width_of), output.dtype), width_of * BYTES[output.dtype])
        outputs[output.name] = (output, at[output.name], width_of)
    state._kernels[0] = kernel.uops
    for table, start in zip(program.tables, (0, 256), strict=True):
        if table:
            state.tables[start : start + 256] = np.frombuffer(table, np.uint32)
    for b in range(blocks if block else 1):
        moved = {}
        for name, (where, pitch) in at.items():
            size = 4 if name in columns else streams[name].itemsize if name in streams else 4
            if name in outputs:
                size = BYTES[outputs[name][0].dtype]
            step = 4 * core.cols * len(kernel.packed) if name == COLUMNS else core.cols * size
            moved[name] = (where + (b * step if block else 0), pitch)
        end = min(n, (b + 1) * core.cols) - b * core.cols if block else n
        instruction = kernel.instruction(
            moved,
            start=0,
            rows=rows,
            strips=width // core.lanes if block else -(-n // core.lanes),
            columns=end,
            valid=end if valid is None or block else valid,
            acc=b * rows if block else 0,
            acc_step=0 if block else rows,
        )
        fields = instruction.resolve()
        check_registers(kernel.uops)
        check_lanes(core, fields, kernel.uops)
        check_streams(core, fields, kernel.uops)
        execute(state, "vector", fields)
    found = {}
    for name, (output, (where, _), width_of) in outputs.items():
        size = BYTES[output.dtype]
        data = state.spad[where : where + rows * width_of * size].view(output.dtype).reshape(rows, width_of)
        found[name] = data[:, : 1 if output.scalar else n].copy()
    wanted = evaluate(program, shape, streams=streams, columns=columns, sums=sums, valid=valid)
    return found, wanted


def same(found, wanted):
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name].view(np.uint8), np.ascontiguousarray(value).view(np.uint8), name)


def normal(rng, *shape):
    return rng.normal(0.0, 3.0, shape).astype(np.float32)


def layer_norm():
    x, n = Stream("x"), 40
    centred = minus(x, Scalar("mean"))
    root = Scalar("root")
    y = fused(product(minus(x, Scalar("mean")), root), Column("gamma"), Column("beta"))
    return VectorProgram(
        phases=(
            Loop(sums=(("total", x),)),
            Scalars((("mean", product(Scalar("total"), Constant(1 / n))),)),
            Loop(sums=(("squares", product(centred, centred)),)),
            Scalars((("root", reciprocal_root(fused(Scalar("squares"), Constant(1 / n), Constant(1e-5)))),)),
            Loop(outputs=(("y", y), ("q", product(y, Constant(21.0))))),
        ),
        outputs=(Output("y"), Output("q", "int8", -7)),
    )


def softmax():
    table = FUNCTIONS["sigmoid"].values.tobytes()
    p = Value("table0", fused(Sum(), Constant(0.01), Scalar("shift")), ONE)
    return VectorProgram(
        phases=(
            Loop(maxima=(("most", Sum()),)),
            Scalars((("shift", fused(Scalar("most"), Constant(-0.01), Constant(100.0))),)),
            Loop(sums=(("total", p),), outputs=(("p", product(p, Constant(90.0))),)),
            Scalars((("inverse", product(reciprocal(Scalar("total")), Constant(0.3))),)),
        ),
        outputs=(Output("p", "int8"), Output("inverse", scalar=True)),
        tables=(table, b""),
    )


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("rows", [1, 7, 19])
def test_a_norm_with_five_streams_writes_over_its_input(core, rows):
    rng = np.random.default_rng(rows)
    found, wanted = run(
        core,
        layer_norm(),
        (rows, 40),
        streams={"x": normal(rng, rows, 40)},
        columns={"gamma": normal(rng, 40), "beta": normal(rng, 40)},
    )
    same(found, wanted)


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("valid", [50, 33, 1])
def test_a_softmax_of_accumulators_counts_valid_columns_only(core, valid):
    rng = np.random.default_rng(valid)
    sums = rng.integers(-9000, 9000, (9, 50), dtype=np.int32)
    found, wanted = run(core, softmax(), (9, 50), sums=sums, valid=valid, zero_beyond=("p",))
    wanted["p"][:, valid:] = 0
    same(found, wanted)


def epilogue():
    x = fused(Sum("bias"), Column("scale"), Stream("residual"))
    return VectorProgram(
        phases=(Loop(outputs=(("y", x), ("q", product(larger(x, Constant(0.0)), Constant(3.0))))),),
        outputs=(Output("y"), Output("q", "int8", 5)),
    )


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("block", [False, True])
def test_an_epilogue_keeps_its_column_parameters(core, block):
    rng = np.random.default_rng(3)
    found, wanted = run(
        core,
        epilogue(),
        (11, 45),
        streams={"residual": normal(rng, 11, 45)},
        columns={"bias": rng.integers(-99, 99, 45).astype(np.int32), "scale": normal(rng, 45)},
        sums=rng.integers(-9999, 9999, (11, 45), dtype=np.int32),
        block=block,
    )
    same(found, wanted)


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("by_strips", [False, True])
def test_an_interpolated_function_over_rows_or_strips(core, by_strips):
    rng = np.random.default_rng(1)
    table = FUNCTIONS["gelu"]
    image = table.image()
    program = VectorProgram(
        phases=(Loop(outputs=(("y", interpolated(Stream("x"), table)),)),),
        outputs=(Output("y"),),
        tables=(image[:1024], image[1024:]),
    )
    found, wanted = run(core, program, (3, 333), streams={"x": normal(rng, 3, 333)}, by_strips=by_strips)
    same(found, wanted)


def test_exchanged_elements_and_what_is_not_within_the_lanes():
    rng = np.random.default_rng(2)

    def rotary(distance):
        x = Stream("x")
        return VectorProgram(
            phases=(Loop(outputs=(("y", fused(x, Stream("cos"), product(Stream("sin"), Swapped(x, distance)))),)),),
            outputs=(Output("y"),),
        )

    streams = {name: normal(rng, 5, 24) for name in ("x", "cos", "sin")}
    for core in CORES.values():
        same(*run(core, rotary(1), (5, 24), streams=streams))
    with pytest.raises(CheckError, match="distance 4"):
        run(CORES["4 lanes"], rotary(4), (5, 24), streams=streams)


def test_too_many_streams_and_registers_are_refused_by_name():
    many = Stream("a")
    for name in "bcdef":
        many = plus(many, Stream(name))
    program = VectorProgram(phases=(Loop(outputs=(("y", many),)),), outputs=(Output("y", "int8"),))
    with pytest.raises(CheckError, match="7 streams") as refused:
        compile_kernel(BASE, program)
    assert set("yabcdef") <= set(str(refused.value.hint).split(", "))
    value = Stream("x")
    loops = [Loop(sums=tuple((f"s{i}", product(value, Constant(float(i)))) for i in range(20)))]
    every = Scalar("s0")
    for i in range(1, 20):
        every = plus(every, Scalar(f"s{i}"))
    program = VectorProgram(phases=(*loops, Scalars((("all", every),))), outputs=(Output("all", scalar=True),))
    with pytest.raises(CheckError, match="16 registers"):
        compile_kernel(BASE, program)


@st.composite
def programs(draw):
    """A random program on a stream, a parameter, sums, with up to two reductions."""
    accumulates = draw(st.booleans())
    leaves = [Stream("x"), Stream("z"), Column("c"), Constant(0.5), Constant(-1.25)]
    leaves += [Sum("bias")] if accumulates else []

    def value(depth, scalars):
        if depth == 0 or draw(st.integers(0, 3)) == 0:
            found = draw(st.sampled_from([*leaves, *scalars]))
            return Swapped(found, draw(st.sampled_from([1, 2]))) if draw(st.integers(0, 9)) == 0 else found
        kind = draw(st.sampled_from(["add", "product", "max", "min", "select", "round", "table0", "move"]))
        a, b, c = (value(depth - 1, scalars) for _ in range(3))
        sign = {"negate_p": draw(st.booleans()), "negate_c": draw(st.booleans())}
        match kind:
            case "add":
                return Value("add", a, b, c, **sign)
            case "max":
                return Value("max", a, b, c, **sign)
            case "min":
                return smaller(a, b)
            case "select":
                return Value("select", a, b, c)
            case "move":
                return product(a, a)
            case _:
                return Value(kind, a, b)

    phases, scalars = [], []
    for number in range(draw(st.integers(0, 2))):
        name = f"s{number}"
        kind = draw(st.sampled_from(["sums", "maxima"]))
        phases.append(Loop(**{kind: ((name, value(2, scalars)),)}))
        phases.append(Scalars(((f"t{number}", reciprocal(Scalar(name))),)))
        scalars += [Scalar(name), Scalar(f"t{number}")]
    phases.append(Loop(outputs=(("y", value(3, scalars)),)))
    table = np.linspace(-3, 3, 256).astype(np.float32).tobytes()
    return VectorProgram(phases=tuple(phases), outputs=(Output("y"),), tables=(table, b""))


@settings(max_examples=120, deadline=None)
@given(programs(), st.sampled_from(sorted(CORES)), st.integers(1, 17), st.integers(1, 70), st.integers(0, 2**31), st.booleans())
def test_a_random_program_means_the_same_on_every_core(program, name, rows, n, seed, block):
    rng = np.random.default_rng(seed)
    core = CORES[name]
    single = len(program.phases) == 1
    n += n % 4 and 4 - n % 4
    streams = {s: normal(rng, rows, n) for s in program.streams}
    columns = {c: normal(rng, n) for c in program.columns}
    columns |= {b: rng.integers(-500, 500, n).astype(np.int32) for b in program.biases}
    if not (program.accumulates or streams or columns):
        return
    sums = rng.integers(-5000, 5000, (rows, n), dtype=np.int32) if program.accumulates else None
    if sums is not None and rows * -(-n // core.cols) > core.accumulator_rows:
        return
    valid = None if block and single else int(rng.integers(1, n + 1))
    options = {} if block and single else {"valid": valid}
    arrays = {"streams": streams, "columns": columns, "sums": sums}
    try:
        found, wanted = run(core, program, (rows, n), **arrays, block=block and single, **options)
    except CheckError as error:
        refused = str(error)
    else:
        same(found, wanted)
        return
    assert "streams" in refused or "registers" in refused
