"""MLPerf rows predicted: what is skipped, how far off the rest is, ranks among chips, chips left out."""

import math

import numpy as np
import pytest

from presilicon.scenario.benchmarks import language_formats
from presilicon.validate import facts, fit_mlperf, mlperf, mlperf_left_out
from presilicon.validate.benchmarks import SKIPPED
from presilicon.validate.mlperf_report import contradictory, parts, ranks
from presilicon.validate.score import Predictions, score

HEADER = "round,submitter,system,accelerator,total_accelerators,benchmark,scenario,unit,value,precision,inferred,power_tuned"


def table(*rows: str) -> facts.Table:
    return facts.parse("\n".join([HEADER, *rows]) + "\n", "rows.csv")


@pytest.fixture(scope="module")
def found() -> Predictions:
    return mlperf.predict(facts.shipped("mlperf"))


def test_reasons_are_of_the_closed_list(found: Predictions):
    assert set(found.reason.tolist()) <= {"", *SKIPPED.values()}
    assert np.mean(~found.used) <= 0.2


def test_every_prediction_is_a_finite_number(found: Predictions):
    assert np.all(np.isfinite(found.predicted[found.used]))
    assert np.all(found.predicted[found.used] > 0)


def test_errors_are_within_the_bar(found: Predictions):
    shown = parts(found)
    for name in ("all_rows", "held_back", "not_held_back", "server", "language_server", "language_server_held_back"):
        assert shown[name]["median_ape"] <= 0.25, name
    assert shown["held_back"]["rows"] + shown["not_held_back"]["rows"] == shown["all_rows"]["rows"] == int(found.used.sum())
    assert shown["all_rows"]["median_ape"] == score(found.measured[found.used], found.predicted[found.used]).median_ape


def test_ranks_among_chips(found: Predictions):
    entries = {entry["group"]: entry for entry in ranks(found)}
    assert len(entries) >= 14
    for name, entry in entries.items():
        assert entry["chips"] >= 8
        assert entry.get("without_contradictory", entry["spearman"]) >= 0.9, name
    odd = entries["retinanet SingleStream ms"]
    assert odd["spearman"] < odd["without_contradictory"]
    assert [text.split(":")[0] for text in odd["contradictory"]] == [
        "v5.1 HPE HPE_PROLIANT_ML30_RTX_4000_Ada_PCIE_20GBx1_TRT_TRT"
    ]
    assert [name for name, entry in entries.items() if "contradictory" in entry] == ["retinanet SingleStream ms"]


def test_one_sample_that_takes_longer_than_eight_is_contradictory():
    rows = table(
        "v9,a,s,NVIDIA T4,1,resnet50,SingleStream,ms,3,int8,0,0",
        "v9,a,s,NVIDIA T4,1,resnet50,MultiStream,ms,2,int8,0,0",
        "v9,a,other,NVIDIA T4,1,resnet50,SingleStream,ms,3,int8,0,0",
        "v9,b,s,NVIDIA T4,1,resnet50,SingleStream,ms,1,int8,0,0",
        "v9,b,s,NVIDIA T4,1,resnet50,MultiStream,ms,2,int8,0,0",
    )
    assert contradictory(mlperf.predict(rows)).tolist() == [True, False, False, False, False]


def test_best_rows_are_taken_per_accelerator():
    rows = [f"v9,a,s{n},{chip},{n},resnet50,Offline,samples/s,{value},int8,0,0"
            for chip in ("NVIDIA T4", "NVIDIA A2", "NVIDIA L4", "NVIDIA A30", "NVIDIA Jetson AGX Orin", "NVIDIA H100-SXM-80GB",
                         "NVIDIA A100-SXM-80GB", "FuriosaAI Warboy")
            for n, value in ((1, 1000), (8, 4000))]  # fmt: skip
    (entry,) = ranks(mlperf.predict(table(*rows)))
    assert entry["chips"] == 8
    assert entry["spearman"] is None  # every chip's best row is the one of 1,000 a card


@pytest.mark.parametrize("accelerator", ["nvidia-l40s", "nvidia-b200-sxm-180gb", "nvidia-a30", "amd-instinct-mi300x",
                                         "google-tpu-v7", "intel-gaudi3", "groq-lpu-v1", "nowhere"])  # fmt: skip
@pytest.mark.parametrize("precision", ["", "fp8", "nvfp4", "bf16", "int4"])
def test_chips_and_formats_that_no_fit_saw(accelerator: str, precision: str):
    cases = (
        ("resnet50", "Offline", "samples/s"), ("bert-99.9", "Server", "queries/s"), ("retinanet", "SingleStream", "ms"),
        ("resnet50", "MultiStream", "streams"), ("llama2-70b-99", "Offline", "tokens/s"),
        ("llama3.1-405b", "Server", "tokens/s"), ("llama3.1-8b", "Interactive", "tokens/s"),
        ("dlrm-v2-99", "Offline", "samples/s"),
        ("llama3.1-8b", "SingleStream", "ms"),
    )  # fmt: skip
    rows = [f"v9,a,s,{accelerator},{chips},{b},{s},{u},10,{precision},0,0" for b, s, u in cases for chips in (1, 3, 8)]
    got = mlperf.predict(table(*rows))
    assert set(got.reason.tolist()) <= {"", *SKIPPED.values()}
    assert all(math.isfinite(value) and value > 0 for value in got.predicted[got.used].tolist())
    if accelerator in ("nvidia-l40s", "nvidia-b200-sxm-180gb"):
        assert got.used.sum() >= len(rows) - 3


def test_weights_of_four_bits_need_a_rate_of_sixteen():
    from presilicon import chip

    blank = chip.load("intel-arc-pro-b60-dual-48g-maxsun")
    assert language_formats(blank, "uint4") is None
    assert str(language_formats(chip.load("nvidia-l40s"), "int4")) == "int4/bf16/fp8"


def test_a_chip_left_out_of_its_family_is_met_almost_as_well(found: Predictions):
    entries = {entry["chip"]: entry for entry in mlperf_left_out.entries(found)}
    assert len(entries) > 20
    assert entries["all"]["median_ape"] <= 1.4 * 0.25
    assert entries["all"]["over_usual"] <= 1.4
    assert entries["all"]["rows"] == sum(entry["rows"] for name, entry in entries.items() if name != "all")


def test_constants_of_a_chip_left_out_never_saw_it(found: Predictions):
    members = mlperf_left_out.members(found.table)
    for name, chips in mlperf_left_out.left_out().items():
        assert set(chips) <= set(members[name])
        every = {frozenset(entry["constants"]) for entry in chips.values()}
        assert len(every) == 1  # a constant that only one chip taught has its beginning for that chip
        for own, entry in chips.items():
            assert own not in entry["fitted_on"]
            assert set(entry["fitted_on"]) <= set(members[name])
            assert len(entry["constants"]) <= 12


def test_a_fit_without_a_chip_looks_at_no_row_of_it(found: Predictions):
    rows = fit_mlperf.rows_of(found.table, "nvidia-turing", without="nvidia-t4", held=True)
    seen = set(mlperf.rows_reason(rows).chip.tolist())
    assert seen == {"nvidia-quadro-rtx-8000", "nvidia-titan-rtx"}
    assert not set(rows["scenario"].tolist()) & {"Server", "Interactive"}
