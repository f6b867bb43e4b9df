"""The scenarios of a language model: in virtual time, and with LoadGen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from presilicon.bench import _token_plans, _tokens
from presilicon.bench._loadgen import Plan
from presilicon.bench._outcome import SLOWER, Drive, Driven, Outcome, Told, accepted
from presilicon.bench._rules import Bounds
from presilicon.bench._tokens import TokenSystem
from presilicon.bench._virtual import Measured
from presilicon.replay import Deployment


def _notes(system: TokenSystem) -> tuple[str, ...]:
    return (f"answers are served without the {system.beams} beams that the benchmark searches",) if system.beams > 1 else ()


def _more(system: TokenSystem, way: Deployment, scenario: str) -> Mapping[str, Any]:
    replicas = 1 if scenario == "single-stream" else system.replicas(way)
    return {"parallelism": str(way.parallelism), "replicas": replicas, "input_tokens": system.input_tokens,
            "output_tokens": system.output_tokens}  # fmt: skip


def _found(system: TokenSystem, rate: float | None, bounds: Bounds, requests: int, told: Told) -> _tokens.FoundWay:
    """The rate found; or a fixed one, on the first way that is valid, else on the one that answers soonest (the last)."""
    if rate is None:
        return _tokens.find_rate(system, bounds, requests, told)
    for way in system.ways:
        if _tokens.server(system, way, rate, bounds, requests).valid:
            return _tokens.FoundWay(rate, way)
    return _tokens.FoundWay(rate, system.ways[-1])


def in_virtual_time(system: TokenSystem, scenario: str, bounds: Bounds | None, rate: float | None, told: Told) -> Outcome:
    """A scenario in virtual time."""
    requests = _tokens.requests_of(system)
    if bounds is not None:
        found = _found(system, rate, bounds, requests, told)
        measured, way = _tokens.server(system, found.way, found.rate_per_s, bounds, requests), found.way
    elif scenario == "offline":
        measured, way = _tokens.offline(system, _tokens.offline_requests(system))
    else:
        measured, way = _tokens.single_stream(system)
    return Outcome(measured, _more(system, way, scenario), _notes(system))


def driven(
    system: TokenSystem, scenario: str, bounds: Bounds | None, rate: float | None, seconds: float, drive: Drive, told: Told
) -> Driven:
    """A scenario with LoadGen, for about ``seconds``."""
    if bounds is not None:
        return _server(system, bounds, rate, seconds, drive, told)
    if scenario == "offline":
        _, way = _tokens.offline(system, _tokens.offline_requests(system))
        expected, _ = _tokens.offline(system, _token_plans.requests_of(system, way), (way,))
    else:
        expected, way = _tokens.single_stream(system, _token_plans.stream_requests(seconds))
    plan = _token_plans.plan(system, way, scenario, expected, seconds)
    return Driven(plan, drive(plan), expected, _notes(system), _more(system, way, scenario))


def _server(system: TokenSystem, bounds: Bounds, rate: float | None, seconds: float, drive: Drive, told: Told) -> Driven:
    whole = _tokens.requests_of(system)
    found = _found(system, rate, bounds, whole, told)
    requests, asked = _token_plans.requests_of(system, found.way), found.rate_per_s
    while (
        rate is None and not _tokens.server(system, found.way, asked, bounds, requests).valid and asked > found.rate_per_s / 2
    ):
        asked *= SLOWER  # a shorter run is judged by less

    def planned(rate_per_s: float) -> tuple[Plan, Measured]:
        expected = _tokens.server(system, found.way, rate_per_s, bounds, requests)
        return _token_plans.plan(system, found.way, "server", expected, seconds, bounds), expected

    done = accepted(asked, rate is not None, planned, drive)
    return replace(done, notes=(*done.notes, *_notes(system)), more=_more(system, found.way, "server"))
