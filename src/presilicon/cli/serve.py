"""``presilicon serve``: a model on a chip behind OpenAI's API."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.load import deployer, deployment_options, fleet_of
from presilicon.cli.options import amount_option, as_json, count_option, model_argument
from presilicon.cli.output import print_json, say

if TYPE_CHECKING:
    from presilicon.replay import Deployment
    from presilicon.serve import Endpoint
    from presilicon.serve.chip_text import TextLevel

INTERRUPTED = 130

TYPICAL_LENGTHS = 1024, 128
"""Tokens of prompt and answer for which the way to share the model among chips is chosen where none is given."""


@click.command(name="serve", short_help="OpenAI's API over HTTP, as fast as a chip would answer.")
@model_argument
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen at.")
@click.option("--port", type=int, default=8000, show_default=True, metavar="N", help="Port to listen at; 0 takes a free one.")
@amount_option("--speedup", "Seconds of the chip in one second here.", 1.0)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    envvar="PRESILICON_API_KEY",
    metavar="KEY",
    help="Key that requests must carry; may be repeated. PRESILICON_API_KEY holds it out of the list of processes.",
)
@count_option("--replicas", "Replicas, each on chips of its own.", 1)
@count_option("--chips", "Chips of one replica.")
@deployment_options
@count_option("--max-model-len", "Most tokens of prompt and answer together; the model's own unless given.")
@count_option("--max-concurrency", "Most HTTP requests in flight; more are told to come again.", 4096)
@count_option("--max-body-bytes", "Most bytes of a request's body.", 4 * 2**20)
@count_option("--output-tokens", "Tokens of an answer where the request sets no limit.", 256)
@amount_option("--drain-s", "Time that requests in flight have to end after SIGTERM.", 30.0, metavar="S", zero=True)
@click.option("--text-program", type=click.Path(), metavar="PROGRAM", help="Text of a compiled character-level decoder.")
@click.option(
    "--text-level",
    type=click.Choice(["simulate", "reference"]),
    default="simulate",
    show_default=True,
    help="How PROGRAM is run: instruction by instruction, or its exact meaning, the same bits and quicker.",
)
@click.option("--served-model-name", "names", multiple=True, metavar="NAME", help="Name that requests use; may be repeated.")
@as_json
def serve(
    model: str,
    host: str,
    port: int,
    speedup: float,
    api_keys: tuple[str, ...],
    replicas: int,
    chips: int | None,
    names: tuple[str, ...],
    max_model_len: int | None,
    max_concurrency: int,
    max_body_bytes: int,
    output_tokens: int,
    drain_s: float,
    text_program: str | None,
    text_level: TextLevel,
    as_json: bool,
    **options: Any,
) -> int:
    """Serve MODEL on a simulated chip: OpenAI's API, with the chip's own timing under the load that comes.

    \b
    presilicon serve llama-3.1-8b --chip h100
    presilicon serve llama-3.1-70b --chip h100 --chips 4 --weights fp8 --replicas 2 --port 8080
    presilicon serve llama-3.1-8b --chip my-chip.toml --speedup 10 --served-model-name gpt-4o
    presilicon serve llama-3.1-8b --chip h100 --text-program licences.prog --text-level reference

    MODEL is not run: the timing is its own, the text is filler, or with --text-program that of a small decoder that presilicon
    compile made a program of; each response says which.
    Ctrl-C or SIGTERM let requests in flight finish. --json prints the address and the setting as one object.
    """
    from presilicon.serve import ChipText, Endpoint, Settings, bind
    from presilicon.serve import serve as run

    settings = Settings(
        host=host,
        port=port,
        speedup=speedup,
        api_keys=api_keys,
        max_concurrency=max_concurrency,
        max_body_bytes=max_body_bytes,
        output_tokens=output_tokens,
        drain_s=drain_s,
    )
    listener, source = bind(settings), None
    try:
        source = ChipText(text_program, text_level) if text_program else None
        deployment = deployer(model, options, TYPICAL_LENGTHS)(chips)
        name = deployment.model.name
        known = (name,) if Path(model).exists() else tuple(dict.fromkeys((name, model)))
        endpoint = Endpoint(
            fleet_of(deployment, options, replicas),
            names=names or known,
            chip=deployment.chip.name,
            settings=settings,
            context_tokens=max_model_len,
            source=source,
        )
        address, found = listener.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{found}"
        ended_by = run(endpoint, listener, started=lambda: _tell(endpoint, deployment, url, as_json))
    finally:
        listener.close()
        if source is not None:
            source.close()
    return INTERRUPTED if ended_by == signal.SIGINT else 0


def _tell(endpoint: Endpoint, deployment: Deployment, url: str, as_json: bool) -> None:
    """Where it listens, once it does."""
    setting = {
        "url": f"{url}/v1",
        "models": list(endpoint.names),
        "chip": endpoint.chip,
        "chips": deployment.chips * len(endpoint.engine.replicas),
        "replicas": len(endpoint.engine.replicas),
        "speedup": endpoint.settings.speedup,
        "max_model_len": endpoint.context_tokens,
        "text": endpoint.source.name,
    }
    if as_json:
        print_json("serve", setting)
    else:
        say(
            f"{' and '.join(endpoint.names)} on {setting['chips']} x {endpoint.chip} at {url}/v1: requests of up to "
            f"{endpoint.context_tokens:,} tokens, {endpoint.settings.speedup:g} times real time, text: {endpoint.source.name}."
        )
        say(f"curl {url}/v1/models")
    sys.stdout.flush()
