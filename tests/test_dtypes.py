"""Every format against definitions of its own: bits decoded one by one, numpy's types, and blocks by hand."""

import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.dtypes import (
    BF16,
    FORMATS,
    FP8,
    FP8_E5M2,
    FP16,
    FP32,
    INT4,
    INT8,
    INT32,
    MXFP4,
    NVFP4,
    Formats,
    NumberFormat,
    number_format,
)
from presilicon.errors import FormatError

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # OCP MX 1.0, table 5
anything = st.floats(-1e300, 1e300)


def decoded(exponent_bits: int, mantissa_bits: int) -> list[float]:
    """All non-negative finite codes in order: IEEE-like, with the top exponent kept for numbers (the caller cuts)."""
    bias = 2 ** (exponent_bits - 1) - 1
    found = []
    for exponent in range(2**exponent_bits):
        for mantissa in range(2**mantissa_bits):
            fraction = mantissa / 2**mantissa_bits
            found.append(math.ldexp(fraction + 1, exponent - bias) if exponent else math.ldexp(fraction, 1 - bias))
    return found


CODES = {
    "fp8": decoded(4, 3)[:-1],  # S.1111.111 is NaN
    "fp8_e5m2": decoded(5, 2)[:-4],  # the top exponent is infinity and NaN
    "fp16": decoded(5, 10)[:-1024],
    "mxfp4": E2M1,
}


def nearest_even(value: float, codes: list[float]) -> float:
    """The nearest of ``codes``, the one with an even index where two are as near; beyond them all, the last."""
    size = abs(value)
    high = min(bisect_left(codes, size), len(codes) - 1)
    best = min(range(max(high - 1, 0), high + 1), key=lambda i: (abs(codes[i] - size), i % 2))
    return math.copysign(codes[best], value)


@pytest.mark.parametrize(
    ("format", "bits", "largest", "least_normal", "count"),
    [("fp8", 8, 448.0, 2.0**-6, 127), ("fp8_e5m2", 8, 57344.0, 2.0**-14, 124), ("fp16", 16, 65504.0, 2.0**-14, 31744)],
)
def test_ranges_are_those_of_the_codes(format, bits, largest, least_normal, count):
    found, codes = FORMATS[format], CODES[format]
    assert (found.bits, found.max, found.min, found.smallest_normal) == (bits, largest, -largest, least_normal)
    assert codes[-1] == largest
    assert len(codes) == count
    assert found.bits == 1 + found.exponent_bits + found.mantissa_bits


def test_wide_formats_have_numpys_ranges():
    single, half = np.finfo(np.float32), np.finfo(np.float16)
    assert (FP32.max, FP32.smallest_normal) == (float(single.max), float(single.tiny))
    assert (FP16.max, FP16.smallest_normal) == (float(half.max), float(half.tiny))
    assert BF16.max == float(np.uint32(0x7F7F0000).view(np.float32))
    assert BF16.smallest_normal == FP32.smallest_normal
    for f in (FP32, BF16):
        assert f.bits == 1 + f.exponent_bits + f.mantissa_bits


def test_integers_are_twos_complement():
    for f in (INT4, INT8, INT32):
        assert (f.min, f.max) == (-(2 ** (f.bits - 1)), 2 ** (f.bits - 1) - 1)
        assert f.is_integer
        assert f.smallest_normal == 1
    assert INT8.round([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 1e9, -128.4, -1e9]).tolist() == [0, 2, 2, 0, -2, 127, 127, -128, -128]


def test_bytes_of_an_element_hold_its_share_of_the_scale():
    assert [f.bytes_per_element for f in (INT4, INT8, FP8, BF16, FP32)] == [0.5, 1, 1, 2, 4]
    assert MXFP4.bytes_per_element == 4.25 / 8
    assert NVFP4.bytes_per_element == 4.5 / 8


@pytest.mark.parametrize("format", ["fp8", "fp8_e5m2", "fp16"])
def test_every_value_of_a_format_is_kept_and_every_middle_goes_to_even(format):
    f, codes = FORMATS[format], np.array(CODES[format])
    assert f.round(codes).tolist() == codes.tolist()
    assert f.round(-codes).tolist() == (-codes).tolist()
    middles = (codes[:-1] + codes[1:]) / 2
    even = np.where(np.arange(len(middles)) % 2 == 0, codes[:-1], codes[1:])
    assert f.round(middles).tolist() == even.tolist()
    assert f.round(np.nextafter(middles, np.inf)).tolist() == codes[1:].tolist()
    assert f.round(np.nextafter(middles, 0)).tolist() == codes[:-1].tolist()


@pytest.mark.parametrize("format", ["fp8", "fp8_e5m2", "fp16"])
@given(value=anything)
@settings(max_examples=300)
def test_rounding_is_to_the_nearest(format, value):
    f = FORMATS[format]
    found = float(f.round(value))
    codes = CODES[format]
    step = codes[-1] - codes[-2]
    if abs(value) < f.max + step / 2:
        assert found == nearest_even(value, codes)
    else:
        assert abs(found) == (f.max if f.finite else math.inf)
    assert math.copysign(1, found) == math.copysign(1, value)


@given(anything)
@settings(max_examples=500)
def test_fp16_and_fp32_are_numpys(value):
    with np.errstate(over="ignore"):
        assert float(FP16.round(value)) == float(np.float64(value).astype(np.float16))
        assert float(FP32.round(value)) == float(np.float64(value).astype(np.float32))


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=500)
def test_bf16_is_the_upper_half_of_fp32(value):
    bits = int(np.float32(value).view(np.uint32))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    assert float(BF16.round(value)) == float(np.uint32(rounded).view(np.float32))


@pytest.mark.parametrize("f", [f for f in FORMATS.values() if not f.block], ids=str)
def test_what_is_no_number_stays_so_and_infinity_is_the_end(f):
    assert np.isnan(f.round(np.nan))
    ends = f.round([np.inf, -np.inf]).tolist()
    assert ends == ([f.max, f.min] if f.finite else [np.inf, -np.inf])
    assert f.round(0.0) == 0.0
    assert f.round(np.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("f", [f for f in FORMATS.values() if not f.block], ids=str)
@given(values=st.lists(anything, min_size=1, max_size=20))
@settings(max_examples=60)
def test_rounding_twice_is_rounding_once_and_keeps_order(f, values):
    data = np.sort(np.array(values))
    once = f.round(data)
    assert np.array_equal(f.round(once), once)
    assert np.all(np.diff(once[np.isfinite(once)]) >= 0)


blocks = st.lists(st.floats(-1e6, 1e6), min_size=32, max_size=32).map(np.array)


@given(blocks, st.integers(-60, 60))
@settings(max_examples=200)
def test_mxfp4_is_a_power_of_two_for_32_elements(block, exponent):
    data = np.ldexp(block, exponent)
    peak = float(np.max(np.abs(data)))
    scale = 2.0 ** max(-127, math.floor(math.log2(peak)) - 2) if peak > 1e-300 else 1.0
    if peak and 2.0 ** math.floor(math.log2(peak)) > peak:  # log2 rounded up
        scale /= 2
    expected = [nearest_even(v / scale, E2M1) * scale for v in data.tolist()]
    assert MXFP4.round(data).tolist() == expected


@given(blocks)
@settings(max_examples=200)
def test_nvfp4_is_an_fp8_scale_for_16_elements(block):
    expected = []
    for half in (block[:16], block[16:]):
        scale = nearest_even(float(np.max(np.abs(half))) / 6.0, CODES["fp8"]) or 1.0
        expected += [nearest_even(v / scale, E2M1) * scale for v in half.tolist()]
    assert NVFP4.round(block).tolist() == expected


@pytest.mark.parametrize("f", [MXFP4, NVFP4], ids=str)
def test_blocks_lie_along_the_last_axis(f):
    rng = np.random.default_rng(3)
    data = rng.normal(size=(3, 2, 64)) * np.array([1.0, 100.0])[:, None]
    found = f.round(data)
    assert found.shape == data.shape
    assert np.array_equal(found[1, 0], f.round(data[1, 0]))
    assert np.max(np.abs(found - data) / np.max(np.abs(data), axis=-1, keepdims=True)) <= 0.25
    assert np.array_equal(f.round(np.zeros(64)), np.zeros(64))
    with pytest.raises(FormatError, match=f"33 elements, not a multiple of {f.name}'s block of {f.block}"):
        f.round(np.zeros(33))


def test_formats_go_by_their_usual_names():
    names = {"bfloat16": BF16, "float16": FP16, "half": FP16, "FP32": FP32, " fp8_e4m3 ": FP8, "e5m2": FP8_E5M2, "fp4": NVFP4}
    for name, expected in names.items():
        assert number_format(name) is expected
    for name, expected in FORMATS.items():
        assert number_format(name) is expected
        assert str(expected) == name


@pytest.mark.parametrize("name", ["fp7", "", "int", "bf-16", "nan"])
def test_an_unknown_format_is_refused_with_the_nearest(name):
    with pytest.raises(FormatError, match="unknown number format") as caught:
        number_format(name)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (("bf16",), "bf16/bf16/bf16"),
        (("fp8",), "fp8/fp8/bf16"),
        (("int4",), "int4/bf16/bf16"),
        (("mxfp4",), "mxfp4/bf16/bf16"),
        (("nvfp4",), "nvfp4/nvfp4/bf16"),
        (("fp32",), "fp32/fp32/fp32"),
        (("int4", "int8", "fp8"), "int4/int8/fp8"),
        (("bf16", None, "fp8"), "bf16/bf16/fp8"),
    ],
)
def test_formats_of_a_model(given_, expected):
    assert str(Formats.parse(*given_)) == expected


def test_a_format_prints_as_its_name():
    assert str(NumberFormat("x", 8)) == "x"
