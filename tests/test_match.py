import re
from dataclasses import replace

import numpy as np
import pytest

from presilicon import chip
from presilicon.dtypes import Formats
from presilicon.economics import usd_per_hour
from presilicon.errors import ChipError, FormatError, ParallelismError, WorkloadError
from presilicon.estimate import Load, machine, pass_cost, service_cost
from presilicon.estimate.reporting import ways
from presilicon.frontend import load
from presilicon.mapping import Parallelism
from presilicon.match import BATCHES, Limits, candidates, match, workload
from presilicon.ranking import Entry, Explanation, Ranking

PRODUCTS = [c.name for c in chip.library() if c.template is None]
LLAMA, GPT_OSS, RESNET = load("llama-3.1-8b"), load("openai/gpt-oss-120b"), load("resnet50")


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    return match(GPT_OSS, chips=4)


@pytest.fixture(scope="module")
def networks() -> Ranking:
    return match(RESNET)


def setting(entry: Entry) -> tuple[Parallelism, Formats]:
    ways_ = {kind: int(number) for kind, number in re.findall(r"([TPED])P(\d+)", entry.parallelism)}
    names = {"T": "tensor", "P": "pipeline", "E": "expert", "D": "data"}
    return Parallelism(**{names[k]: v for k, v in ways_.items()}), Formats.parse(*entry.formats.split("/"))


def served(model, name, formats, p, batches, limits) -> dict[str, np.ndarray]:
    """The figures of a chip alone at some batches: what the ranking must say of it; empty where it cannot be."""
    m, batch = machine(chip.load(name)), np.array(batches, dtype=float)
    lengths = limits.input_tokens, limits.output_tokens
    worked_on = 2.0 ** np.floor(np.log2(p.data * p.pipeline))  # prompts at once: one a replica and stage
    try:
        one, full, cost = (
            service_cost(m, model, Load(b, *lengths), formats=formats, parallelism=p) for b in (1, worked_on, batch)
        )
    except (ParallelismError, FormatError):
        return {}
    others = np.maximum(batch / p.data - 1, 0) / p.pipeline
    tpot = cost.time_per_output_token_s + others * one.prefill_s / limits.output_tokens
    joules = full.prefill_j / worked_on + (limits.output_tokens - 1) * cost.decode_j / batch
    ttft = one.prefill_s + cost.time_per_output_token_s
    return {
        "fits": cost.fits, "ttft": ttft, "tpot": tpot, "per_chip": batch / tpot / p.chips,
        "joules": joules / limits.output_tokens, "power": batch / tpot * joules / limits.output_tokens,
        "good": cost.fits & (ttft <= limits.ttft_s) & (tpot <= limits.tpot_s),
    }  # fmt: skip


def test_every_chip_is_ranked_once_or_says_why_not(ranking):
    assert sorted(e.chip for e in ranking.entries) == PRODUCTS
    fit = [e for e in ranking.entries if e.fits]
    assert len(fit) > 30
    assert ranking.entries[: len(fit)] == tuple(fit)
    for entry in ranking.entries:
        assert bool(entry.reason) != entry.fits, entry.chip
        assert "\n" not in entry.reason


def test_chips_of_the_template_are_ranked_on_request_only():
    found = match(RESNET, template=True, max_power_w=1.0)
    assert sorted(e.chip for e in found.entries) == list(chip.names())
    assert len(PRODUCTS) < len(chip.names())


def test_the_cheapest_come_first_then_the_most_frugal(ranking):
    priced = [e.usd_per_million_tokens for e in ranking.entries if e.usd_per_million_tokens is not None]
    assert priced == sorted(priced)
    rest = [e.energy_j_per_token for e in ranking.entries if e.fits and e.usd_per_million_tokens is None]
    assert rest == sorted(rest)
    assert all(e.usd_per_million_tokens is not None for e in ranking.entries[: len(priced)])


def test_figures_are_those_of_the_chip_alone_bit_for_bit(ranking):
    limits = Limits(chips=4)
    for entry in ranking.entries:
        if entry.fits:
            p, formats = setting(entry)
            found = {key: values[0] for key, values in served(GPT_OSS, entry.chip, formats, p, [entry.batch], limits).items()}
            assert found["fits"]
            assert entry.chips == p.chips <= 4
            assert found["ttft"] == entry.time_to_first_token_s, entry.chip
            assert found["tpot"] == entry.time_per_output_token_s, entry.chip
            assert found["per_chip"] == pytest.approx(entry.tokens_per_s_per_chip, rel=1e-12)
            assert found["joules"] == pytest.approx(entry.energy_j_per_token, rel=1e-12)
            assert found["power"] == pytest.approx(entry.power_w, rel=1e-12)
            assert found["good"]


@pytest.mark.parametrize("name", ["furiosaai-rngd"])
def test_the_setting_is_the_best_of_all(ranking, name):
    limits = Limits(chips=4)
    best, together = 0.0, chip.load(name).link
    for formats in candidates(GPT_OSS, limits):
        if formats.activations.name not in ("bf16", *chip.load(name).peak_ops_per_s):
            continue
        for p in (p for n in (1, 2, 4) for p in ways(GPT_OSS, n)):
            if p.tensor > 1 and together and together.chips and p.tensor > together.chips:
                continue
            found = served(GPT_OSS, name, formats, p, BATCHES, limits)
            if found:
                best = max(best, float(np.max(np.where(found["good"], found["per_chip"], 0.0))))
    assert ranking.entry(name).tokens_per_s_per_chip == pytest.approx(best, rel=1e-12)


def test_costs_follow_from_price_power_and_rate(ranking):
    for entry in ranking.entries:
        price = chip.load(entry.chip).price
        if not entry.fits:
            assert entry.usd_per_million_tokens is None
        elif price.purchase_usd is None and price.rent_usd_per_hour is None:
            assert entry.usd_per_million_tokens is None
            assert entry.price_basis == ""
        else:
            hourly, basis = usd_per_hour(price, entry.power_w, entry.chips, ranking.operation)
            rate = entry.tokens_per_s_per_chip * entry.chips * 3600
            assert entry.usd_per_million_tokens == pytest.approx(hourly / rate * 1e6)
            assert entry.price_basis.startswith(basis)
            assert "USD" in entry.price_basis


def test_intervals_hold_the_rate_and_evidence_is_this_models(ranking, networks):
    for entry in (*ranking.entries, *networks.entries):
        if entry.fits:
            assert 0 < entry.low <= entry.tokens_per_s_per_chip <= entry.high
        for found in entry.evidence:
            assert found["value"] > 0
            assert found["source"]
    whats = [e["what"] for e in ranking.entry("nvidia-b200-sxm-180gb").evidence]
    assert whats
    assert all("gpt-oss-120b" in what for what in whats)
    assert any("resnet50" in e["what"] for e in networks.entry("rebellions-atom").evidence)


def test_tighter_limits_never_help(ranking):
    tight = match(GPT_OSS, chips=4, formats=("mxfp4",), tpot_s=0.02, ttft_s=0.5, max_power_w=2000.0)
    better = {e.chip: e for e in ranking.entries}
    fit = [e for e in tight.entries if e.fits]
    assert 0 < len(fit) < len([e for e in ranking.entries if e.fits])
    for entry in fit:
        assert entry.time_per_output_token_s <= 0.02
        assert entry.time_to_first_token_s <= 0.5
        assert entry.power_w <= 2000.0
        assert entry.tokens_per_s_per_chip <= better[entry.chip].tokens_per_s_per_chip
    refused = {e.chip: e.reason for e in tight.entries if not e.fits and better[e.chip].fits}
    assert refused
    assert all("limit" in reason for reason in refused.values())


def test_formats_and_chips_are_limited():
    one = match(LLAMA, chips=1, formats=("bf16",))
    for entry in one.entries:
        if entry.fits:
            assert (entry.chips, entry.formats) == (1, "bf16/bf16/bf16")
    small = one.entry("nvidia-a2")
    assert "GB" in small.reason or small.fits


def test_a_network_is_ranked_by_its_samples(networks):
    for entry in networks.entries:
        if entry.fits:
            found = machine(chip.load(entry.chip))
            cost = pass_cost(found, RESNET.inference(batch=entry.batch, formats=Formats.parse(*entry.formats.split("/"))))
            latency = float(cost.latency_s) + found.constants.query_s
            assert entry.time_to_first_token_s == latency, entry.chip
            assert entry.tokens_per_s_per_chip == entry.batch / latency
    assert networks.entries[0].fits


def test_an_explanation_goes_term_by_term(ranking):
    names = [e.chip for e in ranking.entries if e.fits][:2]
    found = ranking.explain(*names)
    assert isinstance(found, Explanation)
    for side, name in zip((1, 2), names, strict=True):
        terms = sum(row[side] for row in found.rows if row[3] == "s" and not row[0].startswith("time"))
        assert terms == pytest.approx(ranking.entry(name).time_per_output_token_s, rel=1e-9)
    assert names[0] in str(found)
    assert [row["term"] for row in found.to_json()["terms"]] == [row[0] for row in found.rows]
    with pytest.raises(ChipError, match="is not ranked"):
        ranking.explain(names[0], "no-such-chip")
    unfit = next(e.chip for e in ranking.entries if not e.fits)
    with pytest.raises(ChipError, match="does not qualify"):
        ranking.explain(names[0], unfit)


def test_the_ranking_as_json_has_every_key(ranking):
    import json

    table = json.loads(json.dumps(ranking.to_json()))
    assert len(table["ranking"]) == len(PRODUCTS)
    assert {"chip", "chips", "fits", "reason", "batch", "parallelism", "formats", "low", "high"} <= set(table["ranking"][0])
    assert table["limits"]["chips"] == 4
    assert not any(np.isnan(v) for row in table["ranking"] for v in row.values() if isinstance(v, float))


def test_a_workload_file_sets_limits_and_options_come_first(tmp_path):
    path = tmp_path / "load.toml"
    path.write_text('input_tokens = 64\noutput_tokens = 32\nchips = 1\nformats = ["fp8"]\n', encoding="utf-8")
    found = match(LLAMA, workload=str(path), output_tokens=16)
    assert (found.limits["input_tokens"], found.limits["output_tokens"], found.limits["chips"]) == (64, 16, 1)
    assert {e.formats for e in found.entries if e.fits} == {"fp8/fp8/bf16"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chipz = 3", "unknown key 'chipz'"),
        ("chips = 'two'", "chips is 'two'"),
        ("chips = true", "chips is True"),
        ("formats = 'fp8'", "formats is 'fp8'"),
        ("formats = [8]", "formats is"),
        ("= 3", "not a TOML file"),
    ],
)
def test_a_bad_workload_file_is_refused(tmp_path, text, message):
    path = tmp_path / "load.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorkloadError, match=message) as caught:
        workload(str(path))
    assert caught.value.where == str(path)
    with pytest.raises(WorkloadError, match="cannot be read"):
        workload(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    "values",
    [{"chips": 0}, {"input_tokens": -1}, {"output_tokens": 1.5}, {"ttft_s": 0.0}, {"tpot_s": float("nan")},
     {"max_power_w": float("inf")}, {"chips": True}],
)  # fmt: skip
def test_impossible_limits_are_refused(values):
    with pytest.raises(WorkloadError, match=f"{next(iter(values))} is"):
        Limits(**values)


def test_more_tokens_than_the_model_takes_are_refused():
    with pytest.raises(WorkloadError, match="more than Llama"):
        match(LLAMA, input_tokens=200_000)
    with pytest.raises(FormatError):
        match(LLAMA, formats=("fp7",), chips=1)


def test_candidates_are_the_checkpoints_format_and_narrower_ones_it_allows():
    assert [str(f) for f in candidates(LLAMA, Limits())] == ["bf16/bf16/bf16", "fp8/fp8/fp8", "int8/int8/bf16"]
    assert all(f.weights.bits == 4 for f in candidates(GPT_OSS, Limits()))
    assert [str(f) for f in candidates(LLAMA, replace(Limits(), formats=("int4",)))] == ["int4/bf16/bf16"]
