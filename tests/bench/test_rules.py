"""MLPerf's rules as LoadGen applies them."""

import numpy as np
import pytest
from scipy.stats import binom

from presilicon.bench import _rules as rules


@pytest.mark.parametrize("percentile", [90.0, 97.0, 99.0])
@pytest.mark.parametrize("queries", [20, 64, 100, 459, 662, 8192, 270336])
def test_early_stopping_is_a_binomial_test_at_99_percent(queries, percentile):
    most = rules.most_late(queries, percentile)
    share = 1 - percentile / 100
    assert binom.cdf(most + 1, queries, share) > 0.01
    assert most == -1 or binom.cdf(most, queries, share) <= 0.01


def test_early_stopping_has_the_counts_that_loadgen_names():
    # "Processed at least 64 queries", "at least 662 total queries": LoadGen's summary of a run with one late query.
    assert [rules.most_late(n, 90.0) for n in (63, 64)] == [0, 1]
    assert [rules.most_late(n, 99.0) for n in (661, 662)] == [0, 1]
    assert [rules.most_late(n, 99.0) for n in (458, 459)] == [-1, 0]


def test_a_percentile_is_the_value_at_the_floor_of_its_share():
    values = np.arange(100.0)
    assert rules.percentile_of(values, 90.0) == 90.0
    assert rules.percentile_of(values, 99.9) == 99.0
    assert rules.percentile_of(values[:1], 50.0) == 0.0


def test_the_schedule_is_poisson_and_the_same_each_time():
    gaps = np.diff(rules.unit_schedule(50_000))
    assert rules.unit_schedule(50_000)[0] == 0.0
    assert gaps.mean() == pytest.approx(1.0, rel=0.02)
    assert gaps.std() == pytest.approx(1.0, rel=0.02)
    assert np.array_equal(rules.unit_schedule(1000), rules.unit_schedule(50_000)[:1000])


def test_each_chip_of_a_server_gets_its_share():
    counts = np.bincount(rules.assignment(8000, 4), minlength=4)
    assert counts.min() > 1850
    assert counts.sum() == 8000
