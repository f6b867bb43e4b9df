from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import chip
from presilicon.chip import Memory
from presilicon.dtypes import Formats
from presilicon.errors import CapacityError, ChipError, FormatError, ParallelismError, WorkloadError
from presilicon.estimate import Load, machine, report_of, service_cost
from presilicon.estimate.reporting import best_way, formats_for, ways
from presilicon.frontend import load
from presilicon.mapping import Parallelism

LLAMA, GPT_OSS, RESNET = load("llama-3.1-8b"), load("openai/gpt-oss-120b"), load("resnet50")
H100 = chip.load("h100")
CHIPS = [c for c in chip.library() if not c.missing() and {"bf16", "fp16"} & set(c.peak_ops_per_s)]


@given(st.sampled_from(CHIPS), st.sampled_from([LLAMA, RESNET]), st.integers(1, 16))
@settings(max_examples=80, deadline=None)
def test_intervals_hold_the_estimate(c, model, batch):
    try:
        report = report_of(model, c, batch=batch)
    except (CapacityError, ChipError, FormatError):
        return
    for name, (low, high) in report.intervals.items():
        assert 0 < low <= getattr(report, name) <= high < np.inf, name
    assert "latency_s" in report.intervals


@pytest.mark.parametrize("p", [Parallelism(), Parallelism(tensor=4), Parallelism(data=2)])
def test_operators_add_up_to_the_whole(p):
    report = report_of(LLAMA, H100, parallelism=p, batch=8)
    assert sum(o.latency_s for o in report.operators) <= report.latency_s
    assert sum(o.latency_s for o in report.operators) > 0.8 * report.latency_s
    assert sum(o.energy_j for o in report.operators) <= report.energy_j * (1 + 1e-9)
    assert sum(o.energy_j for o in report.operators) > 0.8 * report.energy_j
    assert all(0 <= o.utilization <= 1 for o in report.operators)
    counts = {o.name: o.count for o in report.operators}
    assert (counts["prefill.qkv"], counts["decode.qkv"]) == (32, 32 * 127)


def test_operators_of_a_pipeline_take_the_energy_of_all_its_parts():
    report = report_of(LLAMA, H100, parallelism=Parallelism(pipeline=2), batch=8)
    energy = sum(o.energy_j for o in report.operators)
    assert 0.8 * report.energy_j < energy <= report.energy_j * (1 + 1e-9)


def test_the_report_says_what_service_cost_says():
    report = report_of(GPT_OSS, chip.load("h200"), chips=2, batch=16, input_tokens=500, output_tokens=50)
    p = best_way(machine(chip.load("h200")), GPT_OSS, Load(16, 500, 50), GPT_OSS.default_formats, 2)
    cost = service_cost(machine(chip.load("h200")), GPT_OSS, Load(16, 500, 50), formats=GPT_OSS.default_formats, parallelism=p)
    for name in ("latency_s", "time_to_first_token_s", "time_per_output_token_s", "energy_j", "power_w", "memory_bytes"):
        assert getattr(report, name) == float(getattr(cost, name)), name
    assert (report.chips, report.parallelism) == (2, str(p))
    assert report.to_json()["intervals"]["latency_s"]["low"] == report.intervals["latency_s"][0]


def test_a_network_has_no_tokens():
    report = report_of(RESNET, chip.load("l4"), batch=8)
    assert report.time_to_first_token_s is None
    assert report.tokens_per_s is None
    assert report.throughput_per_s == 8 / report.latency_s
    shared = report_of(RESNET, chip.load("l4"), batch=8, chips=2)
    assert shared.latency_s < report.latency_s
    with pytest.raises(ParallelismError, match="shared by its samples only"):
        report_of(RESNET, H100, parallelism=Parallelism(tensor=2))


def test_formats_are_the_checkpoints_unless_named():
    assert formats_for(GPT_OSS, None, None, None) == GPT_OSS.default_formats
    assert str(formats_for(LLAMA, "fp8", None, None)) == "fp8/fp8/bf16"
    assert str(formats_for(LLAMA, None, None, "fp8")) == "bf16/bf16/fp8"
    assert str(formats_for(RESNET, None, None, None)) == str(Formats())
    with pytest.raises(FormatError):
        formats_for(LLAMA, "fp7", None, None)


def test_every_way_uses_all_chips_and_the_best_is_among_them():
    for chips in (1, 2, 6, 8, 16):
        found = list(ways(GPT_OSS, chips))
        assert all(p.chips == chips for p in found)
        assert all(GPT_OSS.layers % p.pipeline == 0 for p in found)
        assert len({str(p) for p in found}) == len(found)
    m, load_ = machine(H100), Load(16, 512, 64)
    best = best_way(m, LLAMA, load_, Formats(), 8)
    chosen = float(service_cost(m, LLAMA, load_, formats=Formats(), parallelism=best).latency_s)
    for p in ways(LLAMA, 8):
        assert chosen <= float(service_cost(m, LLAMA, load_, formats=Formats(), parallelism=p).latency_s)
    with pytest.raises(ParallelismError, match="cannot be shared by 7 chips"):
        best_way(m, LLAMA, load_, Formats(), 7)


def test_what_cannot_be_is_refused():
    with pytest.raises(ParallelismError, match="are 4 chips, not 3"):
        report_of(LLAMA, H100, chips=3, parallelism=Parallelism(tensor=4))
    with pytest.raises(WorkloadError, match="are more than Llama"):
        report_of(LLAMA, H100, input_tokens=200_000)
    with pytest.raises(CapacityError, match="usable"):
        report_of(GPT_OSS, chip.load("l4"))
    with pytest.raises(ChipError, match="peak_ops_per_s"):
        report_of(LLAMA, chip.load("etched-sohu"))
    with pytest.raises(ChipError, match=r"memory.bytes is not published"):
        report_of(LLAMA, replace(H100, memory=Memory("HBM3", None, 3.35e12)))
    with pytest.raises(FormatError, match="no matrix unit"):
        report_of(LLAMA, chip.load("furiosaai-warboy"))
