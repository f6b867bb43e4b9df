"""Convolutions emitted for arrays of every size: simulator equals reference, the verifier passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from emission_checks import SIZES, agrees, sized
from hypothesis import given, settings
from hypothesis import strategies as st
from test_emit_product import epilogue

from presilicon.compiler.emission import emit
from presilicon.compiler.steps import Binding, Convolution, Lowered, Tensor
from presilicon.errors import CapacityError


def convolution_model(
    height: int,
    width: int,
    channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    *,
    seed: int = 0,
    residual: bool = False,
    fp32: bool = False,
    int8: bool = True,
    **more: object,
) -> Lowered:
    """One convolution with an epilogue."""
    rng = np.random.default_rng(seed)
    program = epilogue(residual=residual, fp32=fp32, int8=int8)
    step = Convolution(
        name="conv",
        program=program,
        streams=(Binding("residual", "r"),) if residual else (),
        columns=(Binding("bias", "bias"), Binding("scale", "scale")),
        outputs=tuple(Binding(output.name, output.name) for output in program.outputs),
        x="x",
        weights="w",
        height=height,
        width=width,
        channels=channels,
        out_channels=out_channels,
        kernel=kernel,
        **more,
    )
    rows = step.batch * step.out_size[0] * step.out_size[1]
    weights = rng.integers(-127, 128, (kernel[0] * kernel[1] * channels // step.groups, out_channels))
    tensors = [Tensor("x", step.batch * height * width, channels, "int8", zero_point=-9)]
    tensors += [Tensor("r", rows, out_channels)] if residual else []
    tensors += [Tensor(o.name, rows, out_channels, o.dtype, zero_point=o.zero_point) for o in program.outputs]
    return Lowered(
        name="conv",
        tensors={tensor.name: tensor for tensor in tensors},
        constants={
            "w": weights.astype(np.int8),
            "bias": rng.integers(-999, 999, out_channels).astype(np.int32),
            "scale": rng.uniform(1e-4, 4e-4, out_channels).astype(np.float32),
        },
        steps=(step,),
        inputs=("x", "r") if residual else ("x",),
        outputs=tuple(output.name for output in program.outputs),
    )


PAD = (1, 1, 1, 1)


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_convolutions_of_every_kind_on_arrays_of_every_size(core):
    agrees(convolution_model(9, 7, 3, 10, (3, 3), stride=(2, 2), padding=PAD), core)
    agrees(convolution_model(6, 8, 24, 40, (3, 3), padding=PAD, residual=True, fp32=True), core, strands=1)
    agrees(convolution_model(6, 9, 24, 24, (3, 3), padding=PAD, groups=24), core)
    agrees(convolution_model(7, 7, 12, 30, (1, 3), dilation=(1, 2), groups=3, batch=2), core, strands=2)
    agrees(convolution_model(1, 60, 4, 12, (1, 8), stride=(1, 4)), core)


@pytest.mark.parametrize("strands", [1, 2])
def test_weights_that_stay_for_all_for_a_band_or_for_none(strands):
    """The three ways of weights, by the room that there is for them."""
    for kib in (32, 128, 512):
        core = sized(8, 8, 8, kib=kib)
        agrees(convolution_model(20, 9, 32, 64, (3, 3), padding=PAD), core, strands=strands)
    # A block's weights of 18 KiB are more than half of what 32 KiB of scratchpad leave for them.
    agrees(convolution_model(20, 9, 256, 16, (3, 3), padding=PAD), sized(8, 8, 8, kib=32), strands=1)


def test_a_window_that_does_not_fit_is_refused_with_both_numbers():
    with pytest.raises(CapacityError, match=r"one window of 12000 bytes does not fit into \d+ bytes"):
        emit(convolution_model(6, 6, 480, 8, (5, 5)), SIZES["4x4"])


@st.composite
def models(draw: st.DrawFn) -> Lowered:
    groups = draw(st.sampled_from((1, 1, 1, 2, 5, 8)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    height, width = (draw(st.integers(d * (k - 1) + 1, 12)) for k, d in zip(kernel, dilation, strict=True))
    return convolution_model(
        height,
        width,
        groups * draw(st.integers(1, 40 // groups)),
        groups * draw(st.integers(1, 60 // groups)),
        kernel,
        seed=draw(st.integers(0, 2**32 - 1)),
        residual=draw(st.booleans()),
        fp32=draw(st.booleans()),
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=tuple(draw(st.integers(0, k)) for k in (*kernel, *kernel)),
        dilation=dilation,
        groups=groups,
        batch=draw(st.sampled_from((1, 1, 2))),
    )


@settings(max_examples=60, deadline=None)
@given(models(), st.sampled_from(sorted(SIZES)), st.sampled_from((1, 2)), st.sampled_from((1, 1, 2)))
def test_random_convolutions(lowered: Lowered, size: str, strands: int, cores: int) -> None:
    try:
        agrees(lowered, replace(SIZES[size], cores=cores), strands=strands, verified=cores == 1)
    except CapacityError:
        assert size == "4x4"
