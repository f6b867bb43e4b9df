"""A workload file says who asks for what, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from presilicon.errors import InputError, WorkloadError
from presilicon.match import workload as limits_of
from presilicon.replay import ClosedLoop, Distribution, PrefixSharing, Slo
from presilicon.replay.workload import Workload, read_workload, trace_rate

TRACE = "arrival_s,input_tokens,output_tokens\n0,10,20\n1,30,40\n4,50,60\n"


@pytest.fixture
def written(tmp_path: Path):
    (tmp_path / "trace.csv").write_text(TRACE)

    def write(text: str) -> Path:
        path = tmp_path / "workload.toml"
        path.write_text(text)
        return path

    return write


def test_all_that_it_may_say(written) -> None:
    found = read_workload(
        written(
            'rate_per_s = 5\nrequests = 20\ninput_tokens = "lognormal:1000:1.0"\n'
            'output_tokens = {kind = "uniform", low = 5, high = 9}\nttft_s = 1.5\ntpot_s = 0.05\nformats = ["fp8"]\n'
            "chips = 4\nmax_power_w = 900\n[prefix]\nshare = 0.5\ntokens = 64\ngroups = 2\n"
        )
    )
    assert found.input_tokens == Distribution("lognormal", 1000.0, 1.0)
    assert found.prefix == PrefixSharing(0.5, 64, 2)
    assert found.slo == Slo(1.5, 0.05)
    requests = found.load(0)
    assert isinstance(requests, list)
    assert len(requests) == 20
    assert {r.output_tokens for r in requests} <= set(range(5, 10))
    assert found.load(0) == requests
    assert found.load(1) != requests


def test_a_trace_beside_it(written) -> None:
    found = read_workload(written('trace = "trace.csv"\nspeed = 2\n'))
    requests = found.load(0)
    assert isinstance(requests, list)
    assert [r.arrival_s for r in requests] == [0.0, 0.5, 2.0]
    assert trace_rate(found.requests_at(3.0, 0)) == pytest.approx(3.0)
    limits = limits_of(str(written('trace = "trace.csv"\nttft_s = 1\n')))
    assert limits == {"input_tokens": 30, "output_tokens": 40, "ttft_s": 1}


def test_clients_and_what_match_takes(written) -> None:
    path = written('concurrency = 4\nrequests = 9\ninput_tokens = "uniform:10:30"\nformats = ["bf16"]\n')
    loop = read_workload(path).load(0)
    assert isinstance(loop, ClosedLoop)
    assert (loop.concurrency, len(loop.requests)) == (4, 9)
    assert limits_of(str(path)) == {"input_tokens": 20, "formats": ("bf16",)}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("rate_pers = 5", "rate_per_s"),
        ("rate_per_s = 0", "rate_per_s"),
        ("rate_per_s = true", "rate_per_s"),
        ('rate_per_s = "5"', "rate_per_s"),
        ("rate_per_s = 5\nconcurrency = 4", "both"),
        ('trace = "trace.csv"\ninput_tokens = 5', "trace"),
        ("trace = 5", "trace"),
        ("requests = 0", "requests"),
        ("concurrency = 1.5", "concurrency"),
        ('input_tokens = "normal:5"', "normal:5"),
        ("output_tokens = 0", "0"),
        ('formats = "fp8"', "formats"),
        ("formats = []", "formats"),
        ('formats = ["fp9"]', "fp9"),
        ("prefix = 5", "prefix"),
        ("[prefix]\nshares = 1", "prefix"),
        ("ttft_s = -1", "ttft_s"),
        ("ttft_s = nan", "ttft_s"),
        ("x = [", "TOML"),
    ],
)
def test_what_is_wrong_is_named(written, text: str, what: str) -> None:
    with pytest.raises(InputError, match=r"workload\.toml") as told:
        read_workload(written(text))
    assert what in str(told.value)


def test_nothing_says_when(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="when requests arrive"):
        Workload().load(0)
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_workload(tmp_path / "none.toml")
    (tmp_path / "once.csv").write_text("arrival_s,input_tokens,output_tokens\n0,1,1\n0,1,1\n")
    with pytest.raises(WorkloadError, match="at once"):
        Workload(trace=str(tmp_path / "once.csv")).requests_at(1.0, 0)
