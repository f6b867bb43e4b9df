"""Synthetic requests: lengths from distributions, prefixes that requests share, arrivals at random; all from one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, isfinite, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import WorkloadError
from presilicon.replay.requests import LONGEST, Request

KINDS = ("fixed", "uniform", "exponential", "lognormal")
SHARED_BLOCK = 16
"""Tokens of one block of a shared prefix."""
_WAYS = 'a number of tokens, "uniform:low:high", "exponential:mean" or "lognormal:mean:sigma"'


@dataclass(frozen=True, slots=True)
class Distribution:
    """Token counts: ``fixed`` at ``mean``, ``uniform`` from ``low`` to ``high``, ``exponential``, or ``lognormal``.

    Values are whole and cut to ``low`` .. ``high``; ``sigma`` is the deviation of the logarithm. Written as text
    "1024", "uniform:100:2000", "exponential:200", "lognormal:1000:1.2".
    """

    kind: str = "fixed"
    mean: float = 1024.0
    sigma: float = 0.0
    low: float = 1.0
    high: float = float(LONGEST)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise WorkloadError(f"no distribution is called {self.kind!r}", hint="one of " + ", ".join(KINDS))
        numbers = (self.mean, self.sigma, self.low, self.high)
        usable = all(isinstance(n, int | float) and not isinstance(n, bool) and isfinite(n) for n in numbers)
        ordered = usable and 1 <= self.low <= self.high <= LONGEST and 1 <= self.mean <= LONGEST and 0 <= self.sigma <= 10
        if not ordered:
            raise WorkloadError(f"lengths {self} are impossible", hint=_WAYS)

    @classmethod
    def parse(cls, text: str | int | float | Mapping[str, Any]) -> Distribution:
        """A distribution from its text, a number, or the table of a workload file (kind, mean, sigma, low, high)."""
        if isinstance(text, Mapping):
            known = cls.__dataclass_fields__
            for key in text:
                if key not in known:
                    raise WorkloadError(f"unknown key {key!r}", hint="one of " + ", ".join(known))
            return cls(**{"kind": "fixed", **text})
        kind, *rest = str(text).split(":")
        try:
            if not rest:
                return cls("fixed", float(kind))
            numbers = [float(part) for part in rest]
            if kind == "uniform" and len(numbers) == 2:
                return cls("uniform", sum(numbers) / 2.0, 0.0, *numbers)
            if kind == "exponential" and len(numbers) == 1:
                return cls("exponential", numbers[0])
            if kind == "lognormal" and len(numbers) == 2:
                return cls("lognormal", *numbers)
        except ValueError:
            pass
        raise WorkloadError(f"{str(text)[:40]!r} is not a distribution of lengths", hint=_WAYS)

    def draw(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``number`` lengths, each a whole number from 1."""
        if self.kind == "uniform":
            values = rng.integers(ceil(self.low), int(self.high), number, endpoint=True).astype(float)
        elif self.kind == "exponential":
            values = rng.exponential(self.mean, number)
        elif self.kind == "lognormal":
            values = np.exp(rng.normal(log(self.mean) - self.sigma**2 / 2.0, self.sigma, number))
        else:
            values = np.full(number, self.mean)
        whole: NDArray[np.int64] = np.clip(np.rint(values), max(self.low, 1.0), self.high).astype(np.int64)
        return whole


@dataclass(frozen=True, slots=True)
class PrefixSharing:
    """``share`` of the requests begin with one of ``groups`` texts of ``tokens`` tokens (system prompts), in equal parts."""

    share: float = 0.0
    tokens: int = 1024
    groups: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise WorkloadError(f"the share of requests with a common prefix is {self.share!r}", hint="from 0 to 1")
        for name in ("tokens", "groups"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST:
                raise WorkloadError(f"{name} of a common prefix is {value!r}", hint="a whole number from 1")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Input and output lengths of requests, and the prefixes that they share (a shared prefix is part of the input)."""

    input_tokens: Distribution = Distribution()
    output_tokens: Distribution = Distribution("fixed", 128.0)
    prefix: PrefixSharing = PrefixSharing()

    def requests(self, arrival_s: NDArray[np.float64], rng: np.random.Generator) -> list[Request]:
        """One request at each time."""
        number = len(arrival_s)
        inputs, outputs = self.input_tokens.draw(number, rng).tolist(), self.output_tokens.draw(number, rng).tolist()
        shared = rng.random(number) < self.prefix.share
        group = rng.integers(0, self.prefix.groups, number).tolist()
        found = []
        for i, time_s in enumerate(arrival_s.tolist()):
            blocks = min(self.prefix.tokens, inputs[i]) // SHARED_BLOCK if shared[i] else 0
            prefix = tuple((group[i], block) for block in range(blocks))
            found.append(Request(i, time_s, inputs[i], outputs[i], prefix, SHARED_BLOCK))
        return found


def _rate(rate_per_s: float, number: int) -> None:
    if not 0.0 < rate_per_s < 1e9:
        raise WorkloadError(f"the arrival rate is {rate_per_s!r} a second", hint="a number above zero")
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 10**8:
        raise WorkloadError(f"{number!r} requests", hint="a whole number from 1")


def poisson(rate_per_s: float, lengths: Lengths, number: int, seed: int) -> list[Request]:
    """``number`` requests that arrive independently of each other at a mean rate."""
    return gamma(rate_per_s, 1.0, lengths, number, seed)


def gamma(rate_per_s: float, variation: float, lengths: Lengths, number: int, seed: int) -> list[Request]:
    """As ``poisson``, the deviation of the gaps over their mean being ``variation``: above 1 in bursts, below 1 more evenly."""
    _rate(rate_per_s, number)
    if not 0.0 <= variation <= 100.0:
        raise WorkloadError(f"the variation of the gaps is {variation!r}", hint="from 0 (even) over 1 (Poisson) to 100")
    times, rest = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.default_rng(times)
    # Gaps of a rate of one: another rate stretches the same arrivals, so that a search over rates is smooth.
    shape = 1.0 / variation**2 if variation else 0.0
    gaps = rng.gamma(shape, 1.0 / shape, number) if shape else np.ones(number)
    arrival_s = np.cumsum(gaps) / rate_per_s
    return lengths.requests(arrival_s, np.random.default_rng(rest))


def together(lengths: Lengths, number: int, seed: int) -> list[Request]:
    """``number`` requests that are all there at the start (offline, or the stock of a closed loop)."""
    _rate(1.0, number)
    _, rest = np.random.SeedSequence(seed).spawn(2)
    return lengths.requests(np.zeros(number), np.random.default_rng(rest))


def at_rate(requests: list[Request], factor: float) -> list[Request]:
    """The same requests arriving ``factor`` times as fast."""
    return [replace(r, arrival_s=r.arrival_s / factor) for r in requests]
