"""Whole models through reference, verifier and simulator: encoders on arrays of every size, on one core and on two."""

from dataclasses import replace

import pytest
from emission_checks import SIZES, agrees
from encoder_models import GELU, TABLES, Builder, encoder

from levels import core
from presilicon.compiler.compiled import memory
from presilicon.compiler.emission import emit
from presilicon.compiler.vectors import Constant, Loop, Output, Sum, VectorProgram, interpolated, product
from presilicon.compiler.work import macs
from presilicon.simulate.machine import run


@pytest.mark.parametrize("name", SIZES)
def test_an_encoder_of_two_layers(name):
    model = encoder(tokens=20, width=48, heads=3, layers=2, hidden=96, vocabulary=50, length=True)
    for length, strands in ((20, 1), (13, 2)):
        agrees(model, SIZES[name], arguments={"length": length}, strands=strands)


@pytest.mark.parametrize(("name", "cores"), [("4x4", 2), ("8x8", 4), ("32x32", 2)])
@pytest.mark.parametrize("strands", [1, 2])
def test_rows_on_several_cores(name, cores, strands):
    model = encoder(tokens=24, width=32, heads=2, layers=2, hidden=64, vocabulary=50)
    agrees(model, replace(SIZES[name], cores=cores), strands=strands)


def test_more_strands_than_rows():
    agrees(encoder(tokens=3, width=32, heads=2, layers=1, hidden=64), replace(SIZES["8x8"], cores=2), strands=2)


def cycles(name, layers, tokens=128, strands=0):
    """Simulated cycles of an encoder of MiniLM's sizes, and the share of the array's peak."""
    model = encoder(tokens=tokens, layers=layers, length=True)
    one = core(name)
    programs = emit(model, one, strands=strands).programs
    done = run(programs, one, arguments={1: tokens}, dram=memory(programs), values=False, events=False)
    return done.cycles, sum(macs(model, step) for step in model.steps) / (one.rows * one.cols * one.cores * done.cycles)


def test_the_array_is_busy():
    """The bar is 75 % on all six layers; two have the embedding to bear."""
    assert cycles("core-32x32", 2)[1] > 0.74
    assert cycles("core-16x16", 1)[1] > 0.75


def test_two_cores_are_nearly_twice_as_fast():
    assert cycles("core-16x16", 1)[0] / cycles("core-16x16-x2", 1)[0] > 1.8


def test_kernels_that_do_not_fit_together_are_loaded_anew():
    b = Builder()
    x = b.tensor("x", 6, 16, "int8")
    for number in range(30):
        b.product(f"y{number}", x, 16, gelu=True, gain=1.0 + number)
    model = b.lowered("kernels", ["x"], [f"y{number}" for number in range(30)])
    # Constants of their own: 30 kernels of some 12 micro-operations in 64 slots.
    for number, step in enumerate(model.steps):
        value = interpolated(product(Sum("bias"), Constant(1e-3 * (number + 1))), GELU)
        program = VectorProgram(
            phases=(Loop(outputs=(("y", product(value, Constant(9.0 + number))),)),),
            outputs=(Output("y", "int8"),),
            tables=TABLES,
        )
        columns = tuple(b for b in step.columns if b.name == "bias")
        b.steps[number] = replace(step, program=program, columns=columns)
    _, emitted = agrees(b.lowered("kernels", ["x"], model.outputs), replace(SIZES["8x8"], kernel_slots=64))
    loads = [i for i in emitted.programs[0].instructions if i.op == "load" and i["target"] == 2]
    assert len(loads) == 30
