import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.estimate.intervals import Interval, interval, intervals
from presilicon.validate.residuals import interval_of


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
def test_an_interval_holds_the_estimate(ratios: list[float]):
    found = Interval(**interval_of(np.array(ratios)))
    assert 0 < found.low <= 1 <= found.high


def test_shipped_intervals_hold_the_estimate_and_others_are_wider():
    for name, entries in intervals().items():
        for what in entries:
            low, high = interval(name, what)
            assert 0.1 < low <= 1 <= high < 10
            other_low, other_high = interval("never-validated", what)
            assert other_low <= low
            assert other_high >= high


def test_what_was_never_measured_is_the_widest_of_its_kind():
    low, high = interval("nvidia-hopper", "gemm no-such-format")
    assert low <= min(interval("other", "gemm bf16")[0], interval("other", "gemm fp8")[0])
    assert high >= interval("other", "gemm bf16")[1]
    assert interval("nvidia-hopper", "nothing like it") == (0.4, 2.5)


def test_an_interval_beside_the_estimate_is_refused():
    with pytest.raises(ValueError, match="does not hold the estimate"):
        Interval(1.1, 2.0, 5)
