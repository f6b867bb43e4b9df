"""``presilicon replay`` and ``presilicon capacity``: keys, files, options and bad input."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRACE = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i / 10},{100 + i},{1 + i % 30}\n" for i in range(40))
ON = ("llama-3.1-8b", "--chip", "l40s")


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return str(path)


def test_the_contract(run, trace: str, tmp_path: Path) -> None:
    arguments = ("replay", *ON, "--trace", trace, "--replicas", "2", "--routing", "least-loaded", "--seed", "3",
                 "--ttft-s", "1", "--tpot-s", "0.05", "-o", str(tmp_path / "out"), "--json")  # fmt: skip
    found = run(*arguments).json
    assert found["schema"] == "presilicon/replay/1"
    assert (found["requests"], found["refused"], found["chips"]) == (40, 0, 2)
    for key in ("ttft_s", "tpot_s"):
        assert 0 < found[key]["p50"] <= found[key]["p90"] <= found[key]["p99"] < 1
    for key in ("wall_s", "virtual_s", "goodput_per_s", "energy_j", "usd"):
        assert found[key] > 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == found["files"]
    again = run(*arguments).json
    assert again | {"wall_s": 0} == found | {"wall_s": 0}


def test_the_text(run, trace: str, tmp_path: Path) -> None:
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps({"median_ttft_ms": 90.0, "mean_tpot_ms": 20.0, "request_throughput": 3.0}))
    told = run("replay", *ON, "--trace", trace, "--ttft-s", "1", "--compare", str(measured)).out
    for words in ("time to first token", "goodput", "within TTFT 1 s", "measured", "ttft_s.p50", "J a request", "USD"):
        assert words in told
    assert max(map(len, told.splitlines())) <= 100


def test_other_ways_to_ask(run, tmp_path: Path) -> None:
    rate = run("replay", *ON, "--rate", "5", "--requests", "30", "--input-tokens", "lognormal:300:1", "--output-tokens", "20",
               "--prefix-share", "1", "--prefix-tokens", "64", "--json").json  # fmt: skip
    assert rate["prefix_hit_share"] > 0.05
    loop = run("replay", *ON, "--concurrency", "4", "--requests", "20", "--output-tokens", "20", "--speculative-tokens", "3",
               "--draft-model", "llama-3.2-1b", "--json").json  # fmt: skip
    assert loop["requests"] == 20
    pools = run("replay", *ON, "--rate", "5", "--requests", "20", "--prefill-replicas", "1", "--json").json
    assert pools["replicas"] == 2
    told = tmp_path / "w.toml"
    told.write_text("rate_per_s = 5\nrequests = 10\noutput_tokens = 3\nttft_s = 2\n")
    file = run("replay", *ON, "--workload", str(told), "--tensor-parallel", "2", "--json").json
    assert (file["requests"], file["parallelism"], file["slo"]["ttft_s"]) == (10, "TP2", 2)
    more = run("replay", *ON, "--workload", str(told), "--requests", "12", "--concurrency", "2", "--json").json
    assert more["requests"] == 12


def test_capacity(run, trace: str) -> None:
    rate = run("capacity", *ON, "--chips", "1", "--requests", "100", "--input-tokens", "200", "--output-tokens", "10",
               "--ttft-s", "1", "--json").json  # fmt: skip
    assert rate["rate_per_s"] > 1
    assert rate["schema"] == "presilicon/capacity/1"
    chips = run("capacity", *ON, "--trace", trace, "--ttft-s", "1", "--tpot-s", "0.1", "--json").json
    assert chips["chips"] >= 1
    assert "rate_per_s" not in chips
    assert "the SLO; what" in run("capacity", *ON, "--trace", trace, "--ttft-s", "1").out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "when requests arrive"),
        (("--rate", "0"), "above zero"),
        (("--rate", "5", "--input-tokens", "lots"), "distribution"),
        (("--rate", "5", "--concurrency", "2"), "both"),
        (("--rate", "5", "--routing", "prefix"), "prefix-aware"),
        (("--rate", "5", "--chips", "8", "--tensor-parallel", "2"), "chips"),
        (("--rate", "5", "--tensor-parallel", "7"), "7"),
        (("--rate", "5", "--max-waiting", "-1"), "max_waiting"),
        (("--rate", "5", "--acceptance-rate", "0.5"), "--speculative-tokens"),
        (("--rate", "5", "--speculative-tokens", "9"), "from 1 to 7"),
        (("--rate", "5", "--prefix-share", "2"), "share"),
        (("--rate", "5", "--seed", "-1"), "seed"),
        (("--trace", "nowhere.csv"), "nowhere.csv"),
        (("--workload", "nowhere.toml"), "nowhere.toml"),
        (("--rate", "5", "--weights", "fp9"), "fp9"),
        (("--rate", "5", "--compare", "nowhere.json", "--requests", "2"), "nowhere.json"),
    ],
)
def test_bad_input(refused, arguments: tuple[str, ...], what: str) -> None:
    assert what in refused("replay", *ON, *arguments)


def test_more_bad_input(refused, run, trace: str) -> None:
    assert "no tokens" in refused("replay", "resnet50", "--chip", "l40s", "--rate", "5")
    assert "fit" in refused("replay", "llama-3.1-70b", "--chip", "l40s", "--rate", "5")
    assert "alone" in refused("capacity", *ON, "--trace", trace, "--ttft-s", "0.000001")
    assert "no SLO" in refused("capacity", *ON, "--trace", trace)
    assert "concurrency" in refused("capacity", *ON, "--chips", "1", "--concurrency", "2", "--ttft-s", "1")


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Exit code 130, no traceback, no files."""
    out = tmp_path / "out"
    code = "import sys; from presilicon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "replay", *ON, "--rate", "50", "--requests", "200000", "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    told, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert told == ""
    assert list(tmp_path.iterdir()) == []
