"""What validation must show on the measured kernels: held-back rows, and chips left out of the fit."""

import time

import pytest

from presilicon.validate import facts, gemm, power
from presilicon.validate.report import ValidationReport, validate
from presilicon.validate.score import TableReport

pytestmark = pytest.mark.facts

BARS = {"gemm bf16": 0.08, "gemm fp8": 0.13, "attention": 0.15, "collective": 0.15, "power": 0.15}
LEFT_OUT = 1.4
CHIPS = ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm-80gb", "nvidia-h200-sxm-141gb")


def bar(table: str, label: str) -> float:
    return BARS.get(f"{table} {label}", BARS.get(table, 1.0))


@pytest.fixture(scope="module")
def report() -> ValidationReport:
    found = facts.folder()
    assert found is not None
    names = ("kernels_gemm", "kernels_power", "kernels_attention", "kernels_collective")
    return validate([found / f"{name}.csv" for name in names])


def table(report: ValidationReport, name: str) -> TableReport:
    return next(t for t in report.tables if t.table == name)


@pytest.mark.parametrize("name", ["gemm", "power", "attention", "collective"])
def test_held_back_shapes_are_met(report: ValidationReport, name: str):
    entries = table(report, name).by_chip
    assert not table(report, name).skipped
    # attention and collectives are judged a chip, the others a chip and format
    wanted = [e for e in entries if (e["format"] == "all") == (name in ("attention", "collective"))]
    assert wanted
    for entry in wanted:
        assert entry["held_back_rows"] > 100 or name == "collective"
        assert entry["median_ape"] <= bar(name, entry["format"]), entry


@pytest.mark.parametrize("name", ["gemm", "attention", "collective"])
def test_the_plain_roofline_is_worse(report: ValidationReport, name: str):
    found = table(report, name)
    assert found.roofline is not None
    assert found.median_ape is not None
    assert found.median_ape < 0.7 * found.roofline["median_ape"]


@pytest.mark.parametrize("name", ["gemm", "attention", "collective"])
def test_a_chip_left_out_is_met_almost_as_well(report: ValidationReport, name: str):
    entries = [e for e in table(report, name).leave_one_out if e["fitted_on"]]
    assert {e["chip"] for e in entries} == set(CHIPS[1:])
    for chip in CHIPS[1:]:
        own = [e for e in entries if e["chip"] == chip and (e["format"] == "all") == (name != "gemm")]
        assert own
        for entry in own:
            assert entry["median_ape"] <= LEFT_OUT * bar(name, entry["format"]), entry


def test_no_chip_left_out_says_anything_of_energy(report: ValidationReport):
    assert table(report, "power").leave_one_out == []  # the power of one chip was measured


def test_large_matmuls_cost_what_was_published(report: ValidationReport):
    by_format = {e["format"]: e for e in table(report, "power").extra["large_matmuls"]}
    assert by_format["bf16"]["predicted_j_per_flop"] == pytest.approx(0.99e-12, rel=0.1)
    assert by_format["fp8"]["predicted_j_per_flop"] == pytest.approx(0.62e-12, rel=0.1)


def test_all_measured_gemms_take_about_a_second():
    found = facts.folder()
    assert found is not None
    read = facts.read(found / "kernels_gemm.csv")
    start = time.perf_counter()
    gemm.predict(read)
    power.predict(facts.read(found / "kernels_power.csv"))
    assert time.perf_counter() - start < 3.0


def test_few_constants_are_fitted(report: ValidationReport):
    for found in report.tables:
        for values in found.constants.values():
            assert 1 <= len(values) <= 12


def test_serving_points_are_met_through_the_replay():
    """Held-back rows of all models and both chips at their concurrency; TTFT holds the queue of prompts."""
    found = facts.folder()
    assert found is not None
    serving = table(validate([found / "serving.csv"]), "serving")
    assert serving.scored > 300
    assert serving.median_ape is not None
    assert serving.median_ape <= 0.12
    assert serving.extra["ttft_median_ape"] <= 0.35
