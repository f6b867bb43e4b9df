"""Random graphs of steps and encoders: reference equals simulator on cores of ten sizes, verified; some on the RTL too."""

import numpy as np
import pytest
from emission_checks import SIZES, agrees, inputs_of
from encoder_models import encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import graph

from levels import core, machine
from presilicon.check import compare
from presilicon.compiler.corpus import Case
from presilicon.compiler.emission import emit
from presilicon.compiler.meaning import reference


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**31), st.integers(1, 6), st.sampled_from(sorted(SIZES)), st.integers(1, 2))
def test_a_random_graph_means_the_same_everywhere(seed, length, name, strands):
    agrees(graph(seed, length), SIZES[name], seed=seed, strands=strands)


def on_every_level(name, lowered, seed=0):
    """A model through reference, simulator and RTL of a core of the library: same bytes, same cycles."""
    inputs = inputs_of(lowered, np.random.default_rng(seed))
    (program,) = emit(lowered, core(name)).programs
    case = Case(lowered.name, program, inputs, reference(lowered, inputs))
    done = compare(case, core(name), machine=machine(name))
    assert done.agrees, done.mismatches
    assert done.cycles["simulate"] == done.cycles["rtl"], done.parted


@pytest.mark.parametrize("name", ["core-4x4", "core-8x8"])
@pytest.mark.parametrize("seed", range(15))
def test_a_random_graph_on_the_hardware(name, seed):
    on_every_level(name, graph(1000 + seed, 4), seed)


def test_an_encoder_on_the_hardware():
    on_every_level("core-8x8", encoder(tokens=12, width=32, heads=2, layers=2, hidden=64, vocabulary=30))
