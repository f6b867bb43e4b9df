"""How a run of LoadGen on a language model is stretched in time, from the same run in virtual time."""

from __future__ import annotations

import copyreg
import io
import pickle
from base64 import b64encode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from presilicon.bench._loadgen import PRECISE_S, Plan
from presilicon.bench._rules import SCENARIOS, Bounds
from presilicon.bench._tokens import TokenSystem, in_flight
from presilicon.bench._virtual import Measured
from presilicon.replay import Deployment

# Real time (s) of a median first token and of a median further one that Python keeps up with.
PRECISE_FIRST_S, PRECISE_STEP_S = 0.025, 0.003
LEAST_REQUESTS, MOST_REQUESTS = 1024, 4096
STREAM_REQUESTS = 100


def _plain(mapping: Mapping[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(dict(mapping))


def packed(way: Deployment) -> str:
    """A deployment as text for the process that LoadGen runs in."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    # A table that cannot be written to is packed as the plain table it shows.
    pickler.dispatch_table = copyreg.dispatch_table.copy() | {MappingProxyType: lambda table: (_plain, (dict(table),))}
    pickler.dump(way)
    return b64encode(buffer.getvalue()).decode("ascii")


def stream_requests(seconds: float) -> int:
    """Requests of a single stream: enough for the 90th percentile of lengths that differ."""
    return max(STREAM_REQUESTS, round(seconds / PRECISE_S))


def requests_of(system: TokenSystem, way: Deployment) -> int:
    """Requests of an offline or server run of LoadGen: twice those in flight."""
    return min(MOST_REQUESTS, max(LEAST_REQUESTS, 2 * in_flight(system, way)))


def plan(
    system: TokenSystem, way: Deployment, scenario: str, expected: Measured, seconds: float, bounds: Bounds | None = None
) -> Plan:
    """The run that virtual time has done as ``expected``, about ``seconds`` long; longer where tokens would come too fast."""
    requests, single = expected.samples, scenario == "single-stream"
    scale = seconds / expected.duration_s
    if scenario == "server":
        assert expected.ttft_s is not None
        scale = max(scale, PRECISE_FIRST_S / expected.ttft_s["p50"])
        if expected.tpot_s is not None:
            scale = max(scale, PRECISE_STEP_S / expected.tpot_s["p50"])
    settings: dict[str, Any] = {"use_token_latencies": True}
    if single:
        settings |= {
            "single_stream_expected_latency_ns": round(expected.percentiles["p50"] * scale * 1e9),
            "max_query_count": requests,
        }
    elif scenario == "offline":
        settings["offline_expected_qps"] = requests / (expected.duration_s * scale)
    else:
        assert expected.rate_per_s is not None
        settings |= _server_settings(expected.rate_per_s, scale, bounds or Bounds())
    return Plan(
        scenario=SCENARIOS[scenario].loadgen,
        scale=scale,
        queries=requests,
        samples=requests,
        wall_s=expected.duration_s * scale,
        engine={
            "deployment": packed(way),
            "chips": 1 if single else system.replicas(way),
            "lengths": system.lengths(requests),
        },
        settings=settings,
    )


def _server_settings(rate_per_s: float, scale: float, bounds: Bounds) -> dict[str, Any]:
    """LoadGen judges tokens, or the whole answer."""

    def ns(bound: float | None) -> int:
        return 2**62 if bound is None else max(1, round(bound * scale * 1e9))

    found: dict[str, Any] = {"server_target_qps": rate_per_s / scale, "server_target_latency_percentile": 0.99}
    if bounds.ttft_s is None and bounds.tpot_s is None:
        return found | {"use_token_latencies": False, "server_target_latency_ns": ns(bounds.latency_s)}
    return found | {"server_target_latency_ns": 0, "ttft_latency": ns(bounds.ttft_s), "tpot_latency": ns(bounds.tpot_s)}
