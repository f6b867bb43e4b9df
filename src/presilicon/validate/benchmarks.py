"""Which MLPerf benchmarks are predicted, and what a submission declares of its system."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from presilicon.scenario.benchmarks import benchmarks

_PUBLISHED = resources.files("presilicon") / "data" / "published"

# The closed list of reasons for which an MLPerf row is not predicted.
SKIPPED = {
    "length": "unknown input length",
    "chip": "chip figure not public",
    "recommendation": "recommendation benchmark",
    "video": "video or vision-language benchmark",
}
_RECOMMENDATION = ("dlrm",)
_VIDEO = ("wan-", "qwen3-vl", "qwen3.6", "3d-unet")


def not_predicted(benchmark: str) -> str:
    """Why a benchmark is not predicted; empty where it is."""
    if benchmark.startswith(_RECOMMENDATION):
        return SKIPPED["recommendation"]
    if benchmark.startswith(_VIDEO):
        return SKIPPED["video"]
    known = benchmarks().get(benchmark)
    if known is None or (known.language_model and known.input_tokens is None):
        return SKIPPED["length"]
    return ""


@dataclass(frozen=True, slots=True)
class Submission:
    """Declared inputs of one system: cores of its host, and of the chip for one sample (0: as its family)."""

    host_cores: float = 64.0
    sample_cores: float = 0.0


@cache
def _settings() -> Mapping[str, Submission]:
    tables = tomllib.loads((_PUBLISHED / "mlperf_settings.toml").read_text(encoding="utf-8"))
    return {n: Submission(t.get("host_cores", 64.0), t.get("sample_cores", 0.0)) for n, t in tables.items()}


def submission(system: str) -> Submission:
    """What a system's submission declares, by the beginning of its name; a server's usual host where nothing is noted."""
    return next((found for start, found in _settings().items() if system.startswith(start)), Submission())
