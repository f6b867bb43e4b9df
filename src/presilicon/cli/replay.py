"""``presilicon replay``: a model on chips under the load of a trace or of random arrivals, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from presilicon.cli.load import deployer, deployment_options, fleet_of, typical_lengths, workload_of, workload_options
from presilicon.cli.options import as_json, count_option, model_argument
from presilicon.cli.output import command_line, print_json, print_table, progress, say


@click.command(name="replay", short_help="A trace of requests served by chips, in virtual time.")
@model_argument
@deployment_options
@count_option("--chips", "Chips of each replica; the fastest way to share the model is taken.")
@count_option("--replicas", "Replicas behind a router.", 1)
@count_option("--prefill-replicas", "Replicas for prompts only; the others then make the answers.")
@workload_options
@click.option("-o", "output", type=click.Path(), metavar="DIR", help="Folder for report.json, requests.csv and timeline.csv.")
@click.option("--compare", "measured", type=click.Path(), metavar="FILE", help="A result of GuideLLM or vLLM to lay beside.")
@click.option("--watch", is_flag=True, help="Show queue, cache and latencies while it runs.")
@as_json
def replay(model: str, as_json: bool, output: str | None, measured: str | None, watch: bool, **options: Any) -> None:
    """Replay requests for MODEL on a chip: latencies, goodput, energy and cost under load.

    \b
    presilicon replay llama-3.1-70b --chip h100 --chips 8 --trace azure.csv
    presilicon replay llama-3.1-8b --chip l40s --rate 4 --input-tokens 1000 --output-tokens 200
    presilicon replay llama-3.1-70b --chip h200 --chips 4 --replicas 10 --trace mooncake.jsonl
    presilicon replay qwen3-32b --chip h100 --chips 2 --concurrency 16 --compare measured.json

    Each step takes what the estimate says of its mix of prompts and tokens. Requests longer than the model's context or the
    memory are refused and counted. The same seed gives the same files.
    """
    from presilicon.replay import run
    from presilicon.replay.compare import compare
    from presilicon.replay.results import write_results
    from presilicon.view.watch import watch_replay

    workload = workload_of(options)
    requests = workload.load(options["seed"])
    deployment = deployer(model, options, typical_lengths(requests))(options["chips"])
    fleet = fleet_of(deployment, options, options["replicas"])
    with watch_replay(watch) as seen, bar(not watch) as told:
        report = run(fleet, requests, slo=workload.slo, progress=told, watch=seen if watch else None)
    beside = [one.to_json() for one in compare(measured, report)] if measured else []
    files = write_results(output, report, command=command_line()) if output else []
    if as_json:
        found = report.to_json() | {"seed": options["seed"], "files": files}
        print_json("replay", found | ({"compare": beside} if measured else {}))
        return
    print_report(report.to_json())
    if beside:
        say()
        _print_compared(beside)
    if output:
        say()
        say(f"{', '.join(files)} in {output}")


@contextmanager
def bar(wanted: bool = True) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr where that is a terminal; a function that moves it."""
    import sys

    if not (wanted and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("replay", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def print_report(found: Mapping[str, Any]) -> None:
    """A replay's figures as text."""
    from presilicon.units import si

    shared = f"{found['replicas']} x {found['parallelism']}, {found['formats']}"
    say(f"{found['model']} on {found['chips']} {found['chip']} ({shared})")
    say(f"{found['requests']:,} requests, {found['refused']:,} refused" + _reasons(found["refused_by"])
        + f"; {found['virtual_s']:,.1f} s of virtual time")  # fmt: skip
    progress(f"replayed in {found['wall_s']:.2f} s")
    say()
    rows = [
        (label, *(si(found[key][p], "s") if found[key][p] == found[key][p] else "-" for p in ("p50", "p90", "p99", "mean")))
        for label, key in (("time to first token", "ttft_s"), ("time per output token", "tpot_s"), ("end to end", "e2e_s"))
    ]
    print_table(("", "p50", "p90", "p99", "mean"), rows, right=("p50", "p90", "p99", "mean"))
    say()
    slo = found["slo"]
    if slo["ttft_s"] or slo["tpot_s"]:
        bounds = [f"{name} {slo[key]:g} s" for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s")) if slo[key]]
        say(f"goodput {found['goodput_per_s']:.4g} requests/s: {found['within_slo']:.1%} within {' and '.join(bounds)}")
    hits = f"; {found['prefix_hit_share']:.1%} of prompt tokens from the cache" if found["prefix_hit_share"] else ""
    say(f"{found['requests_per_s']:.4g} requests/s, {found['output_tokens_per_s']:,.0f} output tokens/s; "
        f"chips at work {found['utilization']:.1%} of the time; {found['preemptions']} preemptions{hits}")  # fmt: skip
    say(f"{si(found['energy_j'], 'J')} ({si(found['power_w'], 'W')}), {si(found['energy_per_request_j'], 'J')} a request, "
        f"{si(found['energy_per_token_j'], 'J')} an output token")  # fmt: skip
    if found["usd"] is None:
        say("no price of the chip is known")
    else:
        each = f"{found['usd_per_million_tokens']:.3g} USD per million output tokens"
        say(f"{found['usd']:.4g} USD ({found['price_basis']}), {each}")


def _reasons(by: Mapping[str, int]) -> str:
    words = {"context": "longer than the context", "memory": "longer than the memory", "queue": "the queue was full"}
    return f" ({', '.join(f'{number:,} {words[reason]}' for reason, number in by.items())})" if by else ""


def _print_compared(rows: list[dict[str, Any]]) -> None:
    from presilicon.units import si

    table = [
        (row["metric"], *(si(row[k], "s") if row["unit"] == "s" else f"{row[k]:.4g} /s" for k in ("measured", "replayed")),
         f"{row['ratio']:.2f}" if row["ratio"] else "-")
        for row in rows
    ]  # fmt: skip
    print_table(("", "measured", "replayed", "ratio"), table, right=("measured", "replayed", "ratio"))
