"""A workload file: who asks for what, how often, and what is promised; read the same way by every command that takes one.

rate_per_s = 5.0                      # or concurrency = 32, or trace = "requests.csv" (beside the workload file)
requests = 2000
input_tokens = "lognormal:1000:1.0"   # or 1024, "uniform:100:2000", "exponential:200"
output_tokens = 256
ttft_s = 1.0
tpot_s = 0.05
formats = ["fp8", "bf16"]
[prefix]                              # half of the requests begin with one of 8 texts of 1,024 tokens
share = 0.5
tokens = 1024
groups = 8
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from presilicon.dtypes import Formats
from presilicon.errors import PresiliconError, WorkloadError, nearest
from presilicon.replay.arrivals import Distribution, Lengths, PrefixSharing, at_rate, gamma, together
from presilicon.replay.requests import Request, Slo
from presilicon.replay.run import ClosedLoop
from presilicon.replay.traces import read_trace

DEFAULT_REQUESTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests: a ``trace``, or at a mean ``rate_per_s`` (``variation`` of gaps: 1 Poisson), or from ``concurrency`` clients.

    ``requests`` are replayed (None: the whole trace, else 1,000), a trace ``speed`` times as fast. ``ttft_s`` and ``tpot_s``
    are the SLO; ``max_power_w``, ``chips`` and ``formats`` bound what may be chosen for it. WorkloadError where values clash.
    """

    input_tokens: Distribution | None = None
    output_tokens: Distribution | None = None
    prefix: PrefixSharing = field(default=PrefixSharing())
    trace: str | None = None
    speed: float = 1.0
    rate_per_s: float | None = None
    variation: float = 1.0
    concurrency: int | None = None
    requests: int | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    max_power_w: float | None = None
    chips: int | None = None
    formats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ways = [name for name in ("trace", "rate_per_s", "concurrency") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise WorkloadError(f"{ways[0]} and {ways[1]} are both given", hint="one says when requests arrive")
        if self.trace and (self.input_tokens or self.output_tokens):
            raise WorkloadError("a trace and lengths are both given", hint="the trace has its own lengths")
        for name in ("concurrency", "requests", "chips"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**9):
                raise WorkloadError(f"{name} is {value!r}", hint="a whole number from 1")
        for name in ("speed", "rate_per_s", "max_power_w"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < 1e30:
                raise WorkloadError(f"{name} is {value!r}", hint="a finite number above zero")
        Slo(self.ttft_s, self.tpot_s)
        for name in self.formats:
            Formats.parse(name)

    @property
    def slo(self) -> Slo:
        """The latencies promised."""
        return Slo(self.ttft_s, self.tpot_s)

    @property
    def lengths(self) -> Lengths:
        """Lengths of synthetic requests: 1,024 in and 128 out where nothing is said."""
        return Lengths(self.input_tokens or Distribution(), self.output_tokens or Distribution("fixed", 128.0), self.prefix)

    def requests_at(self, rate_per_s: float, seed: int) -> list[Request]:
        """The requests at another mean rate: the trace faster or slower, or synthetic ones."""
        if self.trace is None:
            return gamma(rate_per_s, self.variation, self.lengths, self.requests or DEFAULT_REQUESTS, seed)
        found = read_trace(self.trace, most=self.requests)
        return at_rate(found, rate_per_s / trace_rate(found))

    def load(self, seed: int) -> list[Request] | ClosedLoop:
        """What is to be replayed. WorkloadError where nothing says when requests arrive."""
        number = self.requests or DEFAULT_REQUESTS
        if self.trace is not None:
            return read_trace(self.trace, most=self.requests, speed=self.speed)
        if self.rate_per_s is not None:
            return gamma(self.rate_per_s, self.variation, self.lengths, number, seed)
        if self.concurrency is not None:
            return ClosedLoop(self.concurrency, together(self.lengths, number, seed))
        raise WorkloadError("nothing says when requests arrive", hint="a trace, a rate, or a concurrency")


def trace_rate(requests: list[Request]) -> float:
    """Requests a second of a trace, from its first to its last."""
    span = requests[-1].arrival_s - requests[0].arrival_s
    if span <= 0.0:
        raise WorkloadError("all requests of the trace arrive at once", hint="a trace that takes time has a rate")
    return (len(requests) - 1) / span


def read_workload(path: str | Path) -> Workload:
    """The workload of a TOML file; WorkloadError names the file and the key that is wrong."""
    where = str(path)
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"cannot be read: {error}", where=where) from None
    except tomllib.TOMLDecodeError as error:
        raise WorkloadError(f"not a TOML file: {error}", where=where) from None
    known = list(Workload.__dataclass_fields__)
    for key in table:
        if key not in known:
            hint = nearest(key, known) or "one of " + ", ".join(sorted(known))
            raise WorkloadError(f"unknown key {key!r}", where=where, hint=hint)
    try:
        return Workload(**{key: _value(key, value, Path(path).parent) for key, value in table.items()})
    except PresiliconError as error:
        raise error.at(where) from None


def _value(key: str, value: Any, folder: Path) -> Any:
    """A value of the file as the workload holds it."""
    if key in ("input_tokens", "output_tokens"):
        return Distribution.parse(value)
    if key == "prefix":
        if not isinstance(value, Mapping) or set(value) - set(PrefixSharing.__dataclass_fields__):
            raise WorkloadError(f"prefix is {value!r}", hint="a table of share, tokens and groups")
        return PrefixSharing(**value)
    if key == "trace":
        if not isinstance(value, str):
            raise WorkloadError(f"trace is {value!r}", hint="a file's name")
        return str(folder / value)
    if key == "formats":
        if not isinstance(value, list) or not all(isinstance(f, str) for f in value):
            raise WorkloadError(f"formats is {value!r}", hint='a list such as ["bf16", "fp8"]')
        if not value:
            raise WorkloadError("formats is empty", hint="leave it out to allow all that the chips have")
        return tuple(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WorkloadError(f"{key} is {value!r}", hint="a number")
    return value
