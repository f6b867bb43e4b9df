"""``presilicon bench``: MLPerf's scenarios on a chip that need not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from presilicon.cli.options import amount_option, as_json, chip_option, count_option, dims, format_option, model_argument
from presilicon.cli.output import print_json, print_table, say

SCENARIOS = ("single-stream", "multi-stream", "offline", "server")
INVALID = 1
OF_SYSTEM = ("chips", "input_tokens", "output_tokens", "given", "weights", "activations", "kv_cache")
"""Options that describe the model on its chips; the others describe the run."""


@click.command(name="bench", short_help="MLPerf's scenarios, with the real LoadGen or in virtual time.")
@model_argument
@chip_option("The chip: a name of the library or a TOML file.")
@click.option("--scenario", type=click.Choice(SCENARIOS), required=True, help="What is sent, and what is measured.")
@count_option("--chips", "Chips that share the queries (1).")
@click.option("--virtual", is_flag=True, help="In virtual time, without LoadGen: takes a second or so.")
@amount_option("--latency-s", "Server: longest latency; MLPerf's where it has one.", metavar="S")
@amount_option("--ttft-s", "Server of a language model: longest time to the first token.", metavar="S")
@amount_option("--tpot-s", "Server of a language model: longest time per further token.", metavar="S")
@amount_option("--rate-per-s", "Rate of the server's queries; without it, the highest valid one is found.", metavar="R")
@amount_option("--seconds", "About how long LoadGen runs.", 10.0, metavar="S")
@count_option("--input-tokens", "Tokens of each text, instead of the lengths of MLPerf's data.")
@count_option("--output-tokens", "Tokens of each answer, instead of the lengths of MLPerf's data.")
@format_option("--weights")
@format_option("--activations")
@format_option("--kv-cache")
@click.option("--workload", type=click.Path(), metavar="FILE", help="TOML file of rate, lengths or trace, bounds, formats.")
@click.option("-o", "out", type=click.Path(), metavar="DIR", help="New or empty folder for LoadGen's logs and the result.")
@dims
@as_json
def bench(
    model: str,
    chip: str,
    scenario: str,
    virtual: bool,
    workload: str | None,
    out: str | None,
    dims: tuple[tuple[str, int], ...],
    as_json: bool,
    **given: Any,
) -> int:
    """Run one of MLPerf's scenarios for MODEL on a chip: MLPerf-style, unverified.

    \b
    presilicon bench resnet50 --chip h100 --scenario offline --virtual
    presilicon bench bert-99 --chip l4 --scenario single-stream -o results
    presilicon bench resnet50 --chip rebellions-atom --scenario server --latency-s 0.02
    presilicon bench llama-3.1-8b --chip h100 --scenario server --virtual

    LoadGen, MLPerf's own load generator, sends the queries; each is answered when the chip would answer it by the estimate,
    with time stretched so that the machine this runs on is quick enough. MODEL may also be MLPerf's name of a benchmark,
    such as bert-99. A server finds the highest rate of queries that keeps 99 % of the latencies within the bound. Exit code
    1: the run is not valid.
    """
    from presilicon import bench as engine
    from presilicon.chip import load as load_chip
    from presilicon.frontend.network import Network

    found, benchmark = engine.loaded(model, dict(dims))
    on = load_chip(chip)
    options = {name: value for name, value in given.items() if value is not None}
    if workload is not None:
        options = engine.options_of(workload, on, scenario, tokens=not isinstance(found, Network)) | options
    of_system = {name: options.pop(name) for name in OF_SYSTEM if name in options}
    if "input_tokens" in of_system or "output_tokens" in of_system:
        of_system.pop("given", None)  # the options' lengths, not the file's
    system: engine.System | engine.TokenSystem
    if isinstance(found, Network):
        _require_no_tokens(found.name, of_system)
        system = engine.network_system(found, benchmark, on, **of_system)
    else:
        system = engine.token_system(found, benchmark, on, **of_system)
    with _bar() as progress:
        result = engine.bench(system, scenario, virtual=virtual, out=out, progress=progress, **options).to_json()
    if as_json:
        print_json("bench", result)
    else:
        _print(result)
        if out is not None:
            say(f"Written to {out}.")
    return 0 if result["valid"] else INVALID


def _require_no_tokens(model: str, given: Mapping[str, Any]) -> None:
    """WorkloadError where a network is given what only a language model has."""
    from presilicon.errors import WorkloadError

    for name in ("output_tokens", "kv_cache"):
        if name in given:
            raise WorkloadError(f"{model} generates no tokens", where="--" + name.replace("_", "-"), hint="leave it out")


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress


def _shown(metric: str, value: float | None) -> str:
    """A latency, or a rate: with a prefix only above a thousand, as "m/s" reads as metres."""
    from presilicon.units import si

    if metric.endswith("per_s"):
        return f"{value:.3g} /s" if value is not None and value < 1000 else si(value, "/s")
    return si(value, "s")


def _print(found: Mapping[str, Any]) -> None:
    from presilicon.units import percent, si

    formats = str(found["formats"]).split("/")
    say(
        f"{found['label']}: {found['model']} on {found['chips']} x {found['chip']}, {found['scenario']}, weights {formats[0]}, "
        f"activations {formats[1]}"
    )
    say()
    virtual, metric = found["virtual"], found["metric"]
    columns = ["", found["driver"], *(["virtual time", "difference"] if virtual else [])]

    def row(name: str, value: float, other: float | None, shown: Callable[[float | None], str]) -> tuple[str, ...]:
        rest = (shown(other), percent(value / other - 1, 2) if other else "-") if virtual else ()
        return (name, shown(value), *rest)

    rows = [row(metric, found["value"], virtual and virtual["value"], lambda v: _shown(metric, v))]
    for key, what in (("ttft_s", "first token"), ("tpot_s", "per token"), ("percentiles", "latency")):
        for name, value in (found[key] or {}).items():
            other = virtual and (virtual[key] or {}).get(name)
            rows.append(row(f"{what} {name}", value, other, lambda v: si(v, "s")))
    print_table(columns, rows, right=columns[1:])
    say()
    interval = f"Measured chips lay from {_shown(metric, found['low'])} to {_shown(metric, found['high'])}. "
    bounds = [
        f"{what} {si(found[key], 's')}"
        for key, what in (("ttft_bound_s", "first token"), ("tpot_bound_s", "per token"), ("latency_bound_s", "latency"))
        if found[key]
    ]
    say(
        interval
        + (f"Bounds at 99 %: {', '.join(bounds)}. " if bounds else "")
        + ("Valid." if found["valid"] else "Not valid: " + " ".join(found["reasons"]))
    )
    for note in found["notes"]:
        say(note[:1].upper() + note[1:] + ".")
