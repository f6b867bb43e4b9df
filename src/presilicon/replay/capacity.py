"""How much is enough: the fewest chips that meet an SLO under a load, or the highest rate that some chips meet it at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from presilicon.errors import CapacityError, ParallelismError, WorkloadError
from presilicon.replay.deployment import Deployment
from presilicon.replay.fleet import Fleet
from presilicon.replay.outcome import ReplayReport
from presilicon.replay.requests import Request, Slo
from presilicon.replay.run import ClosedLoop, run

# Share of the requests that must meet the SLO: a p99, as MLPerf judges.
SHARE = 0.99
# Rates are found to this part of themselves.
RESOLUTION = 0.02
# Requests of the lightest load, which says what an SLO can be at all.
ALONE = 200
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What meets the SLO: so many chips, or such a rate, with the replay that shows it."""

    chips: int
    rate_per_s: float | None
    report: ReplayReport


def share_within(report: ReplayReport) -> float:
    """Share of the requests that meet the SLO; those longer than the model's context, which no chips can serve, left out."""
    possible = report.requests - report.refused_by.get("context", 0)
    return report.within_slo * report.requests / possible if possible else 0.0


def _require(slo: Slo) -> None:
    if slo.ttft_s is None and slo.tpot_s is None:
        raise WorkloadError("no SLO says what is enough", hint="--ttft-s, --tpot-s, or both")


def _alone(deployment: Deployment, requests: Sequence[Request], slo: Slo) -> ReplayReport:
    """The lightest load: some of the requests, one after the other on one replica."""
    picked = np.unique(np.linspace(0, len(requests) - 1, min(ALONE, len(requests))).astype(int))
    return run(Fleet(deployment=deployment), ClosedLoop(1, [requests[i] for i in picked]), slo=slo)


def _impossible(tried: Sequence[tuple[Deployment, ReplayReport]], slo: Slo) -> WorkloadError:
    """Says what SLO can be met, where even requests alone miss it."""
    wanted = [f"{name} of {value:g} s" for name, value in (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s)) if value is not None]
    can = [
        f"{d.chips} {'chip' if d.chips == 1 else 'chips'}: TTFT {report.ttft_s.p99:.3g} s, TPOT {report.tpot_s.p99:.3g} s"
        for d, report in tried
        if np.isfinite(report.ttft_s.p99)
    ]
    message = " and ".join(wanted) + " cannot be met: 99 of 100 requests that are alone on the chips take longer"
    hint = "alone, 99 of 100 are within (" + "; ".join(can) + ")" if can else "no request can be served at all"
    return WorkloadError(message, hint=hint)


def saturated_per_s(deployment: Deployment, requests: Sequence[Request]) -> float:
    """Requests a second that one replica ends when others always wait: no higher rate can be kept up."""
    kept = [r for r in requests if deployment.refusal(r) is None]
    if not kept:
        return 0.0
    layout, ranks = deployment.layout, deployment.times.ranks
    blocks = sum(layout.needed(r.input_tokens + r.output_tokens) for r in kept) / len(kept)
    flight = int(min(layout.total / max(blocks, 1.0) + 1, deployment.limits.max_running * ranks, len(kept) / 3.0 + 1))
    report = run(Fleet(deployment=deployment), ClosedLoop(flight + 1, [replace(r, arrival_s=0.0) for r in kept]))
    ends = np.sort(report.records["end_s"])
    # The first turn fills the replica; in the last one nothing follows those that end.
    first, last = int(0.4 * len(ends)), max(len(ends) - flight, int(0.6 * len(ends)))
    span = float(ends[min(last, len(ends) - 1)] - ends[first])
    return (min(last, len(ends) - 1) - first) / span if span > 0 else float(len(ends) / max(ends[-1], 1e-9))


def highest_rate(
    fleet: Fleet,
    requests_at: Callable[[float], list[Request]],
    slo: Slo,
    *,
    share: float = SHARE,
    resolution: float = RESOLUTION,
    beyond: float = 0.0,
    told: Told | None = None,
) -> Capacity | None:
    """The highest mean rate at which ``share`` of the requests meet the SLO, found to ``resolution`` of itself.

    It is one that the replicas can keep up: a run of finite length lets more through. None where it is not above ``beyond``.
    WorkloadError where none meets the SLO, saying what can be met.
    """
    _require(slo)
    given = requests_at(1.0)
    alone = _alone(fleet.deployment, given, slo)
    if share_within(alone) < share:
        raise _impossible([(fleet.deployment, alone)], slo)

    def tried(rate: float) -> ReplayReport | None:
        requests = requests_at(rate)
        report = run(fleet, requests, slo=slo, most_missed=int((1.0 - share) * len(requests)))
        good = share_within(report) >= share
        if told is not None:
            told(f"{rate:.4g} requests/s: {share_within(report):.1%} within the SLO")
        return report if good else None

    most = rate = saturated_per_s(fleet.deployment, given) * fleet.replicas
    if most <= beyond:
        return None
    best: tuple[float, ReplayReport] | None = None
    low, high = 0.0, np.inf
    while rate > 1e-9 * most:
        found = tried(rate)
        if found is not None:
            best, low = (rate, found), rate
        else:
            high = rate
        if high <= beyond:
            return None
        if low >= most or high - low <= resolution * high:
            break
        rate = (low + high) / 2.0 if low else high / 1.5
    if best is None:
        raise _impossible([(fleet.deployment, alone)], slo)
    return Capacity(fleet.chips, best[0], best[1])


def fewest_chips(
    deployed: Callable[[int], Deployment], sizes: Sequence[int], fleet: Callable[[Deployment, int], Fleet],
    requests: Sequence[Request] | ClosedLoop, slo: Slo, *, most: int, share: float = SHARE, told: Told | None = None,
) -> Capacity:  # fmt: skip
    """The fewest chips (at most ``most``), in replicas of one of ``sizes`` chips, that give ``share`` of the requests the SLO.

    More replicas are taken to be no worse. WorkloadError where no number does, saying what can be met.
    """
    _require(slo)
    best: Capacity | None = None
    alone: list[tuple[Deployment, ReplayReport]] = []
    given = requests.requests if isinstance(requests, ClosedLoop) else requests
    for size in sizes:
        try:
            deployment = deployed(size)
        except (CapacityError, ParallelismError):
            continue
        alone.append((deployment, _alone(deployment, given, slo)))
        if share_within(alone[-1][1]) < share:
            continue
        limit = (most if best is None else best.chips - 1) // size

        def tried(replicas: int, deployment: Deployment = deployment) -> ReplayReport | None:
            report = run(fleet(deployment, replicas), requests, slo=slo, most_missed=int((1.0 - share) * len(given)))
            if told is not None:
                told(f"{replicas} x {deployment.chips} chips: {share_within(report):.1%} within the SLO")
            return report if share_within(report) >= share else None

        low, high, found = 0, 1, None
        while high <= limit and (found := tried(high)) is None:
            low, high = high, min(high * 2, limit) if high < limit else limit + 1
        if found is None:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            report = tried(middle)
            low, high, found = (low, middle, report) if report is not None else (middle, high, found)
        best = Capacity(size * high, None, replace(found))
    if best is not None:
        return best
    if not alone:
        raise CapacityError("the model fits none of these numbers of chips", hint="more chips: " + ", ".join(map(str, sizes)))
    if any(share_within(report) >= share for _, report in alone):
        raise WorkloadError(f"{most} chips do not meet the SLO under this load", hint="--most-chips, or a longer SLO")
    raise _impossible(alone, slo)
