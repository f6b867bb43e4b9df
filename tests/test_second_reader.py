"""Regressions found by reading results as a user and as a chip architect would."""

import pytest

from presilicon import chip, frontend
from presilicon.estimate import report_of


@pytest.mark.parametrize("name", ["google-tpu-v7", "intel-gaudi3", "nvidia-b200-sxm-180gb"])
def test_few_large_cores_read_a_cache_as_well_as_many_small_ones(name: str) -> None:
    """A chip is not charged the filling of a small core's pipeline once a KV head because its maker counts few cores."""
    found = chip.load(name)
    batch, context = 256, 1024 + 64
    report = report_of(frontend.load("llama-3.1-8b"), found, batch=batch, input_tokens=1024, output_tokens=128)
    attention = next(o for o in report.operators if o.name == "decode.attention")
    cache_s = batch * context * 2 * 1024 * 2 / found.need("memory.bytes_per_s")
    assert cache_s < attention.latency_s / attention.count < 4 * cache_s
