"""What energy goes to adds up to the energy."""

import pytest

from presilicon.chip import load
from presilicon.estimate import report_of
from presilicon.estimate.energy import PARTS
from presilicon.frontend import load as load_model


@pytest.mark.parametrize(
    ("model", "chip", "chips", "batch"),
    [
        ("llama-3.1-8b", "h100", 1, 1),
        ("llama-3.1-8b", "h100", 1, 256),  # prefill at the power limit
        ("llama-3.1-70b", "h200", 8, 16),
        ("qwen3-30b-a3b", "b200", 2, 8),
        ("resnet50", "l4", 1, 8),
    ],
)
def test_parts_add_up(model: str, chip: str, chips: int, batch: int) -> None:
    report = report_of(load_model(model), load(chip), chips=chips, batch=batch)
    assert tuple(report.energy_parts) == PARTS
    assert all(value >= 0 for value in report.energy_parts.values())
    assert sum(report.energy_parts.values()) == pytest.approx(report.energy_j, rel=1e-9)


def test_links_cost_only_where_chips_talk() -> None:
    alone = report_of(load_model("llama-3.1-8b"), load("h100"))
    together = report_of(load_model("llama-3.1-8b"), load("h100"), chips=4)
    assert alone.energy_parts["links"] == 0.0 < together.energy_parts["links"]


def test_operators_carry_the_figures_of_a_roofline() -> None:
    report = report_of(load_model("llama-3.1-8b"), load("h100"), weights="fp8", activations="fp8")
    matmuls = [line for line in report.operators if line.kind == "matmul"]
    assert {line.multiplied for line in matmuls} == {"fp8", "bf16"}  # the head stays at 16 bits
    for line in matmuls:  # achieved operations a second, two ways
        peak = load("h100").peak_ops_per_s[line.multiplied]
        assert line.operations / line.latency_s == pytest.approx(line.utilization * peak, rel=0.05)
        assert line.memory_bytes > 0
