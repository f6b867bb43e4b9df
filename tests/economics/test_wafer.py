"""Laws of dies per wafer and of yield."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.economics.wafer import MODELS, die_yield, dies_per_wafer, harvested_yield
from presilicon.errors import InputError

AREAS = st.floats(0.1, 2000.0)
DENSITIES = st.floats(0.001, 3.0)


def test_dies_on_a_wafer_by_hand() -> None:
    assert 63 <= dies_per_wafer(814.0) <= 70  # of H100 published counts are 65 (55 good at 85 %) and 86
    assert 600 <= dies_per_wafer(100.0) <= 640


@given(AREAS, st.floats(1.001, 5.0))
def test_larger_dies_are_fewer(area, factor) -> None:
    assert dies_per_wafer(area * factor) <= dies_per_wafer(area)
    assert dies_per_wafer(area) * area < np.pi * 150.0**2


def test_a_die_larger_than_the_wafer_is_not_there() -> None:
    assert dies_per_wafer(80_000.0) < 1.0


@given(AREAS, DENSITIES, st.floats(1.01, 4.0), st.sampled_from(MODELS))
def test_yield_falls_with_area_and_defects(area, density, factor, model) -> None:
    found = die_yield(area, density, model)
    assert 0.0 <= found <= 1.0
    assert die_yield(area * factor, density, model) <= found
    assert die_yield(area, density * factor, model) == pytest.approx(die_yield(area * factor, density, model))


@given(AREAS, DENSITIES, st.floats(0.5, 20.0))
def test_clustered_defects_spare_more_dies(area, density, clustering) -> None:
    poisson, murphy = die_yield(area, density, "poisson"), die_yield(area, density, "murphy")
    negative = die_yield(area, density, clustering=clustering)
    assert murphy >= poisson
    assert negative >= poisson * (1 - 1e-12)
    assert die_yield(area, density, clustering=clustering * 2) <= negative * (1 + 1e-12)


@given(st.floats(1.0, 1500.0), st.floats(0.01, 1.0))
def test_murphy_lies_between_poisson_and_strong_clustering(area, density) -> None:
    found = die_yield(area, density, "murphy")
    assert die_yield(area, density, "poisson") <= found <= die_yield(area, density, clustering=1.0) * (1 + 1e-9)


def test_the_limits() -> None:
    assert die_yield(1e-9, 0.1) == pytest.approx(1.0)
    assert die_yield(300.0, 0.1, clustering=1e7) == pytest.approx(die_yield(300.0, 0.1, "poisson"), rel=1e-5)
    assert die_yield(100.0, 1.0, "poisson") == pytest.approx(np.exp(-1.0))


@given(st.floats(10.0, 1500.0), st.floats(0.01, 0.5), st.floats(0.0, 1.0), st.integers(2, 144), st.floats(1.0, 10.0))
def test_spares_help_and_never_beyond_the_rest(area, density, share, cores, clustering) -> None:
    none = harvested_yield(area, density, share, cores, 0, clustering)
    some = harvested_yield(area, density, share, cores, 1, clustering)
    most = harvested_yield(area, density, share, cores, cores - 1, clustering)
    assert none <= some * (1 + 1e-4)
    assert some <= most * (1 + 1e-9)
    assert most <= die_yield(area * (1.0 - share), density, clustering=clustering) * (1 + 1e-4)


@given(st.floats(10.0, 1500.0), st.floats(0.01, 0.5), st.floats(1.0, 10.0))
def test_a_sum_over_densities_is_the_negative_binomial(area, density, clustering) -> None:
    # Where no core is spared, one spare of cores that cover nothing changes nothing: the sum must give the closed form.
    found = harvested_yield(area, density, 0.0, 4, 1, clustering)
    assert found == pytest.approx(die_yield(area, density, clustering=clustering), rel=2e-3)


def test_yield_is_what_a_million_dies_show() -> None:
    generator, cores, share, clustering, expected = np.random.default_rng(7), 16, 0.6, 2.5, 0.8
    density = generator.gamma(clustering, 1 / clustering, 1_000_000) * expected
    elsewhere = generator.poisson(density * (1 - share))
    good_core = np.exp(-density * share / cores)
    bad_cores = generator.binomial(cores, 1 - good_core)
    for spares in (0, 1, 3):
        counted = np.mean((elsewhere == 0) & (bad_cores <= spares))
        found = harvested_yield(100.0 * expected, 1.0, share, cores, spares, clustering)
        assert found == pytest.approx(counted, abs=0.002), spares


@pytest.mark.parametrize("area", [25.0, 100.0, 300.0, 500.0, 814.0])
def test_dies_on_a_wafer_are_what_a_grid_holds(area) -> None:
    side, radius = np.sqrt(area) + 0.1, 147.0
    best = 0
    for dx in np.linspace(0, 1, 12, endpoint=False):
        for dy in np.linspace(0, 1, 12, endpoint=False):
            left, low = np.meshgrid((np.arange(-80, 80) + dx) * side, (np.arange(-80, 80) + dy) * side)
            far = np.maximum(np.abs(left), np.abs(left + side)) ** 2 + np.maximum(np.abs(low), np.abs(low + side)) ** 2
            best = max(best, int(np.sum(far <= radius**2)))
    assert dies_per_wafer(area) == pytest.approx(best, rel=0.04)


def test_arrays_are_each_alone() -> None:
    areas = np.array([100.0, 400.0, 814.0])
    found = harvested_yield(areas, np.array([0.1, 0.07, 0.07]), 0.6, 144, 12, 3.0)
    assert found[2] == pytest.approx(harvested_yield(814.0, 0.07, 0.6, 144, 12, 3.0))
    assert found.shape == (3,)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="no yield model is called 'seeds'"):
        die_yield(100.0, 0.1, "seeds")
    with pytest.raises(InputError, match="4 spare cores of 4"):
        harvested_yield(100.0, 0.1, 0.5, 4, 4)
