"""Whole models through reference, verifier and simulator: encoders on arrays of every size, on one core and on two."""

from dataclasses import replace

import pytest
from emission_checks import SIZES, agrees
from encoder_models import encoder


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
