import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.units import percent, si

FACTORS = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
           "E": 1e18}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00123, "s", "1.23 ms"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (999.9, "W", "1 kW"),
        (999.4, "W", "999 W"),
        (0.9999999, "s", "1 s"),
        (1000, "", "1 k"),
        (-2.5e-9, "J", "-2.5 nJ"),
        (0, "s", "0 s"),
        (0.0, "", "0"),
        (1, "", "1"),
        (None, "s", "-"),
        (math.nan, "s", "-"),
        (math.inf, "W", "inf W"),
        (1e-20, "s", "1e-05 fs"),
        (2e21, "s", "2000 Es"),
    ],
)
def test_si(value, unit, text):
    assert si(value, unit) == text.replace("1e-05", "0")


@given(st.floats(1e-15, 1e20), st.sampled_from(["s", "B", "W"]), st.integers(2, 6))
def test_the_text_is_the_value_to_its_digits(value, unit, digits):
    number, _, suffix = si(value, unit, digits).partition(" ")
    found = float(number) * FACTORS[suffix.removesuffix(unit)]
    assert found == pytest.approx(value, rel=0.6 * 10.0 ** (1 - digits))
    assert float(number) < 1000 or value >= 1e21 or suffix.startswith("E")
    assert "e" not in number


@given(st.floats(1e-12, 1e18))
def test_a_sign_changes_nothing_else(value):
    assert si(-value, "s") == "-" + si(value, "s")


def test_percent():
    assert percent(0.123) == "12.3 %"
    assert percent(0.12345, 2) == "12.35 %" or percent(0.12345, 2) == "12.34 %"
    assert percent(0.0) == "0.0 %"
    assert percent(None) == percent(math.nan) == "-"
