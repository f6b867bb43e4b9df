"""What a replay writes down, and the report made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.economics import Operation, defaults, usd_per_hour
from presilicon.errors import WorkloadError
from presilicon.replay.decoding import Id
from presilicon.replay.fleet import Fleet
from presilicon.replay.requests import Refusal, Request, Slo
from presilicon.replay.scheduler import Run, Scheduler

Floats = NDArray[np.float64]
PERCENTILES = (50, 90, 99)
# Rows of the timeline.
BINS = 300


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Median, 90th and 99th percentile, and mean of a latency (s); NaN where no request has it."""

    p50: float
    p90: float
    p99: float
    mean: float

    @classmethod
    def of(cls, values: Floats) -> Percentiles:
        """Those of an array, linear between neighbours."""
        if not len(values):
            return cls(np.nan, np.nan, np.nan, np.nan)
        low, middle, high = np.percentile(values, PERCENTILES)
        return cls(float(low), float(middle), float(high), float(values.mean()))

    def to_json(self) -> dict[str, float]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """A replay: latencies over the requests that were served, rates over ``virtual_s``, energy and cost of all chips.

    ``goodput_per_s`` counts the requests that met the SLO (all of them where there is none). ``energy_j`` holds idle chips too.
    ``usd``: price of the chips, their share of servers, and electricity for the time of the replay, idle or not; None where no
    price is known. ``utilization`` is the share of the time in which a replica worked. ``records`` has one entry a request,
    ``timeline`` one a slice of time; columns by name.
    """

    model: str
    chip: str
    chips: int
    replicas: int
    parallelism: str
    formats: str
    requests: int
    refused: int
    refused_by: Mapping[str, int]
    preemptions: int
    virtual_s: float
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles
    slo: Slo
    within_slo: float
    goodput_per_s: float
    requests_per_s: float
    output_tokens_per_s: float
    prefix_hit_share: float
    utilization: float
    energy_j: float
    power_w: float
    energy_per_request_j: float
    energy_per_token_j: float
    usd: float | None
    usd_per_request: float | None
    usd_per_million_tokens: float | None
    price_basis: str
    wall_s: float = 0.0
    records: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    timeline: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The object that ``replay --json`` prints; without the columns of requests and time."""
        left_out = ("records", "timeline", "slo")
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            found[name] = getattr(self, name).to_json()
        return found | {"refused_by": dict(self.refused_by), "slo": {"ttft_s": self.slo.ttft_s, "tpot_s": self.slo.tpot_s}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """How far a replay is: requests ended and in all, virtual time, what runs and waits now, latencies so far (median, p99)."""

    ended: int
    total: int
    virtual_s: float
    running: int
    waiting: int
    kv_usage: float
    ttft_s: tuple[float, float]
    tpot_s: tuple[float, float]


class Ledger:
    """Times of every request and what every step did, as plain columns that grow."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self._index = {request.id: i for i, request in enumerate(requests)}
        if len(self._index) != len(requests):
            raise WorkloadError("two requests have the same id", hint="ids that are unique")
        self.arrival_s = [request.arrival_s for request in requests]
        times = np.array(self.arrival_s)
        if len(times) > 1 and np.any(np.diff(times) < 0):
            late = int(np.argmax(np.diff(times) < 0)) + 1
            raise WorkloadError("requests are not sorted by arrival", where=f"request {requests[late].id}", hint="sort them")
        self.first_s = [np.nan] * len(requests)
        self.end_s = [np.nan] * len(requests)
        self.replica = [-1] * len(requests)
        self.refusals: list[tuple[int, Refusal]] = []
        self.ended = 0
        self.missed = 0
        self._judged: Slo | None = None
        self.energy_j = 0.0
        self._steps: list[tuple[float, ...]] = []

    def index(self, id: Id) -> int:
        """Place of a request among all."""
        return self._index[id]

    def request(self, id: Id) -> Request:
        """A request as it was given."""
        return self.requests[self._index[id]]

    def tokens(self, id: Id) -> int:
        """Output tokens of a request."""
        return self.requests[self._index[id]].output_tokens

    def arrive(self, id: Id, now_s: float) -> None:
        """A client of a closed loop sends its next request."""
        self.arrival_s[self._index[id]] = now_s

    def assign(self, id: Id, replica: int) -> None:
        """A replica takes a request."""
        self.replica[self._index[id]] = replica

    def refuse(self, id: Id, refusal: Refusal, replica: int) -> None:
        """A request is not taken."""
        self.refusals.append((self._index[id], refusal))
        self.ended += 1

    def judge(self, slo: Slo) -> None:
        """Count the requests that miss the SLO from now on in ``missed``."""
        self._judged = slo

    def first(self, id: Id, now_s: float) -> None:
        """A request has its first token."""
        self.first_s[self._index[id]] = now_s

    def end(self, id: Id, now_s: float) -> None:
        """A request has its last token."""
        index = self._index[id]
        self.end_s[index] = now_s
        self.ended += 1
        if self._judged is not None:
            late = self._judged.ttft_s is not None and self.first_s[index] - self.arrival_s[index] > self._judged.ttft_s
            slow = self._judged.tpot_s is not None and (
                now_s - self.first_s[index] > self._judged.tpot_s * (self.requests[index].output_tokens - 1)
            )
            self.missed += late or slow

    def step(self, replica: int, scheduler: Scheduler, start_s: float, end_s: float, took: Run) -> None:
        """A replica made one step or several."""
        self.energy_j += took.energy_j
        self._steps.append((start_s, end_s, took.decodes, took.prefill_tokens, scheduler.running, scheduler.waiting,
                            scheduler.kv_usage, took.energy_j, took.decodes * took.steps))  # fmt: skip

    def underway(self, schedulers: Sequence[Scheduler]) -> Underway:
        """How far the replay is."""
        first, end = np.array(self.first_s), np.array(self.end_s)
        ttft = (first - np.array(self.arrival_s))[np.isfinite(first)]
        steps = np.array([request.output_tokens - 1.0 for request in self.requests])
        ended = np.isfinite(end) & (steps > 0)
        tpot = (end - first)[ended] / steps[ended]
        return Underway(
            ended=self.ended, total=len(self.requests), virtual_s=self._steps[-1][1] if self._steps else 0.0,
            running=sum(s.running for s in schedulers), waiting=sum(s.waiting for s in schedulers),
            kv_usage=sum(s.kv_usage for s in schedulers) / len(schedulers), ttft_s=_half_and_late(ttft),
            tpot_s=_half_and_late(tpot),
        )  # fmt: skip

    def report(
        self, fleet: Fleet, slo: Slo, schedulers: Sequence[Scheduler], operation: Operation | None = None
    ) -> ReplayReport:
        """The report of what was written down."""
        d, requests = fleet.deployment, self.requests
        arrival, first, end = np.array(self.arrival_s), np.array(self.first_s), np.array(self.end_s)
        inputs = np.array([r.input_tokens for r in requests])
        outputs = np.array([r.output_tokens for r in requests])
        served = np.isfinite(end)
        steps = np.array(self._steps).reshape(-1, 9)
        virtual_s = max(float(np.max(end[served], initial=0.0)), float(arrival.max()))
        busy_s = float(np.sum(steps[:, 1] - steps[:, 0]))
        replicas = fleet.replicas + fleet.prefill_replicas
        energy_j = self.energy_j + d.times.static_w * max(virtual_s * replicas - busy_s, 0.0)
        ttft, e2e = first - arrival, end - arrival
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = np.where(outputs > 1, (end - first) / (outputs - 1.0), np.nan)
        good = served.copy()
        if slo.ttft_s is not None:
            good &= ~(ttft > slo.ttft_s)
        if slo.tpot_s is not None:
            good &= ~(tpot > slo.tpot_s)
        number, tokens = int(served.sum()), float(outputs[served].sum())
        power = energy_j / virtual_s if virtual_s else 0.0
        # Idle time is in the replay itself: nothing is to be spread over other hours.
        hourly, basis = usd_per_hour(d.chip.price, power, fleet.chips, replace(operation or defaults(), utilization=1.0))
        usd = None if hourly is None else hourly * virtual_s / 3600.0
        asked = sum(s.prefix_queries_tokens for s in schedulers)
        return ReplayReport(
            model=d.model.name, chip=d.chip.name, chips=fleet.chips, replicas=replicas, parallelism=str(d.parallelism),
            formats=str(d.formats), requests=len(requests), refused=len(self.refusals),
            refused_by=dict(sorted(Counter(r.reason for _, r in self.refusals).items())),
            preemptions=sum(s.preemptions for s in schedulers), virtual_s=virtual_s,
            ttft_s=Percentiles.of(ttft[served]), tpot_s=Percentiles.of(tpot[served & (outputs > 1)]),
            e2e_s=Percentiles.of(e2e[served]), slo=slo, within_slo=float(good.sum()) / len(requests),
            goodput_per_s=_over(float(good.sum()), virtual_s), requests_per_s=_over(number, virtual_s),
            output_tokens_per_s=_over(tokens, virtual_s),
            prefix_hit_share=_over(float(sum(s.prefix_hit_tokens for s in schedulers)), asked),
            utilization=_over(busy_s, virtual_s * replicas), energy_j=energy_j, power_w=power,
            energy_per_request_j=_over(energy_j, number), energy_per_token_j=_over(energy_j, tokens), usd=usd,
            usd_per_request=None if usd is None else _over(usd, number),
            usd_per_million_tokens=None if usd is None else _over(usd * 1e6, tokens), price_basis=basis,
            records={
                "id": np.array([str(r.id) for r in requests]), "arrival_s": arrival, "first_token_s": first, "end_s": end,
                "input_tokens": inputs, "output_tokens": outputs, "ttft_s": ttft, "tpot_s": tpot, "e2e_s": e2e,
                "replica": np.array(self.replica), "within_slo": good.astype(int), "refused": self._reasons(),
            },
            timeline=_timeline(steps, virtual_s, replicas),
        )  # fmt: skip

    def _reasons(self) -> NDArray[Any]:
        reasons = np.array([""] * len(self.requests), dtype=object)
        for index, refusal in self.refusals:
            reasons[index] = refusal.reason
        return reasons


def _half_and_late(values: Floats) -> tuple[float, float]:
    found = Percentiles.of(values)
    return found.p50, found.p99


def _over(amount: float, by: float) -> float:
    return float(amount / by) if by else 0.0


def _timeline(steps: Floats, virtual_s: float, replicas: int) -> dict[str, Floats]:
    """Means over slices of time, each step spread over those it touches."""
    if not len(steps) or virtual_s <= 0:
        return {}
    edges = np.linspace(0.0, virtual_s, BINS + 1)
    width = edges[1]

    def mean(values: Floats) -> Floats:
        """Mean over each slice of what ``values`` a second add up to during the steps."""
        start, end = steps[:, 0], steps[:, 1]
        # The integral up to each edge: what ended before it, and the part of what has begun.
        total = np.zeros(BINS + 1)
        order_end, order_start = np.argsort(end, kind="stable"), np.argsort(start, kind="stable")
        ended = np.concatenate(([0.0], np.cumsum((values * (end - start))[order_end])))
        rates = np.concatenate(([0.0], np.cumsum(values[order_start])))
        moments = np.concatenate(([0.0], np.cumsum((values * start)[order_start])))
        rates_end = np.concatenate(([0.0], np.cumsum(values[order_end])))
        moments_end = np.concatenate(([0.0], np.cumsum((values * start)[order_end])))
        done = np.searchsorted(end[order_end], edges, side="right")
        begun = np.searchsorted(start[order_start], edges, side="right")
        total = ended[done] + (rates[begun] - rates_end[done]) * edges - (moments[begun] - moments_end[done])
        found: Floats = np.diff(total) / width
        return found

    span = np.maximum(steps[:, 1] - steps[:, 0], 1e-12)
    return {
        "start_s": edges[:-1],
        "utilization": mean(np.ones(len(steps))) / replicas,
        "running": mean(steps[:, 4]),
        "waiting": mean(steps[:, 5]),
        "kv_usage": mean(steps[:, 6]) / replicas,
        "prefill_tokens_per_s": mean(steps[:, 3] / span),
        "decode_tokens_per_s": mean(steps[:, 8] / span),
        "busy_power_w": mean(steps[:, 7] / span),
    }
