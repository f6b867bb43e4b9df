"""``presilicon capacity``: the fewest chips that meet an SLO, or the highest rate that some chips meet it at."""

from __future__ import annotations

from typing import Any

import click

from presilicon.cli.load import deployer, deployment_options, fleet_of, typical_lengths, workload_of, workload_options
from presilicon.cli.options import as_json, count_option, model_argument
from presilicon.cli.output import print_json, progress, say
from presilicon.cli.replay import print_report

SIZES = (1, 2, 4, 8, 16, 32)
"""Chips of a replica that are tried, as far as the links join them."""


@click.command(name="capacity", short_help="Fewest chips, or highest rate, that meet an SLO.")
@model_argument
@deployment_options
@count_option("--chips", "Chips of each replica: the highest rate on them is found. Without: the fewest chips.")
@count_option("--replicas", "Replicas behind a router, with --chips.", 1)
@count_option("--most-chips", "Most chips that may be taken.", 1024)
@workload_options
@as_json
def capacity(model: str, as_json: bool, **options: Any) -> None:
    """Find the fewest chips on which 99 of 100 requests meet the SLO, or with --chips the highest rate.

    \b
    presilicon capacity llama-3.1-70b --chip h100 --trace azure.csv --ttft-s 1 --tpot-s 0.05
    presilicon capacity llama-3.1-8b --chip l40s --chips 1 --ttft-s 1 --tpot-s 0.04

    Where no number of chips meets the SLO, the message says what can be met. A rate is found within 2 %; a trace is replayed
    faster or slower for it.
    """
    from presilicon.chip import load as load_chip
    from presilicon.errors import WorkloadError
    from presilicon.replay.capacity import fewest_chips, highest_rate

    workload = workload_of(options)
    seed = options["seed"]
    if options["chips"] is not None or any(options[f"{way}_parallel"] for way in ("tensor", "pipeline", "expert", "data")):
        if workload.concurrency is not None:
            raise WorkloadError("a concurrency has no rate to be found", hint="--trace, or --input-tokens and --output-tokens")
        deployed = deployer(model, options, typical_lengths(workload.requests_at(1.0, seed)))
        fleet = fleet_of(deployed(options["chips"]), options, options["replicas"])
        found = highest_rate(fleet, lambda rate: workload.requests_at(rate, seed), workload.slo, told=progress)
        assert found is not None
    else:
        requests = workload.load(seed)
        joined = load_chip(options["chip"]).link
        most = min(options["most_chips"], joined.chips if joined and joined.chips else options["most_chips"])
        found = fewest_chips(
            deployer(model, options, typical_lengths(requests)), [s for s in SIZES if s <= most],
            lambda deployment, replicas: fleet_of(deployment, options, replicas), requests, workload.slo,
            most=options["most_chips"], told=progress,
        )  # fmt: skip
    if as_json:
        rate = {} if found.rate_per_s is None else {"rate_per_s": found.rate_per_s}
        print_json("capacity", found.report.to_json() | {"chips": found.chips, **rate, "seed": seed})
        return
    if found.rate_per_s is None:
        say(f"{found.chips} {'chip meets' if found.chips == 1 else 'chips meet'} the SLO; what they give:")
    else:
        say(f"{found.rate_per_s:.4g} requests/s meet the SLO; what the chips then give:")
    say()
    print_report(found.report.to_json())
