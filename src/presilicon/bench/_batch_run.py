"""The scenarios of a network: in virtual time, and with LoadGen."""

from __future__ import annotations

from dataclasses import replace

from presilicon.bench import _loadgen, _virtual
from presilicon.bench._outcome import Drive, Driven, Outcome, Told, accepted
from presilicon.bench._rules import Bounds
from presilicon.bench._system import System


def _found(system: System, bound_s: float, rate: float | None, queries: int, told: Told) -> _virtual.Found:
    """The rate of a server: the one given, or the largest that is valid; with the largest batch that suits it.

    The rate is found on as many queries as MLPerf asks for. A run of fewer is judged by less: where it would not be accepted
    at that rate, its own largest valid one is taken, so that the rate holds in both.
    """
    if rate is not None:
        return _virtual.at_rate(system, rate, bound_s, queries)
    found = _virtual.find_rate(system, bound_s, _virtual.SERVER_QUERIES, told)
    if queries == _virtual.SERVER_QUERIES or _virtual.server(system, found, bound_s, queries).valid:
        return found
    return min(found, _virtual.find_rate(system, bound_s, queries, told), key=lambda one: one.rate_per_s)


def in_virtual_time(system: System, scenario: str, bounds: Bounds | None, rate: float | None, told: Told) -> Outcome:
    """A scenario in virtual time, with as many queries as MLPerf asks for."""
    if bounds is not None:
        assert bounds.latency_s is not None
        found = _found(system, bounds.latency_s, rate, _virtual.SERVER_QUERIES, told)
        measured = _virtual.server(system, found, bounds.latency_s, _virtual.SERVER_QUERIES)
        return Outcome(measured, {"largest_batch": found.largest})
    if scenario == "offline":
        return Outcome(_virtual.offline(system), {"largest_batch": int(system.stream.best_batch)})
    return Outcome(_virtual.one_at_a_time(system, scenario))


def driven(
    system: System, scenario: str, bounds: Bounds | None, rate: float | None, seconds: float, drive: Drive, told: Told
) -> Driven:
    """A scenario with LoadGen, for about ``seconds``."""
    if bounds is not None:
        assert bounds.latency_s is not None
        return _server(system, bounds.latency_s, rate, seconds, drive, told)
    if scenario == "offline":
        plan = _loadgen.offline_plan(system, seconds)
        more = {"largest_batch": int(system.stream.best_batch)}
        return Driven(plan, drive(plan), _virtual.offline(system, plan.samples), more=more)
    plan = _loadgen.stream_plan(system, scenario, seconds)
    return Driven(plan, drive(plan), _virtual.one_at_a_time(system, scenario))


def _server(system: System, bound_s: float, rate: float | None, seconds: float, drive: Drive, told: Told) -> Driven:
    queries = _loadgen.server_queries(system, bound_s, seconds)
    found = _found(system, bound_s, rate, queries, told)

    def planned(rate_per_s: float) -> tuple[_loadgen.Plan, _virtual.Measured]:
        slower = replace(found, rate_per_s=rate_per_s)
        plan = _loadgen.server_plan(system, rate_per_s, bound_s, found.largest, queries, seconds)
        return plan, _virtual.server(system, slower, bound_s, queries)

    done = accepted(found.rate_per_s, rate is not None, planned, drive)
    return replace(done, more={"largest_batch": found.largest})
