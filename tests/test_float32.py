"""The fp32 arithmetic against exact rational numbers, its rules for special values, and the published seed tables."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon import float32

ANY = st.one_of(
    st.integers(0, (1 << 32) - 1),
    st.builds(lambda s, e, f: s << 31 | e << 23 | f, st.integers(0, 1), st.integers(0, 255), st.integers(0, 7)),
    st.builds(lambda s, e, f: s << 31 | e << 23 | 0x7FFFFF - f, st.integers(0, 1), st.integers(0, 255), st.integers(0, 7)),
)
SIGN = 1 << 31


def word(a: int) -> np.ndarray:
    return np.array([a], np.uint32)


def exact(a: int) -> Fraction | None:
    """The number of bits, subnormals as 0; None where it is not finite."""
    exponent, fraction = a >> 23 & 255, a & 0x7FFFFF
    if exponent == 255:
        return None
    value = Fraction(fraction | 0x800000) * Fraction(2) ** (exponent - 150) if exponent else Fraction(0)
    return -value if a >> 31 else value


def nearest(value: Fraction, sign_of_zero: int) -> int:
    """Bits of an exact value: rounded as IEEE 754 says, subnormals too, which then become zero."""
    if value == 0:
        return sign_of_zero << 31
    sign, magnitude = (value < 0) << 31, abs(value)
    exponent = max(math.floor(math.log2(magnitude)) + 1, -125)
    while exponent > -125 and magnitude < Fraction(2) ** (exponent - 1):
        exponent -= 1
    while magnitude >= Fraction(2) ** exponent:
        exponent += 1
    units = round(magnitude / Fraction(2) ** (exponent - 24))  # ties to even
    if units == 1 << 24:
        units, exponent = 1 << 23, exponent + 1
    if units < 1 << 23:
        return sign
    if exponent > 128:
        return sign | float32.INFINITY
    return sign | (exponent + 126) << 23 | units & 0x7FFFFF


@given(ANY, ANY)
def test_add_and_multiply_are_exact_results_rounded(a: int, b: int) -> None:
    x, y = exact(a), exact(b)
    if x is None or y is None:
        return
    zero = (a >> 31) & (b >> 31)
    assert int(float32.add(word(a), word(b))[0]) == nearest(x + y, zero if x == y == 0 else 0)
    assert int(float32.multiply(word(a), word(b))[0]) == nearest(x * y, (a ^ b) >> 31)


@given(ANY)
def test_integers(a: int) -> None:
    value = exact(a)
    signed = a - (1 << 32) if a >> 31 else a
    assert int(float32.from_int32(np.array([signed], np.int32))[0]) == nearest(Fraction(signed), 0)
    if value is not None:
        assert int(float32.to_int32(word(a))[0]) == min(max(round(value), -(1 << 31)), (1 << 31) - 1)
        assert int(float32.to_int8(word(a), -7)[0]) == min(max(round(value) - 7, -128), 127)
        assert int(float32.round_even(word(a))[0]) == nearest(Fraction(round(value)), a >> 31)


@given(ANY, ANY)
def test_maximum(a: int, b: int) -> None:
    got = int(float32.maximum(word(a), word(b))[0])
    flushed = [x if x >> 23 & 255 else x & SIGN for x in (a, b)]
    if any((x & ~SIGN) > float32.INFINITY for x in (a, b)):
        assert got == float32.NAN
    else:
        key = {x: -(x ^ SIGN) if x >> 31 else x for x in flushed}
        assert got in flushed
        assert all(key[got] >= key[x] for x in flushed)
        assert not (got == SIGN and 0 in flushed)


def test_special_values() -> None:
    one, tiny, infinity, nan = float32.bits(1.0), 0x00000001, float32.INFINITY, 0xFFA00001
    cases = [
        (float32.add, infinity, infinity | SIGN, float32.NAN),
        (float32.add, nan, one, float32.NAN),
        (float32.add, tiny, tiny, 0),
        (float32.add, tiny | SIGN, SIGN, SIGN),
        (float32.multiply, infinity, tiny, float32.NAN),
        (float32.multiply, tiny | SIGN, one, SIGN),
        # 2^-126 * (1 - 2^-24) is half a unit below the lowest normal number: it rounds up to it, so it is not flushed.
        (float32.multiply, 0x00800001, 0x3F7FFFFE, 0x00800000),
        (float32.multiply, 0x00800000, 0x3F7FFFFF, 0x00800000),
        (float32.multiply, 0x00800000, 0x3F7FFFFE, 0),
    ]
    for operation, a, b, wanted in cases:
        assert int(operation(word(int(a)), word(int(b)))[0]) == wanted
    select = float32.select(np.array([SIGN, SIGN | 5, SIGN | 0x800000, nan, 0], np.uint32), word(1), word(nan))
    assert select.tolist() == [0, 0, float32.NAN, float32.NAN, 0]
    assert int(float32.to_int32(word(nan))[0]) == 0
    assert int(float32.to_int8(word(nan), 9)[0]) == 9
    assert float32.negate(word(nan))[0] == nan ^ SIGN


def test_no_operation_warns() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 1 << 32, (2, 10000), dtype=np.uint32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for operation in (float32.add, float32.multiply, float32.maximum):
            assert operation(a, b).dtype == np.uint32
        for one in (float32.round_even, float32.reciprocal_seed, float32.reciprocal_root_seed, float32.canonical):
            assert one(a).dtype == np.uint32
        assert float32.select(a, b, a).dtype == np.uint32
        assert float32.to_int32(a).dtype == np.int32
        assert float32.to_int8(a).dtype == np.int8
        assert float32.add(a[:, None][:4], b[:3]).shape == (4, 3)


def test_tables_are_the_published_ones() -> None:
    """A few entries of the tables of vfrec7 and vfrsqrt7 as RISC-V "V" 1.0 prints them."""
    recip, root = float32.reciprocal_table(), float32.reciprocal_root_table()
    assert recip[:10] == (127, 125, 123, 121, 119, 117, 116, 114, 112, 110)
    assert recip[-10:] == (5, 4, 4, 3, 3, 2, 2, 1, 1, 0)
    assert root[:10] == (52, 51, 50, 48, 47, 46, 44, 43, 42, 41)
    assert root[60:70] == (2, 1, 1, 0, 127, 125, 123, 121, 119, 118)
    assert root[-5:] == (56, 56, 55, 54, 53)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_seeds_are_close(power: float) -> None:
    a = np.random.default_rng(1).integers(0x00800000, 252 << 23, 100000, dtype=np.uint32)
    seed = (float32.reciprocal_seed if power == 1 else float32.reciprocal_root_seed)(a)
    wanted = float32.numbers(a).astype(np.float64) ** -power
    normal = wanted >= 2.0**-126
    assert (np.abs(float32.numbers(seed)[normal] / wanted[normal] - 1) < 2**-7).all()


def test_seeds_of_special_values() -> None:
    a = np.array([0, SIGN, 5, SIGN | 5, 0x7F800000, 0xFF800000, 0x7F800001, 0xBF800000, 253 << 23, 254 << 23 | SIGN], np.uint32)
    inf, nan = float32.INFINITY, float32.NAN
    assert float32.reciprocal_seed(a).tolist()[:7] == [inf, inf | SIGN, inf, inf | SIGN, 0, SIGN, nan]
    assert float32.reciprocal_seed(a).tolist()[8:] == [0, SIGN]
    assert float32.reciprocal_root_seed(a).tolist()[:8] == [inf, inf | SIGN, inf, inf | SIGN, 0, nan, nan, nan]
