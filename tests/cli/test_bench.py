"""``bench``: the keys that scripts rely on, the folder, exit codes, bad input."""

import json
from pathlib import Path

import pytest

KEYS = {"model", "chip", "scenario", "metric", "value", "percentiles", "valid", "unverified", "label", "driver", "reasons"}
METRICS = {
    "single-stream": "latency_p90_s",
    "multi-stream": "latency_p99_s",
    "offline": "samples_per_s",
    "server": "queries_per_s",
}
SERVER = ["bench", "resnet50", "--chip", "h100", "--scenario", "server", "--virtual"]


@pytest.mark.parametrize("scenario", METRICS)
def test_virtual_time(run, scenario: str) -> None:
    result = run("bench", "resnet50", "--chip", "h100", "--scenario", scenario, "--virtual", "--json")
    assert result.code == 0
    assert result.err == ""
    found = result.json
    assert found["schema"] == "presilicon/bench/1"
    assert set(found) >= KEYS
    assert found["metric"] == METRICS[scenario]
    assert found["unverified"] is True
    assert found["valid"] is True
    assert found["value"] > 0
    assert found["low"] <= found["value"] <= found["high"]
    assert list(found["percentiles"]) == ["p50", "p90", "p95", "p97", "p99", "p99.9"]
    assert sorted(found["percentiles"].values()) == list(found["percentiles"].values())
    if scenario == "server":
        assert found["latency_bound_s"] == 0.015  # MLPerf's for ResNet-50
        assert found["percentiles"]["p99"] <= 0.015


def test_text(run) -> None:
    out = run(*SERVER).out
    assert out.startswith("MLPerf-style, unverified: resnet50 on 1 x nvidia-h100-sxm-80gb, server")
    assert "queries_per_s" in out
    assert "Valid." in out
    assert max(map(len, out.splitlines())) <= 100


def test_loadgen_writes_a_folder(run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options = ["--chip", "l4", "--scenario", "offline", "--seconds", "1", "-o", str(folder)]
    result = run("bench", "bert-99", *options, "--json")
    assert result.code == 0
    found = result.json
    assert found["driver"].startswith("mlcommons-loadgen 6.")
    assert found["benchmark"] == "bert-99"
    assert abs(found["difference"]) < 0.05
    written = json.loads((folder / "presilicon.json").read_text(encoding="utf-8"))
    assert written["value"] == found["value"]
    logs = {"mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json"}
    assert logs <= {p.name for p in folder.iterdir()}
    assert found["label"] in (folder / "README.txt").read_text(encoding="utf-8")
    # The folder is taken now.
    again = run("bench", "bert-99", *options)
    assert again.code == 2
    assert "not empty" in again.err


def test_a_rate_that_is_too_high_is_not_valid(run) -> None:
    result = run(*SERVER, "--rate-per-s", "80000", "--json")
    assert result.code == 1
    assert result.json["valid"] is False
    assert "over the bound" in result.json["reasons"][0]
    assert "Not valid" in run(*SERVER, "--rate-per-s", "80000").out


def test_more_chips_and_looser_bounds(run) -> None:
    one, two = (run(*SERVER, "--chips", n, "--json").json["value"] for n in ("1", "2"))
    loose = run(*SERVER, "--latency-s", "0.03", "--json").json["value"]
    assert two > 1.9 * one
    assert loose >= one


def test_a_language_model(run) -> None:
    options = ["--input-tokens", "128", "--output-tokens", "32", "--ttft-s", "0.5", "--tpot-s", "0.05", "--virtual", "--json"]
    found = run("bench", "llama-3.1-8b", "--chip", "h100", "--scenario", "server", *options).json
    assert found["metric"] == "tokens_per_s"
    assert found["value"] == pytest.approx(found["rate_per_s"] * 32)
    assert found["ttft_s"]["p99"] <= 0.5
    assert found["tpot_s"]["p99"] <= 0.05
    assert found["replicas"] == 1


def test_a_workload_file(run, refused, tmp_path: Path) -> None:
    file = tmp_path / "load.toml"
    text = 'rate_per_s = 20.0\ninput_tokens = "uniform:100:300"\noutput_tokens = 40\nttft_s = 1.0\nformats = ["nvfp4", "fp8"]\n'
    file.write_text(text, encoding="utf-8")
    options = ["--chip", "h100", "--scenario", "server", "--virtual", "--workload", str(file)]
    found = run("bench", "llama-3.1-8b", *options, "--json").json
    assert found["rate_per_s"] == 20.0
    assert found["input_tokens"] == pytest.approx(200, rel=0.02)
    assert found["ttft_bound_s"] == 1.0
    assert found["formats"].startswith("fp8/")  # an H100 does not multiply nvfp4
    assert run("bench", "llama-3.1-8b", *options, "--rate-per-s", "10", "--json").json["rate_per_s"] == 10.0
    assert "no tokens" in refused("bench", "resnet50", *options)
    file.write_text("rate_per_s = -1\n", encoding="utf-8")
    assert "load.toml" in refused("bench", "llama-3.1-8b", *options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resnet50", "--chip", "h100"], "--scenario"),
        (["resnet50", "--scenario", "offline"], "--chip"),
        (["resnet50", "--chip", "h100", "--scenario", "edge"], "single-stream"),
        (["resnet5", "--chip", "h100", "--scenario", "offline"], "resnet50"),
        (["bert-98", "--chip", "h100", "--scenario", "offline"], "bert"),
        (["resnet50", "--chip", "h1000", "--scenario", "offline"], "did you mean"),
        (["resnet50", "--chip", "qualcomm-ai200", "--scenario", "offline"], "not published"),
        (["llama-3.1-405b", "--chip", "l4", "--scenario", "offline"], "GB"),
        (["llama-3.1-8b", "--chip", "h100", "--scenario", "multi-stream"], "single-stream"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "--chips", "0"], "--chips"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "--latency-s", "1"], "--latency-s"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "--rate-per-s", "1"], "--rate-per-s"),
        (["resnet50", "--chip", "h100", "--scenario", "server", "--latency-s", "nan"], "finite"),
        (["resnet50", "--chip", "h100", "--scenario", "server", "--latency-s", "0"], "finite"),
        (["resnet50", "--chip", "h100", "--scenario", "server", "--ttft-s", "1"], "no tokens"),
        (["resnet50", "--chip", "h100", "--scenario", "server", "--output-tokens", "4"], "no tokens"),
        (["resnet50", "--chip", "h100", "--scenario", "server", "--latency-s", "1e-5"], "can be met"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "--input-tokens", "5"], "one size"),
        (["all-MiniLM-L6-v2", "--chip", "h100", "--scenario", "server"], "needs a latency bound"),
        (["llama-3.1-8b", "--chip", "h100", "--scenario", "server", "--input-tokens", "1000000"], "token"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "-o", "none/out"], "none"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "--workload", "none.toml"], "none.toml"),
        (["resnet50", "--chip", "h100", "--scenario", "offline", "--weights", "int7"], "int7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_bad_input(refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused("bench", *arguments, "--virtual")
    assert list(tmp_path.iterdir()) == []
