"""What each MLPerf benchmark runs: its model, lengths, bounds; and in which formats a chip runs it."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from presilicon.chip import Chip
from presilicon.dtypes import BF16, FP8, INT4, INT8, NVFP4, Formats, number_format

_PUBLISHED = resources.files("presilicon") / "data" / "published"


@cache
def workloads() -> Mapping[tuple[str, str], float]:
    """Published numbers of each benchmark by (benchmark, fact); sources stand in data/published/mlperf_workloads.csv."""
    text = (_PUBLISHED / "mlperf_workloads.csv").read_text(encoding="utf-8")
    return {(row["benchmark"], row["fact"]): float(row["value"]) for row in csv.DictReader(text.splitlines())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark: a network, or a language model with its mean lengths.

    ``precise`` asks for 99.9 % of the accuracy, ``detection``
    networks end in a choice among boxes.
    """

    name: str
    workload: str
    network: str = ""
    language_model: str = ""
    precise: bool = False
    detection: bool = False

    def fact(self, name: str) -> float | None:
        """A published number of the benchmark; None where there is none."""
        return workloads().get((self.workload, name))

    @property
    def input_tokens(self) -> float | None:
        """Mean prompt length."""
        return self.fact("mean_input_tokens") or self.fact("mean_input_tokens_proxy")

    @property
    def output_tokens(self) -> float:
        """Mean number of tokens generated."""
        return self.fact("mean_output_tokens") or 1.0

    @property
    def sample_bytes(self) -> float:
        """Bytes of one image as the host sends it (8 bits a value); 0 where the input is text."""
        sides = [self.fact(f"image_{side}") for side in ("height", "width", "channels")]
        return float(np.prod([s for s in sides if s])) if all(sides) and self.workload != "stable-diffusion-xl" else 0.0

    @property
    def long_output_tokens(self) -> float:
        """The 90th percentile of generated lengths if they are exponential about their mean, cut at the longest allowed."""
        return min(self.output_tokens * 2.3, self.fact("max_output_tokens") or np.inf)

    @property
    def beams(self) -> int:
        """Beams of the search (1: greedy)."""
        return int(self.fact("beams") or 1)

    def bound_s(self, scenario: str, what: str) -> float | None:
        """A latency bound (s) of the server or interactive scenario: ``what`` is latency, ttft or tpot."""
        value = self.fact(f"{scenario}_{what}_bound_ms")
        return None if value is None else value / 1e3


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """Every benchmark that is predicted, by MLPerf's name."""
    tables = tomllib.loads((_PUBLISHED / "mlperf_models.toml").read_text(encoding="utf-8"))
    return {name: Benchmark(name=name, **table) for name, table in tables.items()}


# From fast to precise; what a submission states decides, else the first one that the chip has.
_NETWORK_ORDER = ("int8", "fp8", "fp16", "bf16", "fp32")


def _stated(precision: str) -> list[str]:
    found = []
    for word, name in (("fp4", "nvfp4"), ("int4", "int4"), ("fp8", "fp8"), ("int8", "int8"), ("bf16", "bf16"),
                       ("fp16", "fp16"), ("fp32", "fp32")):  # fmt: skip
        if word in precision.lower() and name not in found:
            found.append(name)
    return found


def network_formats(benchmark: Benchmark, chip: Chip, precision: str) -> tuple[Formats, ...]:
    """The formats a chip runs a network in: the fastest stated one that it has, else its fastest; none where it has none.

    A transformer stated to run in two formats does a part of its work, not known, in each: both are returned.
    """
    has = chip.peak_ops_per_s
    # Fastest first on this chip; in the order listed where rates are equal. int8 comes last where precision matters.
    order = sorted(_NETWORK_ORDER, key=lambda name: (benchmark.precise and name == "int8", -has.get(name, 0.0)))
    stated = [name for name in _NETWORK_ORDER if name in _stated(precision)]
    mixed = [name for name in stated if name in has]
    if benchmark.precise and "int8" in mixed and len(mixed) > 1:
        mixed.remove("int8")
    if benchmark.fact("mean_sequence_tokens") is None or len(mixed) != 2:
        mixed = [next((name for name in [*mixed, *order] if name in has), "")]
    # Attention's probabilities keep 16 bits on chips that can multiply them.
    fine = next((name for name in ("fp16", "bf16") if name in has), "")
    return tuple(_network_format(name, fine) for name in mixed if name)


def _network_format(name: str, fine: str) -> Formats:
    wide = number_format(name)
    return Formats(wide, wide, wide if wide.bits >= 16 or not fine else number_format(fine))


def language_formats(chip: Chip, precision: str) -> Formats | None:
    """The formats a chip serves a language model in; fp8 caches where it multiplies fp8, else 16-bit ones."""
    has = chip.peak_ops_per_s
    stated = _stated(precision)
    if "int4" in stated and "fp8" not in stated:  # weights only: the matrix unit multiplies 16 bits
        wide = "bf16" if "bf16" in has else "fp16"
        return Formats(INT4, number_format(wide), FP8 if "fp8" in has else BF16) if wide in has else None
    if ("nvfp4" in stated or not stated) and ("nvfp4" in has or "mxfp4" in has):
        return Formats(NVFP4, NVFP4, FP8)
    if ("fp8" in stated or not stated or "nvfp4" in stated) and "fp8" in has:
        return Formats(FP8, FP8, FP8)
    if "int8" in has and ("int8" in stated or not stated):
        return Formats(INT8, INT8, BF16)
    for name in ("bf16", "fp16"):
        if name in has:
            return Formats(number_format(name), number_format(name), BF16)
    return None
