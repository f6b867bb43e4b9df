from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.chip import load
from presilicon.estimate.collective import collective_cost
from presilicon.estimate.machine import machine, stack
from presilicon.graph import Collective

H200 = machine(load("nvidia-h200-sxm-141gb"))
SWITCHED = replace(H200, constants=replace(H200.constants, in_switch_share=0.58))
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send")
kinds = st.sampled_from(KINDS)
counts = st.integers(1, 256)
sizes = st.integers(0, 2**32)


def cost(kind, chips, message, on=SWITCHED):
    return collective_cost(on, Collective(name="c", collective=kind, message_bytes=message, chips=chips))


@given(kinds, counts, sizes, sizes)
def test_larger_message_is_never_faster(kind, chips, a, b):
    low, high = sorted((a, b))
    assert cost(kind, chips, low).latency_s <= cost(kind, chips, high).latency_s


@given(kinds, counts, sizes, st.floats(1e9, 2e12), st.floats(1.0, 100.0))
def test_more_link_bandwidth_is_never_slower(kind, chips, message, bandwidth, factor):
    slow = replace(SWITCHED, link_bytes_per_s=bandwidth)
    fast = replace(SWITCHED, link_bytes_per_s=bandwidth * factor)
    assert cost(kind, chips, message, fast).latency_s <= cost(kind, chips, message, slow).latency_s


@given(kinds, st.integers(2, 256), sizes)
def test_never_below_the_links_and_the_start(kind, chips, message):
    c = cost(kind, chips, message)
    assert c.latency_s >= c.link_bytes / SWITCHED.link_bytes_per_s
    assert c.latency_s >= SWITCHED.constants.collective_start_s
    assert 0 <= c.link_bytes <= 2 * message


@given(kinds, counts, st.lists(sizes, min_size=1, max_size=8))
def test_array_equals_scalar_bit_for_bit(kind, chips, messages):
    machines = [SWITCHED, replace(SWITCHED, link_bytes_per_s=300e9), replace(SWITCHED, link_bytes_per_s=31.5e9)]
    whole = cost(kind, chips, np.array(messages, dtype=np.float64), stack(machines).reshaped(1))
    for i, one in enumerate(machines):
        for j, message in enumerate(messages):
            alone = cost(kind, chips, message, one)
            for name in ("latency_s", "link_bytes", "link_s", "overhead_s", "dram_bytes"):
                values = np.broadcast_to(getattr(whole, name), (len(machines), len(messages)))
                assert values[i, j] == getattr(alone, name)


def test_one_chip_exchanges_nothing():
    assert cost("all_reduce", 1, 2**20).latency_s == 0.0
    assert cost("send", 1, np.array([1.0, 2.0])).latency_s.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_more_chips_take_longer_to_start_but_not_without_bound(kind):
    starts = [cost(kind, n, 512).latency_s for n in (2, 4, 8, 72)]
    assert starts == sorted(starts)
    assert starts[-1] < 60e-6


def test_a_switch_that_reduces_helps_large_all_reduces_only():
    assert cost("all_reduce", 8, 2**29).latency_s < 0.9 * cost("all_reduce", 8, 2**29, H200_RING).latency_s
    assert cost("all_gather", 8, 2**29).latency_s == cost("all_gather", 8, 2**29, H200_RING).latency_s
    assert cost("all_reduce", 2, 2**29).latency_s == cost("all_reduce", 2, 2**29, H200_RING).latency_s


H200_RING = replace(H200, constants=replace(H200.constants, in_switch_share=0.0))


def test_without_links_the_host_carries_it():
    alone = replace(SWITCHED, link_bytes_per_s=31.5e9, host_bytes_per_s=31.5e9)
    seconds = cost("all_reduce", 4, 2**28, alone).latency_s
    assert 1.5 * 2**28 / 31.5e9 < seconds < 2.5 * 2**28 / 31.5e9


@pytest.mark.parametrize(
    ("kind", "chips", "message", "measured_s"),
    [
        ("all_reduce", 8, 512, 1.60e-5),  # kernels_collective.csv, H200
        ("all_reduce", 8, 2**29, 2.04e-3),
        ("all_gather", 4, 2**25, 1.051e-4),
        ("alltoall", 8, 2**26, 2.104e-4),
        ("reduce_scatter", 2, 2**20, 1.03e-5),
    ],
)
def test_near_what_was_measured(kind, chips, message, measured_s):
    hopper = {"collective_start_s": 4.55e-6, "collective_hop_s": 7.88e-7, "collective_line_s": 7.7e-7}
    hopper |= {"collective_copy_s": 1.43e-5, "link_share": 0.797, "in_switch_share": 0.58}
    on = replace(H200, constants=replace(H200.constants, **hopper))
    assert cost(kind, chips, message, on).latency_s == pytest.approx(measured_s, rel=0.15)
