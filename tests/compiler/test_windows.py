"""Convolutions against ONNX Runtime's ConvInteger: the steps' meaning, and windows read in place on cores of any array."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from presilicon.compiler.convolution import block_tiles, column_blocks, pack_weights, parts, weight_bytes
from presilicon.compiler.meaning import reference
from presilicon.compiler.steps import Binding, Convolution, Lowered, Tensor
from presilicon.compiler.vectors import ONE, Loop, Output, Sum, VectorProgram, product
from presilicon.compiler.windows import Windows, areas, bands, edge_loads, image_bytes, image_loads, image_size, tiles_of
from presilicon.errors import CapacityError
from presilicon.isa import State, execute, load, matmul
from presilicon.template import Core
from presilicon.tiling import tile_bytes

SUMS = VectorProgram(phases=(Loop(outputs=(("y", product(Sum(), ONE)),)),), outputs=(Output("y", "int32"),))


def step_of(**fields: object) -> Convolution:
    return Convolution(name="conv", program=SUMS, outputs=(Binding("y", "y"),), x="x", weights="w", **fields)


CORE = Core(
    rows=8,
    cols=8,
    lanes=8,
    bus_bytes=16,
    weight_rows_per_cycle=4,
    scratchpad_bytes=1 << 17,
    scratchpad_banks=8,
    accumulator_rows=64,
)


@dataclass(frozen=True)
class Case:
    """A convolution with its values."""

    step: Convolution
    x: NDArray[np.int8]
    weights: NDArray[np.int8]
    zero_point: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    groups = draw(st.sampled_from((1, 1, 2, 3, 8)))
    per_in, per_out = draw(st.integers(1, 20 // groups + 1)), draw(st.integers(1, 24 // groups + 1))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k + 1)) for k in (*kernel, *kernel))
    height, width = (draw(st.integers(max(1, d * (k - 1) + 1), 9)) for k, d in zip(kernel, dilation, strict=True))
    step = step_of(
        height=height,
        width=width,
        channels=groups * per_in,
        out_channels=groups * per_out,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(-128, 128, (height * width, step.channels), np.int8)
    weights = rng.integers(-127, 128, (kernel[0] * kernel[1] * per_in, step.out_channels), np.int8)
    return Case(step, x, weights, draw(st.integers(-128, 127)))


def twin(case: Case) -> NDArray[np.int32]:
    step, (height, width) = case.step, case.step.out_size
    tensors = (
        Tensor("x", *case.x.shape, "int8", zero_point=case.zero_point),
        Tensor("y", height * width, step.out_channels, "int32"),
    )
    lowered = Lowered(
        name="conv",
        tensors={tensor.name: tensor for tensor in tensors},
        constants={"w": case.weights},
        steps=(step,),
        inputs=("x",),
        outputs=("y",),
    )
    return reference(lowered, {"x": case.x})["y"].astype(np.int32)


def onnx_runtime(case: Case) -> NDArray[np.int32]:
    step, (height, width) = case.step, case.step.out_size
    top, left, bottom, right = step.padding
    node = helper.make_node(
        "ConvInteger",
        ["x", "w", "z"],
        ["y"],
        strides=step.stride,
        pads=[top, left, bottom, right],
        dilations=step.dilation,
        group=step.groups,
        kernel_shape=step.kernel,
    )
    per_in = step.channels // step.groups
    graph = helper.make_graph(
        [node],
        "conv",
        [
            helper.make_tensor_value_info("x", TensorProto.UINT8, [1, step.channels, step.height, step.width]),
            helper.make_tensor_value_info("w", TensorProto.INT8, [step.out_channels, per_in, *step.kernel]),
            helper.make_tensor_value_info("z", TensorProto.UINT8, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = (case.x.astype(np.int16) + 128).astype(np.uint8).reshape(1, step.height, step.width, step.channels)
    kernel = case.weights.reshape(*step.kernel, per_in, step.out_channels)
    found = session.run(
        None,
        {
            "x": np.ascontiguousarray(image.transpose(0, 3, 1, 2)),
            "w": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
            "z": np.array(case.zero_point + 128, np.uint8),
        },
    )[0]
    return found[0].transpose(1, 2, 0).reshape(height * width, step.out_channels)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_meaning_is_that_of_onnx_runtime(case: Case) -> None:
    # x less its zero point there, folded into the bias here: sum of weights times the zero point, padding among them.
    weights = case.weights.astype(np.int64)
    folded = twin(case) - case.zero_point * weights.sum(axis=0)
    np.testing.assert_array_equal(folded, onnx_runtime(case))


def on_core(core: Core, case: Case, most_bytes: int, most_tiles: int) -> NDArray[np.int32]:
    """The sums by the meaning of the loads and matmuls that `windows` makes, without an order of engines."""
    step, (height, width) = case.step, case.step.out_size
    packed = pack_weights(core, step, case.weights)
    weights_at = case.x.size
    state = State(core, np.concatenate([case.x.reshape(-1).view(np.uint8), packed]))
    y = np.full((height, width, step.out_channels), -1, np.int32)
    half = core.scratchpad_bytes // 2
    blocks, windows = column_blocks(core, step), Windows.of(step)
    for band in bands(windows, min(most_bytes, half)):
        assert image_bytes(windows, band) <= most_bytes
        state.spad[:half] = 0x55
        for one in image_loads(windows, band, 0, 0, case.zero_point):
            execute(state, one.op, one.resolve([0] * 16))
        pitch = image_size(windows, band)[1]
        at = weights_at
        for block in blocks:
            load_weights = load(dram=at, spad=half, run=weight_bytes(core, step, block))
            execute(state, "load", load_weights.resolve([0] * 16))
            at += weight_bytes(core, step, block)
            for tile in tiles_of(band, core.accumulator_rows):
                row, column = tile.row - band.row, tile.column - band.column
                first = row * step.stride[0] * pitch + column * step.stride[1] * step.channels
                done = 0
                for part in parts(core, step, block, pitch, most_tiles):
                    assert part.tile == done
                    assert part.tiles <= most_tiles
                    done += part.tiles
                    instruction = matmul(
                        x=first + part.offset,
                        w=half + part.tile * tile_bytes(core, int4=False),
                        m0=tile.columns,
                        x_stride0=step.stride[1] * step.channels,
                        m1=tile.rows,
                        x_stride1=step.stride[0] * pitch,
                        k1=part.k1,
                        k_stride1=part.k_stride1,
                        kb=part.kb,
                        tail=part.tail,
                        accumulate=int(part.tile > 0),
                    )
                    execute(state, "matmul", instruction.resolve([0] * 16))
                assert done == block_tiles(step, block)
                sums = state.accumulators[0, : tile.rows * tile.columns, : block.columns]
                to = y[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns]
                to[..., block.first : block.last] = sums.reshape(tile.rows, tile.columns, -1)
    return y.reshape(height * width, -1)


ARRAYS = ((4, 4, 4), (8, 8, 8), (4, 16, 8), (16, 4, 4), (12, 20, 4), (32, 32, 32))


@settings(max_examples=120, deadline=None)
@given(
    cases(), st.sampled_from(ARRAYS), st.sampled_from((16, 64)), st.sampled_from((2000, 1 << 16)), st.sampled_from((3, 10**6))
)
def test_windows_in_place(case: Case, array: tuple[int, int, int], pixels: int, most_bytes: int, most_tiles: int) -> None:
    rows, cols, lanes = array
    core = replace(
        CORE,
        rows=rows,
        cols=cols,
        lanes=lanes,
        accumulator_rows=pixels,
        weight_rows_per_cycle=min(rows, -(-16 // cols) + 1),
        scratchpad_bytes=1 << 18,
    )
    np.testing.assert_array_equal(on_core(core, case, most_bytes, most_tiles), twin(case))


def test_depthwise_takes_a_tile_for_each_tap() -> None:
    core = replace(CORE, rows=32, cols=32, lanes=32)
    step = step_of(height=8, width=8, channels=64, out_channels=64, kernel=(3, 3), groups=64)
    assert [block_tiles(step, block) for block in column_blocks(core, step)] == [9, 9]
    # Few channels: the taps of a kernel row stand in one tile.
    step = step_of(height=8, width=8, channels=8, out_channels=8, kernel=(3, 3), groups=8)
    assert [block_tiles(step, block) for block in column_blocks(core, step)] == [3]


def test_window_that_does_not_fit_is_refused_with_both_numbers() -> None:
    step = step_of(height=9, width=9, channels=100, out_channels=8, kernel=(5, 5))
    with pytest.raises(CapacityError, match="2500 bytes does not fit into 2000 bytes"):
        bands(Windows.of(step), 2000)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 3), st.integers(1, 60), st.data())
def test_areas_are_the_results_in_order(rows: int, columns: int, batch: int, most: int, data: st.DataObject) -> None:
    step = step_of(height=rows, width=columns, channels=2, out_channels=2, batch=batch)
    windows, total = Windows.of(step), batch * rows * columns
    start = data.draw(st.integers(0, total))
    share = range(start, data.draw(st.integers(start, total)))
    found = []
    for image, area in areas(windows, share):
        for band in bands(windows, 1 << 20, most, area):
            assert band.rows * band.columns <= most
            # Results of a band lie one behind the other.
            assert band.rows == 1 or (band.column, band.columns) == (0, columns)
            found += range(
                (image * rows + band.row) * columns + band.column,
                (image * rows + band.row + band.rows - 1) * columns + band.column + band.columns,
            )
    assert found == list(share)


def test_bands_are_whole_and_even() -> None:
    step = step_of(height=56, width=56, channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1, 1, 1))
    made = bands(Windows.of(step), 64 << 10)
    assert sum(band.rows * band.columns for band in made) == 56 * 56
    assert max(band.rows for band in made) - min(band.rows for band in made) <= 1


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(600, 4000))
def test_edges_are_the_image_again(case: Case, most_bytes: int) -> None:
    step = case.step
    windows = Windows.of(step)
    top, left, bottom, right = step.padding
    image = np.pad(case.x.reshape(step.height, step.width, -1), ((top, bottom), (left, right), (0, 0)), mode="edge")
    state = State(CORE, case.x.reshape(-1).view(np.uint8))
    for band in bands(windows, most_bytes):
        rows, pitch = image_size(windows, band)
        try:
            loads = edge_loads(windows, band, 0, 0)
        except CapacityError:
            assert top >= step.kernel[0] or left >= step.kernel[1] or bottom >= step.kernel[0] or right >= step.kernel[1]
            return
        for one in loads:
            execute(state, one.op, one.resolve([0] * 16))
        row, column = band.row * step.stride[0], band.column * step.stride[1]
        want = image[row : row + rows, column : column + pitch // step.channels]
        np.testing.assert_array_equal(state.spad[: rows * pitch].view(np.int8), want.reshape(-1))
