"""Regressions found by reading results as a user and as a chip architect would."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from presilicon import chip, frontend
from presilicon.chip import Price
from presilicon.economics import defaults, usd_per_hour
from presilicon.errors import CapacityError, ChipError, PresiliconError, WorkloadError
from presilicon.estimate import report_of
from presilicon.estimate.reporting import ways
from presilicon.mapping import Parallelism
from presilicon.match import match as ranking


@pytest.mark.parametrize("name", ["google-tpu-v7", "intel-gaudi3", "nvidia-b200-sxm-180gb"])
def test_few_large_cores_read_a_cache_as_well_as_many_small_ones(name: str) -> None:
    """A chip is not charged the filling of a small core's pipeline once a KV head because its maker counts few cores."""
    found = chip.load(name)
    batch, context = 256, 1024 + 64
    report = report_of(frontend.load("llama-3.1-8b"), found, batch=batch, input_tokens=1024, output_tokens=128)
    attention = next(o for o in report.operators if o.name == "decode.attention")
    cache_s = batch * context * 2 * 1024 * 2 / found.need("memory.bytes_per_s")
    assert cache_s < attention.latency_s / attention.count < 4 * cache_s


LLAMA, R1 = "llama-3.1-8b", "deepseek-ai/DeepSeek-R1"


def test_a_lone_request_in_a_pipeline_costs_the_work_of_one() -> None:
    """Stages that have nothing to do draw static power; they do not compute requests that do not exist."""
    model, found = frontend.load(LLAMA), chip.load("h100")
    one = report_of(model, found, batch=1)
    four = report_of(model, found, batch=1, parallelism=Parallelism(pipeline=4))
    assert four.time_to_first_token_s < 1.1 * one.time_to_first_token_s
    idle_j = 3 * four.latency_s * 0.179 * found.need("tdp_w")
    assert four.energy_j == pytest.approx(one.energy_j + idle_j, rel=0.05)


def test_experts_may_be_spread_over_replicas_and_a_latent_cache_gains_by_it() -> None:
    """Tensor parallelism copies the cache of latent attention to every chip; replicas each hold their own."""
    found = list(ways(frontend.load(R1), 8))
    assert Parallelism(data=8, expert=8) in found
    assert not [p for p in ways(frontend.load(LLAMA), 8) if p.data > 1]
    ranked = ranking(frontend.load(R1), input_tokens=1024, output_tokens=1024)
    assert ranked.entry("nvidia-h200-sxm-141gb").parallelism == "EP8xDP8"


def test_match_says_what_estimate_says_of_decode() -> None:
    """The same setting has the same time per token, apart from waiting for the prompts of others."""
    entry = ranking(frontend.load(LLAMA), chips=1).entry("nvidia-h100-sxm-80gb")
    weights, activations, cache = entry.formats.split("/")
    report = report_of(frontend.load(LLAMA), chip.load("h100"), batch=int(entry.batch or 0), weights=weights,
                       activations=activations, kv_cache=cache)  # fmt: skip
    waiting = entry.terms["others' prompts"]
    assert entry.time_per_output_token_s == pytest.approx(report.time_per_output_token_s + waiting)
    assert sum(entry.terms.values()) == pytest.approx(entry.time_per_output_token_s)


def test_a_cheap_card_does_not_make_its_server_cheap() -> None:
    o = defaults()
    cheap, _ = usd_per_hour(Price(purchase_usd=1000.0), 0.0, 1, o)
    assert cheap == pytest.approx((1000.0 + o.least_server_usd) / (o.years * 8766 * o.utilization))
    dear, _ = usd_per_hour(Price(purchase_usd=40000.0), 0.0, 1, o)
    assert dear == pytest.approx(40000.0 * 1.2 / (o.years * 8766 * o.utilization))


def test_a_network_that_does_not_fit_is_refused_with_both_sizes() -> None:
    with pytest.raises(CapacityError, match=r"needs .* TB a chip and 21.6 GB are usable"):
        report_of(frontend.load("stable-diffusion-xl"), chip.load("l4"), batch=1000)


def test_small_memories_are_told_apart_in_messages() -> None:
    with pytest.raises(CapacityError) as caught:
        report_of(frontend.load(LLAMA), chip.load("groq-lpu-v1"), chips=128)
    needed, usable = caught.value.message.split(" a chip and ")
    assert needed.split("needs ")[1] != usable.split(" are")[0]


@pytest.mark.parametrize("line", ["launch_s = -1", "launch_s = nan", "memory_share = 0", "matmul_share = 1.5"])
def test_constants_of_a_chip_that_make_no_sense_are_refused(line: str) -> None:
    text = 'schema = "presilicon/chip/1"\nname = "x"\n[peak_ops_per_s]\nfp16 = 1e12\n[constants]\n' + line
    with pytest.raises(ChipError, match=f"constants.{line.split()[0]} is"):
        report_of(frontend.load("resnet50"), chip.parse(text))


def test_a_chip_with_a_tf32_unit_alone_is_estimated() -> None:
    text = (
        'schema = "presilicon/chip/1"\nname = "x"\n[peak_ops_per_s]\ntf32 = 1e12\n[memory]\nbytes = 1e9\nbytes_per_s = 1e11\n'
    )
    assert report_of(frontend.load("resnet50"), chip.parse(text), weights="fp32").latency_s > 0


@pytest.mark.parametrize("text", ["input_tokens = 0", 'formats = ["fp9"]', "formats = []", "ttft_s = nan"])
def test_a_workload_file_is_named_where_it_is_wrong(tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PresiliconError) as caught:
        ranking(frontend.load(LLAMA), workload=str(path))
    assert str(path) in caught.value.where


def test_options_of_tokens_are_not_ignored_for_networks() -> None:
    with pytest.raises(WorkloadError, match="generates no tokens"):
        ranking(frontend.load("resnet50"), output_tokens=4)
    short, usual = (ranking(frontend.load("bert-large"), **o).entry("nvidia-l4") for o in ({"input_tokens": 128}, {}))
    assert (short.tokens_per_s_per_chip or 0) > 2 * (usual.tokens_per_s_per_chip or 0)


def test_a_full_disk_or_a_closed_stdout_is_told_in_a_sentence() -> None:
    command = [sys.executable, "-c", "from presilicon.cli import main; raise SystemExit(main(['chips', '--json']))"]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


def test_a_model_that_publishes_no_longest_context_has_no_limit() -> None:
    model = replace(frontend.load(LLAMA), max_tokens=0)
    assert report_of(model, chip.load("h100"), input_tokens=1024, output_tokens=128).latency_s > 0
    assert ranking(model, chips=1).entry("nvidia-h100-sxm-80gb").fits
