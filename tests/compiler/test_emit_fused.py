"""A product that hands its result to a norm on the chip, and where it must not."""

from dataclasses import replace

import pytest
from emission_checks import SIZES, agrees
from encoder_models import Builder

from presilicon.compiler.emission.emit_fused import handed_over


def model(rows=24, width=32, hidden=64, outputs=()):
    """A norm, a product with a residual, and the norm that reads it."""
    b = Builder()
    b.tensor("x", rows, width)
    b.norm("first", "x")
    b.product("up", "first.q", hidden)
    b.product("down", "up", width, residual="first", dtype="float32")
    b.norm("second", "down")
    return b.lowered("fused", ["x"], ["second", "second.q", *outputs])


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("strands", [1, 2])
def test_a_norm_reads_the_product_on_the_chip(name, strands):
    agrees(model(), SIZES[name], strands=strands)
    agrees(model(rows=7, width=64, hidden=96), SIZES[name], strands=strands)


def test_what_is_handed_over_is_not_written():
    kept, _ = agrees(model(), SIZES["32x32"], strands=1)
    written, _ = agrees(model(outputs=("down",)), SIZES["32x32"], strands=1)
    assert handed_over(model(), 2) == "down"
    assert handed_over(model(outputs=("down",)), 2) == ""
    assert written.dram_written_bytes - kept.dram_written_bytes == 4 * 24 * 32


def test_on_several_cores():
    agrees(model(), replace(SIZES["16x16"], cores=2), strands=2)
