"""The memory model: laws, figures worked out by hand, and equality with the C++ of the RTL's harness."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import asdict
from importlib import resources

import numpy as np
import pytest

from presilicon.dram import Dram, DramOptions, splitmix64
from presilicon.errors import InputError

SHIM = """
#include "dram.hpp"
extern "C" void serve(const Options* options, const int64_t* bursts, int64_t count, int64_t* times) {
  Dram dram(*options);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t start = dram.serve(bursts[3 * i], bursts[3 * i + 1], uint64_t(bursts[3 * i + 2]));
    times[3 * i] = start;
    times[3 * i + 1] = dram.beat(start, bursts[3 * i + 1] - 1);
    times[3 * i + 2] = dram.response();
  }
}
extern "C" void held(const Options* options, int64_t cycles, int64_t* found) {
  Dram dram(*options);
  for (int64_t i = 0; i < 5 * cycles; ++i) found[i] = dram.held(Channel(i % 5), i / 5);
}
"""
OPTIONS = [
    DramOptions(),
    DramOptions(latency=1, num=7, den=3),
    DramOptions(latency=90, num=1, den=4, row_bytes=2048, banks=8, row_miss=21),
    DramOptions(refresh_interval=1000, refresh_cycles=100, stall_seed=123456, stall_max=77, stall_percent=35),
    DramOptions(num=5, den=4, row_bytes=1000, banks=3, row_miss=4, stall_seed=1, stall_max=1, stall_percent=100),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dram")
    (folder / "dram.hpp").write_text((resources.files("presilicon.rtl") / "dram.hpp").read_text())
    (folder / "shim.cpp").write_text(SHIM)
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.cpp"], check=True)
    return ctypes.CDLL(str(folder / "shim.so"))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(o.active()) or "default")
def test_harness_has_the_same_times(compiled, options: DramOptions) -> None:
    rng = np.random.default_rng(3)
    count = 2000
    arrivals = np.cumsum(rng.integers(0, 60, count))
    bursts = np.stack([arrivals, rng.integers(1, 257, count), rng.integers(0, 1 << 40, count) & ~15], axis=1).astype(np.int64)
    bursts[: count // 2, 2] &= 0xFFFF
    times = np.zeros((count, 3), np.int64)
    fields = (ctypes.c_int64 * 14)(*asdict(options).values(), 0, 0)
    pointer = ctypes.POINTER(ctypes.c_int64)
    compiled.serve(fields, bursts.ctypes.data_as(pointer), ctypes.c_int64(count), times.ctypes.data_as(pointer))
    dram = Dram(options)
    for (arrival, beats, address), seen in zip(bursts.tolist(), times.tolist(), strict=True):
        start, free = dram.serve(arrival, beats, address)
        assert [start, dram.beat(start, beats - 1), dram.response(free)] == seen


def test_worked_example() -> None:
    dram = Dram(DramOptions(latency=10, num=3, den=2, row_bytes=64, banks=2, row_miss=5))
    assert dram.serve(0, 4, 0) == (6, 12)  # arrival + 1, a row to open, 4 beats of 1.5 cycles
    assert [dram.beat(6, j) for j in range(4)] == [17, 18, 20, 21]
    assert dram.serve(3, 1, 32) == (12, 14)  # free at 12, row open
    assert dram.serve(3, 1, 64) == (19, 21)  # the other bank
    assert dram.serve(30, 1, 128) == (36, 38)  # another row of the first bank
    assert dram.response(38) == 48
    assert dram.served == 4


def test_refresh() -> None:
    dram = Dram(DramOptions(refresh_interval=100, refresh_cycles=20))
    assert dram.serve(95, 10, 0) == (96, 106)  # begins before the refresh: goes through
    assert dram.serve(96, 1, 0) == (120, 121)
    assert dram.serve(200, 1, 0) == (220, 221)


def test_splitmix64_is_the_published_one() -> None:
    assert [splitmix64(0), splitmix64(0x9E3779B97F4A7C15)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": 0},
        {"den": 0},
        {"num": 1 << 31},
        {"refresh_interval": 10, "refresh_cycles": 10},
        {"row_miss": 3},
        {"stall_percent": 101, "stall_max": 1},
        {"stall_percent": 5},
        {"back_pressure": 95},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        DramOptions(**wrong)


def test_active_names_what_differs() -> None:
    assert DramOptions().active() == ()
    assert DramOptions(latency=50, num=2).active() == ("latency=50", "num=2")


@pytest.mark.parametrize("percent", [0, 1, 30, 90])
def test_harness_holds_back_in_the_same_cycles(compiled, percent: int) -> None:
    options = DramOptions(back_pressure=percent, stall_seed=77)
    fields = (ctypes.c_int64 * 14)(*asdict(options).values(), 0, 0)
    found = np.zeros((2000, 5), np.int64)
    compiled.held(fields, ctypes.c_int64(2000), found.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)))
    dram = Dram(options)
    for channel in range(5):
        free = np.flatnonzero(found[:, channel] == 0)
        passed = [dram.passes(channel, cycle) for cycle in range(1900)]
        assert passed == [int(free[free >= cycle][0]) for cycle in range(1900)]
        assert abs(found[:, channel].mean() - percent / 100) < 0.05
    # The channels are held back independently of one another.
    if percent == 30:
        assert np.abs(np.corrcoef(found.T) - np.eye(5)).max() < 0.1
