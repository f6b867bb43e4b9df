"""``presilicon serve``: a model on a chip behind OpenAI's API."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import amount_option, as_json, chip_option, count_option, format_option, model_argument
from presilicon.cli.output import print_json, say

if TYPE_CHECKING:
    from presilicon.chip import Chip
    from presilicon.mapping import Parallelism
    from presilicon.replay import Deployment
    from presilicon.serve import Endpoint

INTERRUPTED = 130


@click.command(name="serve", short_help="OpenAI's API over HTTP, as fast as a chip would answer.")
@model_argument
@chip_option("The chip: a name of the library or a TOML file.")
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
@count_option("--replicas", "Replicas, each on chips of its own; a request goes to the one with the least to do.", 1)
@count_option("--chips", "Chips of one replica.")
@count_option("--tensor-parallel", "Chips that share every operator.")
@count_option("--pipeline-parallel", "Stages of blocks, one after the other.")
@count_option("--expert-parallel", "Ways the experts of a mixture are spread, by expert.")
@format_option("--weights")
@format_option("--activations")
@format_option("--kv-cache")
@count_option("--max-running", "Most requests of a replica in one step.")
@count_option("--max-batched-tokens", "Most tokens of a replica in one step.")
@count_option("--max-model-len", "Most tokens of prompt and answer together; the model's own unless given.")
@count_option("--max-concurrency", "Most HTTP requests in flight; more are told to come again.", 4096)
@count_option("--max-body-bytes", "Most bytes of a request's body.", 4 * 2**20)
@count_option("--output-tokens", "Tokens of an answer where the request sets no limit.", 256)
@amount_option("--drain-s", "Time that requests in flight have to end after SIGTERM.", 30.0, metavar="S", zero=True)
@click.option("--served-model-name", "names", multiple=True, metavar="NAME", help="Name that requests use; may be repeated.")
@as_json
def serve(
    model: str,
    chip: str,
    host: str,
    port: int,
    speedup: float,
    api_keys: tuple[str, ...],
    replicas: int,
    names: tuple[str, ...],
    max_model_len: int | None,
    max_concurrency: int,
    max_body_bytes: int,
    output_tokens: int,
    drain_s: float,
    as_json: bool,
    **options: Any,
) -> int:
    """Serve MODEL on a simulated chip: OpenAI's API, with the chip's own timing under the load that comes.

    \b
    presilicon serve llama-3.1-8b --chip h100
    presilicon serve llama-3.1-70b --chip h100 --chips 4 --weights fp8 --replicas 2 --port 8080
    presilicon serve llama-3.1-8b --chip my-chip.toml --speedup 10 --served-model-name gpt-4o

    No model is run: the text is filler unless a response says otherwise, and only the timing means something.
    Ctrl-C or SIGTERM let requests in flight finish. --json prints the address and the setting as one object.
    """
    from presilicon.chip import load as load_chip
    from presilicon.serve import Endpoint, Settings, bind
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
    listener = bind(settings)
    try:
        machine = load_chip(chip)
        deployment, known = _deployment(model, machine, options)
        endpoint = Endpoint(
            deployment,
            names=names or known,
            chip=machine.name,
            settings=settings,
            replicas=replicas,
            context_tokens=max_model_len,
        )
        address, found = listener.getsockname()[:2]
        url = f"http://{f'[{address}]' if ':' in address else address}:{found}"
        ended_by = run(endpoint, listener, started=lambda: _tell(endpoint, deployment, url, as_json))
    finally:
        listener.close()
    return INTERRUPTED if ended_by == signal.SIGINT else 0


def _deployment(model: str, chip: Chip, options: dict[str, Any]) -> tuple[Deployment, tuple[str, ...]]:
    """``model`` on ``chip`` as the options say, and the names that requests may use."""
    from presilicon.errors import ModelError
    from presilicon.frontend import load
    from presilicon.frontend.language import LanguageModel
    from presilicon.replay import Limits, deploy

    found = load(model)
    if not isinstance(found, LanguageModel):
        raise ModelError("this model makes no tokens, and OpenAI's API serves tokens", where=model)
    limits = {name: options.pop(name) for name in ("max_running", "max_batched_tokens")}
    ways = {name: options.pop(f"{name}_parallel") for name in ("tensor", "pipeline", "expert")}
    deployment = deploy(
        found,
        chip,
        parallelism=_parallelism(ways),
        limits=Limits(**{name: value for name, value in limits.items() if value is not None}),
        **{name: value for name, value in options.items() if value is not None},
    )
    return deployment, (found.name,) if Path(model).exists() else tuple(dict.fromkeys((found.name, model)))


def _parallelism(ways: dict[str, int | None]) -> Parallelism | None:
    from presilicon.mapping import Parallelism

    given = {name: value for name, value in ways.items() if value is not None}
    return Parallelism(**given) if given else None


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
