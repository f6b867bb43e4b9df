"""MLPerf results predicted: each row's scenario run in virtual time over the estimate of its model on its chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon import chip as chips
from presilicon import frontend, scenario
from presilicon.dtypes import Formats
from presilicon.errors import PresiliconError
from presilicon.estimate.constants import constants_of
from presilicon.estimate.machine import Machine, machine
from presilicon.estimate.service import Load, service_cost
from presilicon.frontend.network import Network
from presilicon.mapping import Parallelism
from presilicon.replay import Slo
from presilicon.scenario.benchmarks import Benchmark, benchmarks, language_formats, network_formats
from presilicon.scenario.times import BATCHES, benchmark_times
from presilicon.validate.benchmarks import SKIPPED, not_predicted, submission
from presilicon.validate.facts import Table
from presilicon.validate.mlperf_server import server_tokens_per_s
from presilicon.validate.score import Predictions, held_back

Over = Mapping[str, Mapping[str, float]]

TOKEN_BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0)
TENSOR = (1, 2, 4, 8)
# Interval of a fixed-rate stream (v0.5, v0.7) where the rules name none for a network: that of most (section 2 of the rules).
STREAM_MS = 50.0
# Power limit of a system tuned for performance per watt, over the TDP: fitted on the power-tuned rows.
TUNED_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Setting:
    """A chip with its constants: by name, whether tuned for power, and constants to use instead, hashable for caching."""

    chip: str
    tuned: bool = False
    host_cores: float = 64.0
    over: tuple[tuple[str, float], ...] = ()

    def machine(self) -> Machine:
        """The machine of this setting."""
        chip = chips.load(self.chip)
        found = machine(chip, replace(constants_of(chip), **dict(self.over)))
        return replace(found, tdp_w=found.tdp_w * TUNED_SHARE) if self.tuned else found


@lru_cache(maxsize=4096)
def network_times(
    setting: Setting, name: str, formats: Formats, longest: bool, overlapped: bool = False
) -> scenario.BatchTimes:
    """Seconds of one chip for batches of a benchmark's network; ``longest`` and ``overlapped`` as in ``benchmark_times``."""
    return benchmark_times(
        setting.machine(), benchmarks()[name], formats, longest=longest, overlapped=overlapped, host_cores=setting.host_cores
    )


@lru_cache(maxsize=4096)
def token_times(
    setting: Setting, name: str, formats: Formats, p: Parallelism, crowded: bool = False
) -> scenario.TokenTimes | None:
    """Seconds of a group of chips for steps of a benchmark's language model; None where it does not divide, or fit.

    ``crowded``: a model that does not fit is taken to do so, for one request.
    """
    found, benchmark = setting.machine(), benchmarks()[name]
    model = frontend.load(benchmark.language_model)
    assert not isinstance(model, Network)
    lengths = (max(1, round(benchmark.input_tokens or 1)), max(2, round(benchmark.output_tokens)))
    load = Load(np.array(TOKEN_BATCHES) * p.data, *lengths, beams=benchmark.beams)
    try:
        cost = service_cost(found, model, load, formats=formats, parallelism=p)
    except PresiliconError:
        return None
    fixed = np.asarray(cost.weight_bytes + cost.activation_bytes) * np.ones(len(TOKEN_BATCHES))
    each = np.asarray(cost.kv_cache_bytes) / np.array(TOKEN_BATCHES)
    room = (cost.memory_limit_bytes - fixed) / each
    most = int(np.max(np.minimum(np.floor(room), TOKEN_BATCHES)))
    if most < 1 and not crowded:
        return None
    decode, prefill = (np.broadcast_to(v, len(TOKEN_BATCHES)) for v in (cost.time_per_output_token_s, cost.prefill_s))
    scale = float(p.data)
    return scenario.TokenTimes(
        tuple(b * scale for b in TOKEN_BATCHES),
        tuple(float(v) for v in decode),
        tuple(float(v) for v in prefill),
        int(max(most, 1) * scale),
    )


def groupings(model_has_experts: bool, chips_in_all: int) -> list[Parallelism]:
    """Ways to spread one replica over chips of a system that divide it."""
    found = []
    for t in TENSOR:
        if chips_in_all % t == 0:
            found.append(Parallelism(tensor=t))
            if model_has_experts and t > 1:
                found += [Parallelism(tensor=t, expert=t), Parallelism(data=t, expert=t)]
    return found


def _language_value(setting: Setting, b: Benchmark, formats: Formats, row: Mapping[str, Any]) -> float | None:
    total = int(row["total_accelerators"])
    model = frontend.load(b.language_model)
    experts = any(type(block.feed_forward).__name__ == "Experts" for block in model.blocks)  # type: ignore[union-attr]
    single = row["scenario"] == "SingleStream"
    best = None if single else _best_served(setting, b.name, formats, experts, total, row["scenario"])
    for p in groupings(experts, total) if best is None else ():
        times = token_times(setting, b.name, formats, p)
        if times is None:
            continue
        replicas = total // p.chips
        if best is not None and not single and times.steady_tokens_per_s(b.output_tokens) * replicas < best:
            continue  # no scenario gives more than a steady stream
        value = _language_scenario(times, b, row["scenario"], replicas)
        if value > 0:
            best = value if best is None else (min(best, value) if single else max(best, value))
    best = best or _one_at_a_time(setting, b, formats, row, experts)
    if best is None or single:
        return best if best is None else best * (1e3 if row["unit"] == "ms" else 1.0)
    return best if row["unit"] == "tokens/s" else best / b.output_tokens


@lru_cache(maxsize=4096)
def _best_served(setting: Setting, name: str, formats: Formats, experts: bool, total: int, kind: str) -> float | None:
    """Tokens a second of a system under bounds on TTFT and TPOT, shared the way that gives most; None where none holds them.

    None as well where the scenario has no such bounds, or beams are searched, which the replay's scheduler does not:
    ``scenario.token_server_per_s`` judges those.
    """
    b = benchmarks()[name]
    ttft, tpot = b.bound_s(kind.lower(), "ttft"), b.bound_s(kind.lower(), "tpot")
    if ttft is None or tpot is None or b.beams > 1:
        return None
    ways = [(p, token_times(setting, name, formats, p)) for p in groupings(experts, total)]
    fitting = [(p, times, times.steady_tokens_per_s(b.output_tokens) * (total // p.chips)) for p, times in ways if times]
    best = 0.0
    for p, times, steady in sorted(fitting, key=lambda way: -way[2]):
        if steady < best:
            break
        replicas, chip, key = total // p.chips, chips.load(setting.chip), (setting, name, formats, p, kind)
        value = _RATES.get(key)
        if value is None:
            slo = Slo(ttft, tpot)
            value = server_tokens_per_s(setting.machine(), chip, b, formats, p, times.most, slo, best / replicas)
            if value or not best:  # it is its own rate, not just no more than the best of others
                _RATES[key] = value
        best = max(best, value * replicas)
    return best or None


# Rates of one replica that were found: systems of other sizes hold the same ones.
_RATES: dict[tuple[Any, ...], float] = {}


def _one_at_a_time(setting: Setting, b: Benchmark, formats: Formats, row: Mapping[str, Any], experts: bool) -> float | None:
    """Least a system gives: one request in flight a replica, whatever bounds it misses and however full the memory is.

    For results whose bounds no rate meets by the estimate, or whose model finds no room: they were measured all the same.
    """
    found = []
    for p in groupings(experts, int(row["total_accelerators"])):
        times = token_times(setting, b.name, formats, p, True)
        if times is not None and row["scenario"] == "SingleStream":
            found.append(-_language_scenario(times, b, "SingleStream", 1))
        elif times is not None:
            whole = times.prefill_s[0] + (b.output_tokens - 1) * times.decode_s[0]
            found.append(times.batches[0] * b.output_tokens / whole * (int(row["total_accelerators"]) // p.chips))
    return abs(max(found)) if found else None


def _language_scenario(times: scenario.TokenTimes, b: Benchmark, name: str, replicas: int) -> float:
    if name == "SingleStream":
        return times.prefill_at(1) + (b.long_output_tokens - 1) * times.decode_at(1)
    steady = times.steady_tokens_per_s(b.output_tokens) * replicas
    kind = name.lower()
    ttft, tpot = b.bound_s(kind, "ttft"), b.bound_s(kind, "tpot")
    whole = b.bound_s(kind, "latency")
    if whole is not None:  # one bound on the whole answer
        ttft, tpot = whole / 2, whole / 2 / b.output_tokens
    if name == "Offline" or ttft is None or tpot is None:  # the rules set no bound
        return steady
    longest = b.fact("max_output_tokens") or 4 * b.output_tokens
    return scenario.token_server_per_s(times, b.output_tokens, longest, ttft, tpot) * replicas


def _network_value(setting: Setting, b: Benchmark, formats: tuple[Formats, ...], row: Mapping[str, Any]) -> float:
    total, name, unit = int(row["total_accelerators"]), row["scenario"], row["unit"]
    longest, overlapped = name in ("SingleStream", "MultiStream"), name == "Offline"
    runs = [network_times(setting, b.name, one, longest, overlapped) for one in formats]
    times = scenario.BatchTimes(BATCHES, tuple(float(np.mean(each)) for each in zip(*(r.latency_s for r in runs), strict=True)))
    scale = 1e3 if unit == "ms" else 1.0
    if name == "Offline":
        return scenario.offline_per_s(times, total)
    if name == "SingleStream":
        return scenario.single_stream_s(times) * scale
    if name == "MultiStream" and unit == "streams":
        return scenario.streams(times, total, (b.fact("multistream_interval_ms_v0.7") or STREAM_MS) / 1e3)
    if name == "MultiStream":
        return scenario.multi_stream_s(times, total) * scale
    bound = b.bound_s("server", "latency")
    if bound is None:  # the rules set none
        return scenario.offline_per_s(times, total)
    early = row["round"] in ("v0.5", "v0.7") and b.workload == "bert"
    # Where the estimate says that no rate meets the bound, what is predicted is the rate that misses it least.
    return scenario.server_per_s(times, total, bound, 97.0 if early else 99.0) or total / times.at(1)


@lru_cache(maxsize=4096)
def _value(name: str, key: tuple[tuple[str, Any], ...], over_key: tuple[Any, ...]) -> tuple[float, str]:
    """Prediction of one row, or the reason why there is none."""
    row, chip = dict(key), chips.load(name)
    b = benchmarks()[row["benchmark"]]
    declared = submission(row.get("system") or "")
    over = dict(dict(over_key).get(chip.family, ()))
    if declared.sample_cores:
        over["sample_cores"] = declared.sample_cores
    setting = Setting(chip.name, row["power_tuned"] == 1, declared.host_cores, tuple(sorted(over.items())))
    precision = row.get("precision") or ""
    if b.language_model:
        served = language_formats(chip, precision)
        if served is None or chip.memory is None or chip.memory.bytes is None:
            return 0.0, SKIPPED["chip"]
        value = _language_value(setting, b, served, row)
    else:
        run = network_formats(b, chip, precision)
        if not run:
            return 0.0, SKIPPED["chip"]
        value = _network_value(setting, b, run, row)
    # What remains is a model in formats that no published rate of the chip can multiply.
    return (value, "") if value else (0.0, SKIPPED["chip"])


_KEY = ("round", "benchmark", "scenario", "unit", "total_accelerators", "precision", "power_tuned", "system")


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """Rows of an mlperf table with the library's chip, the group they count in, why they are skipped, and what is held back."""

    chip: NDArray[Any]
    label: NDArray[Any]
    reason: NDArray[Any]
    held: NDArray[np.bool_]


def rows_reason(table: Table) -> Named:
    """Chip and label of every row, and the reason for those that cannot be predicted whatever the estimate says."""
    aliases, rows = chip_names(), len(table)
    names = np.array([aliases.get(a, a) for a in table["accelerator"].tolist()], dtype=object)
    parts = zip(table["benchmark"].tolist(), table["scenario"].tolist(), table["unit"].tolist(), strict=True)
    labels = np.array([" ".join(part) for part in parts], dtype=object)
    reason = np.array([""] * rows, dtype=object)
    for index in range(rows):
        reason[index] = not_predicted(str(table["benchmark"][index])) or _unusable(str(names[index]))
    keys = (f"{names[i]} {labels[i]} {table['round'][i]}" for i in range(rows))
    return Named(names, labels, reason, held_back(keys))


def _unusable(name: str) -> str:
    try:
        return SKIPPED["chip"] if chips.load(name).missing() else ""
    except PresiliconError:
        return SKIPPED["chip"]


def predict(table: Table, over: Over | None = None) -> Predictions:
    """Predictions of an mlperf table; rows on chips or benchmarks that cannot be predicted carry the reason.

    ``over``: constants to use instead, by family.
    """
    over_key = tuple((family, tuple(sorted(values.items()))) for family, values in sorted((over or {}).items()))
    named = rows_reason(table)
    predicted, reason = np.zeros(len(table)), named.reason.copy()
    for index in np.flatnonzero(reason == ""):
        row = table.row(int(index))
        key = tuple((name, row[name]) for name in _KEY if name in row)
        predicted[index], reason[index] = _value(str(named.chip[index]), key, over_key)
    return Predictions(
        table=table,
        chip=named.chip,
        label=named.label,
        measured=table["value"],
        predicted=predicted,
        reason=reason,
        held=named.held,
    )


@lru_cache(maxsize=1)
def chip_names() -> Mapping[str, str]:
    """MLPerf's names of accelerators by the library's."""
    import csv
    from importlib import resources

    path = resources.files("presilicon") / "data" / "published" / "mlperf_accelerators.csv"
    return {row["accelerator"]: row["chip"] for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
