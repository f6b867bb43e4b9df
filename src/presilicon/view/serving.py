"""Serving: how latencies are distributed, what happened over time, and what throughput costs in latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presilicon.units import percent, si
from presilicon.view.picture import Picture
from presilicon.view.plot import Dot, Dots, Layer, Line, plot
from presilicon.view.scale import Axis

PERCENTILES = (50, 90, 99)


def distribution(
    title: str, quantiles: Sequence[float], *, source: str, limit_s: float | None = None, width: float = 720.0
) -> Picture:
    """Share of the requests that are at most so late; ``quantiles`` (s) at equal steps from the least to the most."""
    steps = len(quantiles) - 1
    points = [(value, index / steps) for index, value in enumerate(quantiles)]
    x = Axis.around(
        "time", "s", [*quantiles, *([limit_s] if limit_s else [])], log=quantiles[-1] > 20 * max(quantiles[0], 1e-9) > 0
    )
    marks = [(p, quantiles[round(p / 100 * steps)]) for p in PERCENTILES]
    layers: list[Layer] = [Line(points, tone=0)]
    layers.append(Dots([Dot(v, p / 100, f"{p} %: {si(v, 's')}", 4.0, f"p{p} {si(v, 's')}") for p, v in marks], tone=0))
    words = ", ".join(f"{p} % within {si(v, 's')}" for p, v in marks)
    if limit_s:
        layers.append(Line([(limit_s, 0.0), (limit_s, 1.0)], f"limit {si(limit_s, 's')}", 1, dashed=True))
        within = sum(v <= limit_s for v in quantiles) / len(quantiles)
        words += f"; {percent(within)} within the limit of {si(limit_s, 's')}"
    return plot(
        title, x, Axis("share of requests", "%", 0.0, 1.0), layers, summary=words[:1].upper() + words[1:] + ".", source=source,
        width=width, height=max(240.0, width * 0.36), columns=("percentile", "time"),
        rows=[(f"p{p}", si(v, "s")) for p, v in marks] + [("least", si(quantiles[0], "s")), ("most", si(quantiles[-1], "s"))],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity over time: its key in the timeline, its name, its unit."""

    key: str
    name: str
    unit: str = ""


QUEUE = (Series("running", "being answered"), Series("waiting", "waiting"))
CACHE = (Series("kv_usage", "KV cache in use", "%"), Series("utilization", "chips at work", "%"))
TOKENS = (Series("prefill_tokens_per_s", "prompt tokens", "token/s"), Series("decode_tokens_per_s", "answer tokens", "token/s"))


def over_time(
    title: str, timeline: Mapping[str, Sequence[float]], series: Sequence[Series], *, source: str, width: float = 720.0
) -> Picture:
    """Series of one unit over the time of the replay (``timeline`` has columns by key, and ``start_s``)."""
    times = timeline["start_s"]
    unit = series[0].unit
    values = [v for one in series for v in timeline[one.key]]
    x = Axis("time of the replay", "s", float(times[0]), float(times[-1]) or 1.0)
    y = Axis("share" if unit == "%" else unit or "requests", unit, 0.0, 1.0) if unit == "%" else _from_zero(unit, values)
    layers = [
        Line(list(zip(times, timeline[one.key], strict=True)), one.name, (0, 1, 2)[i % 3], dashed=i == 1)
        for i, one in enumerate(series)
    ]
    means = {one.name: sum(timeline[one.key]) / len(times) for one in series}
    peaks = {one.name: max(timeline[one.key]) for one in series}
    told = "; ".join(f"{name}: {y.text(means[name])} in the mean, {y.text(peaks[name])} at most" for name in means)
    return plot(
        title, x, y, layers, summary=told[:1].upper() + told[1:] + ".", source=source, width=width,
        height=max(220.0, width * 0.3), columns=("", "mean", "most"),
        rows=[(name, y.text(means[name]), y.text(peaks[name])) for name in means],
    )  # fmt: skip


def _from_zero(unit: str, values: Sequence[float]) -> Axis:
    most = max(values, default=0.0)
    return Axis(unit or "requests", unit, 0.0, most * 1.08 or 1.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One batch or load: requests in flight, output tokens a second of the system, time per output token (s)."""

    batch: int
    tokens_per_s: float
    time_per_output_token_s: float


def throughput_latency(
    curves: Mapping[str, Sequence[Point]], *, source: str, limit_s: float | None = None, width: float = 720.0
) -> Picture:
    """What throughput costs in latency: one line a system, a mark a batch."""
    points = [p for curve in curves.values() for p in curve]
    x = Axis.around("output tokens a second, whole system", "token/s", [p.tokens_per_s for p in points], log=True)
    times = [p.time_per_output_token_s for p in points] + ([limit_s] if limit_s else [])
    y = Axis.around("time per output token", "s", times, log=True)
    layers: list[Layer] = []
    shapes = ("circle", "square", "triangle", "diamond")
    for index, (name, curve) in enumerate(curves.items()):
        layers.append(Line([(p.tokens_per_s, p.time_per_output_token_s) for p in curve], tone=index % 8))
        dots = [
            Dot(
                p.tokens_per_s,
                p.time_per_output_token_s,
                f"{name}, batch {p.batch}: {si(p.tokens_per_s, 'token/s')}, {si(p.time_per_output_token_s, 's')}",
                4.0,
                str(p.batch) if index == 0 else "",
            )
            for p in curve
        ]
        layers.append(Dots(dots, name, index % 8, shapes[index % 4], above=True))
    if limit_s:
        layers.append(Line([(x.low, limit_s), (x.high, limit_s)], f"limit {si(limit_s, 's')}", 7, dashed=True))
    best = max(points, key=lambda p: p.tokens_per_s)
    return plot(
        "Throughput against latency", x, y, layers,
        summary=f"Each mark is a number of requests in flight; at most {si(best.tokens_per_s, 'token/s')}, "
        f"with {best.batch} in flight.",
        source=source, width=width, height=max(280.0, width * 0.44),
        columns=("system", "in flight", "token/s", "time per token"),
        rows=[
            (name, str(p.batch), si(p.tokens_per_s), si(p.time_per_output_token_s, "s"))
            for name, curve in curves.items()
            for p in curve
        ],
    )  # fmt: skip
