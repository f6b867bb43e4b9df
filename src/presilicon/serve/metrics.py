"""Prometheus metrics under vLLM's names, one set per replica (label ``engine``); times are the chip's, not this computer's.

Names and buckets: docs.vllm.ai/en/v0.32.0/usage/metrics/ and vllm/v1/metrics/loggers.py of vLLM (counters get ``_total``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# fmt: off
TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0,
    2560.0,
)
ITL_BUCKETS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
LATENCY_BUCKETS_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0,
    7680.0,
)
STEP_BUCKETS = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
# fmt: on
CHOICE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0)

FINISH_REASONS = ("stop", "length", "abort", "error")


def buckets_125(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 and so on up to ``most``."""
    return tuple(float(m * 10**e) for e in range(12) for m in (1, 2, 5) if m * 10**e <= most)


class Histogram:
    """Counts of observations per bucket."""

    __slots__ = ("buckets", "counts", "total")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = tuple(buckets)
        self.counts = [0] * (len(self.buckets) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` ``times`` times."""
        self.counts[bisect_left(self.buckets, value)] += times
        self.total += value * times

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """The histogram as Prometheus reads it."""
        below = 0
        for edge, count in zip((*self.buckets, float("inf")), self.counts, strict=True):
            below += count
            yield f'{name}_bucket{{{labels},le="{"+Inf" if edge == float("inf") else edge}"}} {float(below)}'
        yield f"{name}_sum{{{labels}}} {self.total}"
        yield f"{name}_count{{{labels}}} {float(below)}"


@dataclass(slots=True)
class Metrics:
    """What one replica counts; ``context`` is the most tokens of a request."""

    context: int
    running: int = 0
    waiting: int = 0
    kv_cache_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINISH_REASONS, 0))
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = buckets_125(self.context)
        edges = {
            "request_prompt_tokens": lengths,
            "request_generation_tokens": lengths,
            "request_max_num_generation_tokens": lengths,
            "request_params_max_tokens": lengths,
            "request_params_n": CHOICE_BUCKETS,
            "iteration_tokens_total": STEP_BUCKETS,
            "time_to_first_token_seconds": TTFT_BUCKETS_S,
            "inter_token_latency_seconds": ITL_BUCKETS_S,
            "request_time_per_output_token_seconds": ITL_BUCKETS_S,
            "e2e_request_latency_seconds": LATENCY_BUCKETS_S,
            "request_decode_time_seconds": LATENCY_BUCKETS_S,
        }
        self.histograms = {name: Histogram(e) for name, e in edges.items()}

    def observe(self, name: str, value: float, times: int = 1) -> None:
        """Count ``value`` in the histogram ``name`` (without its prefix)."""
        self.histograms[name].observe(value, times)


GAUGES = {
    "num_requests_running": ("running", "Number of requests in model execution batches."),
    "num_requests_waiting": ("waiting", "Number of requests waiting to be processed."),
    "kv_cache_usage_perc": ("kv_cache_usage", "KV-cache usage. 1 means 100 percent usage."),
}
COUNTERS = {
    "prefix_cache_queries": ("prefix_queries", "Prefix cache queries, in terms of number of queried tokens."),
    "prefix_cache_hits": ("prefix_hits", "Prefix cache hits, in terms of number of cached tokens."),
    "num_preemptions": ("preemptions", "Cumulative number of preemption from the engine."),
    "prompt_tokens": ("prompt_tokens", "Number of prefill tokens processed."),
    "generation_tokens": ("generation_tokens", "Number of generation tokens processed."),
}


def render(replicas: Sequence[Metrics], *, model: str, own: Mapping[str, tuple[str, str, float]]) -> str:
    """All metrics as Prometheus' text format: vLLM's per replica, and ``own`` (name -> type, help, value) of the server."""
    quoted = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    labels = [f'engine="{i}",model_name="{quoted}"' for i in range(len(replicas))]
    lines: list[str] = []

    def head(name: str, kind: str, text: str) -> str:
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
        return name

    for short, (attribute, text) in GAUGES.items():
        name = head(f"vllm:{short}", "gauge", text)
        lines += [f"{name}{{{label}}} {float(getattr(m, attribute))}" for m, label in zip(replicas, labels, strict=True)]
    for short, (attribute, text) in COUNTERS.items():
        name = head(f"vllm:{short}_total", "counter", text)
        lines += [f"{name}{{{label}}} {float(getattr(m, attribute))}" for m, label in zip(replicas, labels, strict=True)]
    name = head("vllm:request_success_total", "counter", "Count of successfully processed requests.")
    for metrics, label in zip(replicas, labels, strict=True):
        lines += [f'{name}{{{label},finished_reason="{why}"}} {float(count)}' for why, count in metrics.finished.items()]
    for short in replicas[0].histograms:
        name = head(f"vllm:{short}", "histogram", f"Histogram of {short.replace('_', ' ')}.")
        for metrics, label in zip(replicas, labels, strict=True):
            lines += metrics.histograms[short].lines(name, label)
    for short, (kind, text, value) in own.items():
        name = head(f"presilicon:{short}", kind, text)
        lines.append(f'{name}{{model_name="{quoted}"}} {float(value)}')
    return "\n".join(lines) + "\n"
