"""``presilicon estimate``: one model on one kind of chip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import as_json, chip_option, count_option, dims, format_option, model_argument
from presilicon.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from presilicon.mapping import Parallelism

LONGEST_OPERATORS = 20


@click.command(name="estimate", short_help="Speed, energy and memory of a model on one chip.")
@model_argument
@chip_option("The chip: a name of the library or a TOML file.")
@count_option("--chips", "Chips in all; without the options below, the fastest way to share the model is taken.")
@count_option("--tensor-parallel", "Chips that share every operator.")
@count_option("--pipeline-parallel", "Stages of blocks, one after the other.")
@count_option("--expert-parallel", "Ways the experts of a mixture are spread, by expert.")
@count_option("--data-parallel", "Replicas that share nothing but experts.")
@count_option("--batch", "Requests in flight on the whole system.", 1)
@count_option("--input-tokens", "Tokens of each prompt.")
@count_option("--output-tokens", "Tokens of each answer.")
@count_option("--beams", "Beams kept of each request.", 1)
@format_option("--weights")
@format_option("--activations")
@format_option("--kv-cache")
@dims
@as_json
def estimate(
    model: str,
    chip: str,
    chips: int | None,
    tensor_parallel: int | None,
    pipeline_parallel: int | None,
    expert_parallel: int | None,
    data_parallel: int | None,
    batch: int,
    input_tokens: int | None,
    output_tokens: int | None,
    beams: int,
    weights: str | None,
    activations: str | None,
    kv_cache: str | None,
    dims: tuple[tuple[str, int], ...],
    as_json: bool,
) -> None:
    """Estimate speed, energy and memory of MODEL on a chip, operator by operator.

    \b
    presilicon estimate llama-3.1-8b --chip h100 --batch 16 --input-tokens 1024 --output-tokens 256
    presilicon estimate llama-3.1-70b --chip h100 --chips 4 --weights fp8 --batch 32
    presilicon estimate resnet50 --chip l4 --batch 8 --weights int8

    MODEL is a name that `presilicon models` lists, a directory with a config.json, or an ONNX file (with --dim for its
    symbolic sizes). Formats default to those of the published checkpoint. Latency, energy and throughput are of the
    whole batch on all chips; each time has the interval that held eight of ten measurements.
    """
    from presilicon.chip import load as load_chip
    from presilicon.estimate import report_of
    from presilicon.frontend import load as load_model

    report = report_of(
        load_model(model, dict(dims) or None),
        load_chip(chip),
        chips=chips,
        parallelism=_parallelism(tensor_parallel, pipeline_parallel, expert_parallel, data_parallel),
        batch=batch,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        beams=beams,
        weights=weights,
        activations=activations,
        kv_cache=kv_cache,
    ).to_json()
    if as_json:
        print_json("estimate", report)
    else:
        _print(report)


def _parallelism(tensor: int | None, pipeline: int | None, expert: int | None, data: int | None) -> Parallelism | None:
    """What was asked for, None where nothing was."""
    from presilicon.mapping import Parallelism

    if tensor is pipeline is expert is data is None:
        return None
    return Parallelism(tensor=tensor or 1, pipeline=pipeline or 1, expert=expert or 1, data=data or 1)


def _print(report: Mapping[str, Any]) -> None:
    from presilicon.units import percent, si

    say(_setting(report))
    say()
    intervals = report["intervals"]
    rows = []
    for key, name, unit in (
        ("latency_s", "latency", "s"),
        ("time_to_first_token_s", "time to first token", "s"),
        ("time_per_output_token_s", "time per output token", "s"),
        ("throughput_per_s", "throughput", "/s"),
        ("tokens_per_s", "output tokens", "/s"),
        ("energy_j", "energy", "J"),
        ("power_w", "power", "W"),
        ("memory_bytes", "memory of a chip", "B"),
    ):
        if report.get(key) is not None:
            ends = intervals.get(key)
            span = f"{_shown(ends['low'], unit)} to {_shown(ends['high'], unit)}" if ends else "-"
            rows.append((name, _shown(report[key], unit), span))
    print_table(("", "estimate", "interval"), rows, right=("estimate",))
    for note in report["notes"]:
        say(note)
    operators = report["operators"]
    total = sum(o["latency_s"] for o in operators)
    longest = sorted(operators, key=lambda o: -o["latency_s"])[:LONGEST_OPERATORS]
    lines = [
        (
            o["name"],
            o["kind"],
            str(o["count"]),
            si(o["latency_s"], "s"),
            percent(o["latency_s"] / total if total else None),
            si(o["energy_j"], "J"),
            o["bound"],
            percent(o["utilization"]),
        )
        for o in longest
    ]
    say()
    columns = ("operator", "kind", "times", "latency", "share", "energy", "bound", "utilization")
    print_table(columns, lines, right=("times", "latency", "share", "energy", "utilization"), fold="operator")
    if len(operators) > len(longest):
        rest = sum(o["latency_s"] for o in operators) - sum(o["latency_s"] for o in longest)
        say(f"and {len(operators) - len(longest)} shorter ones, {percent(rest / total if total else None)} together")


def _setting(report: Mapping[str, Any]) -> str:
    shared = f" ({report['parallelism']})" if report["chips"] > 1 else ""
    weights, activations, cache = str(report["formats"]).split("/")
    formats = f"weights {weights}, activations {activations}"
    if report["time_per_output_token_s"] is not None:
        formats += f", KV cache {cache}"
    return f"{report['model']} on {report['chips']} x {report['chip']}{shared}, batch {report['batch']}, {formats}"


def _shown(value: float, unit: str) -> str:
    """A quantity; rates below a thousand without a prefix, as "m/s" would read as metres."""
    from presilicon.units import si

    return f"{value:.3g} {unit}" if unit == "/s" and value < 1000 else si(value, unit)
