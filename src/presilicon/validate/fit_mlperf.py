"""Constants of compiled engines and serving software by family, fitted on MLPerf rows that are not held back.

Run as ``python -m presilicon.validate.fit_mlperf`` it fits every family and writes the constants into ``data/families``; with
``--leave-one-out``, every family without each of its chips, into ``data/validation/mlperf_left_out.toml``.
The Server scenario is left out of the fit altogether: it is predicted by queueing over what the others gave.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from presilicon import chip as chips
from presilicon.errors import ChipError
from presilicon.estimate.constants import family
from presilicon.files import write_whole
from presilicon.scenario.benchmarks import benchmarks
from presilicon.validate import mlperf
from presilicon.validate.facts import Table, shipped
from presilicon.validate.fit import Fit, fit_constants
from presilicon.validate.refit import _data, with_values

LEAVE_ONE_OUT = "--leave-one-out"
# Fitted where networks were run: time between operators, share of the peak, the host's work, spread of one sample.
ENGINE = ("network_launch_s", "network_share", "query_s")
# Families whose serving was measured point by point (serving.csv decides their slowdown).
SERVED = ("nvidia-hopper",)
# Qualcomm's compiler gives a sample to as many cores as it is told (its option -aic-num-cores).
SPREAD, SPREADING = "sample_cores", ("qualcomm-cloud-ai",)
# Fitted where language models were served: how much longer a pass takes than its kernels; instead, for families whose
# kernels nobody measured and whose software is its own, the share of the peak.
SERVING = ("serving_slowdown",)
UNMEASURED = ("matmul_share",)
# Families with fewer rows than this after holding back are fitted on all they have (and said to be).
FEWEST = 5
# Whole systems are further off than kernels: an error beyond this factor (as a logarithm) counts no more than this.
CLIP = 1.5
# Constants that only latencies tell, and how many of those must be seen; else the generation before stands in.
LATENCY = ("network_launch_s", "query_s", "detection_s")
FEWEST_LATENCIES = 4
# What keeps a constant that the rows hardly feel near where it began: loss for each factor e away.
PULL = 0.01
# Where the fit begins for constants whose generic value is zero.
BEGIN: Mapping[str, float] = {}


def rows_of(table: Table, name: str, without: str = "", held: bool = False) -> Table:
    """Rows of a family's chips (one left out) that the fit may see: not held back, not the Server scenario."""
    first = mlperf.rows_reason(table)
    keep = (first.reason == "") & (table["scenario"] != "Server") & (table["scenario"] != "Interactive")
    if not held:
        keep &= ~first.held
    members = {chip for chip in set(first.chip.tolist()) if family_of(chip) == name and chip != without}
    return table.take(keep & np.isin(first.chip, list(members)))


def family_of(chip: str) -> str:
    """The family of a chip by name; empty where the library does not know it."""
    try:
        return chips.load(chip).family
    except ChipError:
        return ""


def fit_family(table: Table, name: str, without: str = "") -> Fit | None:
    """Constants of one family from its rows; None where it has fewer than two rows to learn from."""
    rows = rows_of(table, name, without)
    if len(rows) < FEWEST:
        rows = rows_of(table, name, without, held=True)
    if len(rows) < 2:
        return None
    runs = [benchmarks()[b] for b in set(rows["benchmark"].tolist())]
    names: tuple[str, ...] = ()
    nvidia = name.startswith("nvidia")
    if any(run.network for run in runs):
        names += ENGINE + ((SPREAD,) if name in SPREADING else ())
    if any(run.detection for run in runs):
        names += ("detection_s",)
    if any(run.language_model for run in runs):
        names += (() if name in SERVED else SERVING) if nvidia else UNMEASURED
    if name in ("nvidia-turing", "nvidia-volta"):
        names += ("operation_j_per_bit",)
    latencies = int(np.isin(rows["scenario"], ["SingleStream", "MultiStream"]).sum())
    known = names
    if nvidia and latencies < FEWEST_LATENCIES:
        names = tuple(n for n in names if n not in LATENCY)
    if name in SPREADING:  # what starting costs cannot be told from the cores a sample is given: it is set, not fitted
        names = tuple(n for n in names if n not in AHEAD)
    base = family("generic" if not nvidia else name)
    start = {n: BEGIN.get(n) or float(getattr(base, n)) or 6e-14 for n in known}
    start |= {n: v for n, v in (BEGINNINGS | (NVIDIA if nvidia else AHEAD if name in SPREADING else {})).items() if n in known}
    fixed = {n: v for n, v in start.items() if n not in names}
    start = {n: v for n, v in start.items() if n in names}

    def loss(values: Mapping[str, float]) -> float:
        found = mlperf.predict(rows, {name: fixed | dict(values)})
        used = found.used
        if not used.any():
            return 1.0
        away = np.mean([abs(np.log(values[n] / start[n])) for n in names])
        off = np.abs(np.log(found.predicted[used] / found.measured[used]))
        return float(np.mean(np.minimum(off, CLIP))) + PULL * float(away)

    fit = fit_constants(loss, start, evaluations=60)
    return replace(fit, constants=fixed | dict(fit.constants))


BEGINNINGS = {"network_launch_s": 2e-6, "network_share": 0.7, "query_s": 5e-5, "sample_cores": 3.0,
              "operation_j_per_bit": 6e-14}  # fmt: skip


# Qualcomm's compiler schedules a whole network ahead of time: hardly anything happens between its operators.
AHEAD = {"network_launch_s": 1e-6, "query_s": 2e-5}
# Where NVIDIA's families begin: what the A100 gives, for those whose seen rows do not tell.
NVIDIA = {"network_launch_s": 5e-6, "network_share": 0.9, "detection_s": 1e-4}


def main() -> None:
    """Fit every family that has rows, and write the constants into the package's data."""
    table = shipped("mlperf")
    only = set(sys.argv[1:])
    if LEAVE_ONE_OUT in only:
        from presilicon.validate import mlperf_left_out

        mlperf_left_out.write(table, only - {LEAVE_ONE_OUT})
        return
    present = sorted({family_of(c) for c in set(mlperf.rows_reason(table).chip.tolist())} - {""})
    for name in present:
        if only and name not in only:
            continue
        fit = fit_family(table, name)
        if fit is None:
            continue
        shown = ", ".join(f"{key} {value:.3g}" for key, value in fit.constants.items())
        print(f"{name}: {fit.evaluations} evaluations, loss {fit.loss:.3f}: {shown}", file=sys.stderr)
        path = Path(str(_data("families") / f"{name}.toml"))
        text = path.read_text(encoding="utf-8") if path.exists() else 'like = "generic"\n[constants]\n'
        write_whole(path, with_values(text, fit.constants))


if __name__ == "__main__":
    main()
