"""Functions of elements alone, emitted as one run of elements: simulator equals reference, the verifier passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from emission_checks import SIZES, agrees, sized
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.compiler.steps import Binding, Lowered, Rows, Tensor
from presilicon.compiler.vectors import Constant, Loop, Output, Stream, VectorProgram, fused, larger, product


def elements_model(rows: int, columns: int, *, outputs: int = 1, streams: int = 1) -> Lowered:
    """Sums of some streams, larger than 0, in fp32 or as int8 or both."""
    names = [f"x{i}" for i in range(streams)]
    value = larger(Stream("x0"), Constant(0.0))
    for name in names[1:]:
        value = fused(Stream(name), Constant(0.5), value)
    made = [("q", product(value, Constant(9.0))), ("y", value)][:outputs]
    program = VectorProgram(
        phases=(Loop(outputs=tuple(made)),), outputs=tuple(Output(n, "int8" if n == "q" else "float32") for n, _ in made)
    )
    tensors = [Tensor(name, rows, columns) for name in names]
    tensors += [Tensor(o.name, rows, columns, o.dtype) for o in program.outputs]
    step = Rows(
        name="rows",
        program=program,
        streams=tuple(Binding(name, name) for name in names),
        outputs=tuple(Binding(o.name, o.name) for o in program.outputs),
    )
    return Lowered(
        name="elements",
        tensors={tensor.name: tensor for tensor in tensors},
        constants={},
        steps=(step,),
        inputs=tuple(names),
        outputs=tuple(o.name for o in program.outputs),
    )


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_elements_on_arrays_of_every_size(core):
    agrees(elements_model(301, 3), core, strands=1)
    agrees(elements_model(1, 777, outputs=2, streams=2), core)
    agrees(elements_model(40, 33, outputs=2, streams=3), core, strands=2)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from((1, 2)),
    st.sampled_from((1, 2, 3)),
    st.sampled_from(sorted(SIZES)),
    st.sampled_from((1, 1, 2)),
)
def test_any_number_of_elements(rows: int, columns: int, outputs: int, streams: int, size: str, cores: int) -> None:
    lowered = elements_model(rows, columns, outputs=outputs, streams=streams)
    agrees(lowered, replace(SIZES[size], cores=cores), verified=cores == 1)


def test_an_image_of_three_channels_goes_in_long_runs():
    core = sized(32, 32, 32, kib=512)
    done, emitted = agrees(elements_model(64 * 64, 3), core, strands=1)
    # 12,288 elements in fp32 and int8 are 1,920 beats of 32 bytes; rows of three columns would take 8,192 bursts.
    assert sum(i.op == "load" for i in emitted.programs[0].instructions) <= 8
    assert done.cycles < 6000
