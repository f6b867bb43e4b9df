"""Pooling's passes on cores of several lanes against the steps' meaning, which is ONNX Runtime's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cnn_models import session
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from test_kernels_compiled import CORES

from presilicon.compiler.kernels import compile_kernel
from presilicon.compiler.meaning import reference
from presilicon.compiler.pooling import PLACES, RESULT, SO_FAR, passes, place_name, places_program
from presilicon.compiler.steps import Lowered, Pool, Tensor
from presilicon.compiler.windows import Windows, bands, edge_loads, image_loads, image_size
from presilicon.errors import CapacityError
from presilicon.isa import State, execute
from presilicon.isa.kernel_check import check_registers, check_streams
from presilicon.template import Core


@dataclass(frozen=True)
class Case:
    """A pooling with its image."""

    step: Pool
    x: NDArray[np.generic]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 3)))
    kind = draw(st.sampled_from(("max", "mean")))
    dtype = draw(st.sampled_from(("float32", "int8"))) if kind == "max" else "float32"
    top, left, bottom, right = (draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    height, width = (draw(st.integers(k, 9)) for k in kernel)
    step = Pool(
        name="pool",
        x="x",
        out="y",
        kind=kind,
        height=height,
        width=width,
        channels=draw(st.sampled_from((1, 3, 8, 13, 40))),
        kernel=kernel,
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=(top, left, bottom, right),
        count_padding=draw(st.booleans()),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(0, 40, (height * width, step.channels))
    return Case(step, x.astype(np.float32) if dtype == "float32" else np.rint(x).clip(-128, 127).astype(np.int8))


def twin(case: Case) -> NDArray[np.generic]:
    rows, columns = case.step.out_size
    dtype = str(case.x.dtype)
    tensors = Tensor("x", *case.x.shape, dtype), Tensor("y", rows * columns, case.step.channels, dtype)
    lowered = Lowered(
        name="pool",
        tensors={tensor.name: tensor for tensor in tensors},
        constants={},
        steps=(case.step,),
        inputs=("x",),
        outputs=("y",),
    )
    return reference(lowered, {"x": case.x})["y"]


@settings(max_examples=40, deadline=None)
@given(cases())
def test_meaning_is_that_of_onnx_runtime(case: Case) -> None:
    step = case.step
    count = {"count_include_pad": int(step.count_padding)} if step.kind == "mean" else {}
    op = "MaxPool" if step.kind == "max" else "AveragePool"
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=step.kernel, strides=step.stride, pads=step.padding, **count)
    image = case.x.reshape(1, step.height, step.width, step.channels).transpose(0, 3, 1, 2)
    kind = TensorProto.FLOAT if case.x.dtype == np.float32 else TensorProto.INT8
    graph = helper.make_graph(
        [node],
        "pool",
        [helper.make_tensor_value_info("x", kind, image.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    want = session(model).run(None, {"x": np.ascontiguousarray(image)})[0]
    want = want[0].transpose(1, 2, 0).reshape(-1, step.channels)
    np.testing.assert_allclose(twin(case), want, rtol=1e-5, atol=1e-4)


def on_core(core: Core, case: Case, most_bytes: int) -> NDArray[np.generic]:
    """The result by the meaning of loads and vector instructions."""
    step, (rows, columns) = case.step, case.step.out_size
    windows = Windows.of(step, case.x.itemsize)
    state, half = State(core, np.ascontiguousarray(case.x).reshape(-1).view(np.uint8)), core.scratchpad_bytes // 2
    y = np.zeros((rows, columns, windows.pixel_bytes), np.uint8)
    for band in bands(windows, most_bytes):
        state.spad[:] = 0xA5
        make = edge_loads if step.kind == "max" else image_loads
        for one in make(windows, band, 0, 0):
            execute(state, one.op, one.resolve([0] * 16))
        for one_pass in passes(step, windows, band, str(case.x.dtype)):
            named = {place_name(i): (place, one_pass.place_pitch) for i, place in enumerate(one_pass.places)}
            kernel = compile_kernel(core, one_pass.program, dtypes=dict.fromkeys((SO_FAR, *named), str(case.x.dtype)))
            out = half + one_pass.out, one_pass.out_pitch
            at = {**named, RESULT: out, SO_FAR: out}
            strips = -(-one_pass.columns // core.lanes)
            instruction = kernel.instruction(at, start=0, rows=one_pass.rows, strips=strips, columns=one_pass.columns)
            fields = instruction.resolve([0] * 16)
            check_registers(kernel.uops)
            check_streams(core, fields, kernel.uops)
            state._kernels[0] = kernel.uops
            execute(state, "vector", fields)
        found = state.spad[half : half + band.rows * band.columns * windows.pixel_bytes]
        to = y[band.row : band.row + band.rows, band.column : band.column + band.columns]
        to[...] = found.reshape(band.rows, band.columns, -1)
    assert image_size(windows, band)[1] % windows.pixel_bytes == 0
    return y.reshape(rows * columns, -1).view(case.x.dtype)


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from(sorted(CORES)), st.sampled_from((1500, 1 << 16)))
def test_passes(case: Case, name: str, most_bytes: int) -> None:
    try:
        found = on_core(CORES[name], case, most_bytes)
    except CapacityError:
        # Windows of less than a stride that begin in the padding behind.
        assume(False)
    want = twin(case)
    np.testing.assert_array_equal(found.view(np.uint8), want.view(np.uint8))


def test_a_result_so_far_is_written_in_its_place() -> None:
    for kind in ("max", "mean"):
        kernel = compile_kernel(CORES["8 lanes"], places_program(kind, PLACES, True, 0.25, "float32"))
        assert (RESULT, SO_FAR) in kernel.streams
        assert len(kernel.uops) == PLACES + (2 if kind == "mean" else 1)


def test_windows_in_the_padding_alone_are_refused() -> None:
    step = Pool(name="p", x="x", out="y", kind="max", height=4, width=4, channels=2, kernel=(2, 2), padding=(0, 0, 0, 2))
    windows = Windows.of(step)
    with pytest.raises(CapacityError, match="lies in the padding altogether"):
        edge_loads(windows, bands(windows, 1000)[0], 0, 0)
