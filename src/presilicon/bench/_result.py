"""What a benchmark found, as values; and its folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from presilicon.bench._rules import LABEL, NO_BOUNDS, Bounds
from presilicon.bench._virtual import Measured
from presilicon.errors import InputError

RESULT_FILE, README_FILE, SUMMARY_FILE = "presilicon.json", "README.txt", "mlperf_log_summary.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One scenario of one model on one system. Times in seconds of the chips; ``value`` is the ``metric``, as measured.

    ``driver`` is LoadGen with its version, or virtual time; with LoadGen, ``virtual`` is the same run in virtual time, and
    ``time_scale`` real seconds per second of the chips. ``low`` and ``high``: where measurements of such chips lay.
    """

    model: str
    chip: str
    chips: int
    formats: str
    benchmark: str
    scenario: str
    metric: str
    driver: str
    measured: Measured
    low: float
    high: float
    bounds: Bounds = NO_BOUNDS
    virtual: Measured | None = None
    time_scale: float | None = None
    wall_s: float | None = None
    early_stopping_s: float | None = None
    overhead_s: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def difference(self) -> float | None:
        """How far LoadGen's value is from virtual time's, as a fraction; of a server, that of its 99th percentile."""
        if self.virtual is None:
            return None
        if self.scenario == "server":
            return self.measured.percentiles["p99"] / self.virtual.percentiles["p99"] - 1.0
        return self.measured.value / self.virtual.value - 1.0

    def to_json(self) -> dict[str, Any]:
        """The object that ``bench --json`` prints."""
        m, v = self.measured, self.virtual
        found: dict[str, Any] = {name: getattr(self, name) for name in ("model", "chip", "chips", "formats")}
        found |= {
            "benchmark": self.benchmark or None,
            "scenario": self.scenario,
            "metric": self.metric,
            "value": m.value,
            "low": m.value * self.low,
            "high": m.value * self.high,
            "percentiles": m.percentiles,
            "valid": m.valid,
            "unverified": True,
            "label": LABEL,
            "reasons": list(m.reasons),
            "driver": self.driver,
            "rate_per_s": m.rate_per_s,
            "latency_bound_s": self.bounds.latency_s,
            "ttft_bound_s": self.bounds.ttft_s,
            "tpot_bound_s": self.bounds.tpot_s,
            "ttft_s": m.ttft_s,
            "tpot_s": m.tpot_s,
            "queries": m.queries,
            "samples": m.samples,
            "virtual_s": m.duration_s,
            "time_scale": self.time_scale,
            "wall_s": self.wall_s,
            "early_stopping_s": self.early_stopping_s,
            "overhead_s": self.overhead_s,
            "virtual": None
            if v is None
            else {name: getattr(v, name) for name in ("value", "percentiles", "ttft_s", "tpot_s", "valid")},
            "difference": self.difference,
            "notes": list(self.notes),
        }
        return found | dict(self.more)


def require_free(out: str | Path) -> Path:
    """The folder as a path; InputError where it exists and holds something, or cannot be made."""
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise InputError("is a file", where=str(out), hint="a folder that is new or empty")
    try:
        if target.is_dir() and any(target.iterdir()):
            raise InputError("the folder is not empty", where=str(out), hint="a folder that is new or empty")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(out)) from None
    if not target.parent.is_dir():
        raise InputError("its folder does not exist", where=str(out), hint=f"make {target.parent} first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError("its folder cannot be written", where=str(out), hint=f"{target.parent} must allow it")
    return target


@contextmanager
def folder_for(out: str | Path | None) -> Iterator[Path]:
    """A folder to write in, which becomes ``out`` when all went well; nothing is left where something went wrong."""
    target = None if out is None else require_free(out)
    made = Path(tempfile.mkdtemp(prefix=".presilicon-bench.", dir=None if target is None else target.parent))
    try:
        yield made
        if target is not None:
            mask = os.umask(0)
            os.umask(mask)
            made.chmod(0o777 & ~mask)
            try:
                made.replace(target)
            except OSError as error:
                raise InputError(f"cannot be written: {error.strerror}", where=str(out)) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write(folder: Path, result: Result) -> None:
    """Put the result and what it is beside LoadGen's logs, and the mark into LoadGen's summary."""
    found = {"schema": "presilicon/bench/1", **result.to_json()}
    (folder / RESULT_FILE).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = _readme(result)
    (folder / README_FILE).write_text(text, encoding="utf-8")
    summary = folder / SUMMARY_FILE
    if summary.exists():
        with summary.open("a", encoding="utf-8") as file:
            file.write("\n" + "=" * 48 + "\n" + text)


def _readme(result: Result) -> str:
    lines = [
        f"{LABEL}: {result.model} on {result.chips} x {result.chip}, {result.scenario}",
        "",
        "This is a prediction by presilicon, not a measurement of a chip, and not a result of MLPerf: it was not submitted to",
        "or verified by MLCommons, no accuracy was measured, and the run is shorter than MLPerf asks for.",
    ]
    if result.time_scale is not None:
        lines += [
            "",
            f"LoadGen's logs are in real time: {result.time_scale:.6g} seconds of it are one second of the chips. Divide times",
            "by this number and multiply rates by it; presilicon.json has done so.",
        ]
    return "\n".join(lines) + "\n"
