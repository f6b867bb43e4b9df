"""What commands that put a model under load have in common: the chips that serve it, how they schedule, who asks for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import Decorator, amount_option, chip_option, count_option, format_option

if TYPE_CHECKING:
    from presilicon.frontend.language import LanguageModel
    from presilicon.mapping import Parallelism
    from presilicon.replay import Deployment, Fleet, Limits, Speculation
    from presilicon.replay.workload import Workload


def _all(*decorators: Decorator) -> Decorator:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def lengths_option(name: str, help_text: str) -> Decorator:
    """An option that takes a number of tokens or a distribution of them."""
    return click.option(name, metavar="D", help=help_text)


deployment_options = _all(
    chip_option("The chip: a name of the library or a TOML file."),
    count_option("--tensor-parallel", "Chips of a replica that share every operator."),
    count_option("--pipeline-parallel", "Stages of blocks of a replica, one after the other."),
    count_option("--expert-parallel", "Ways the experts of a mixture are spread, by expert."),
    count_option("--data-parallel", "Ranks of a replica that share nothing but experts."),
    format_option("--weights"),
    format_option("--activations"),
    format_option("--kv-cache"),
    count_option("--max-running", "Requests in flight on a replica at most.", 1024),
    count_option("--max-batched-tokens", "Tokens worked on in a step at most.", 8192),
    count_option("--block-tokens", "Tokens of a block of the KV cache.", 16),
    click.option("--max-waiting", type=int, metavar="N", help="Requests that wait at a replica at most; more are refused."),
    click.option("--no-chunked-prefill", is_flag=True, help="Work on each prompt whole."),
    click.option("--no-prefix-caching", is_flag=True, help="Compute prefixes that requests share each time."),
    click.option(
        "--preemption", type=click.Choice(["recompute", "swap"]), default="recompute", show_default=True,
        help="What happens to the tokens of a request that must give up its memory.",
    ),
    count_option("--speculative-tokens", "Tokens proposed a step and checked at once."),
    click.option("--acceptance-rate", type=float, metavar="X", help="Chance that a proposed token is right.  [default: 0.7]"),
    click.option("--draft-model", metavar="MODEL", help="The model that proposes tokens; without one they cost nothing."),
    click.option("--routing", metavar="R", default="round-robin", show_default=True,
                 help="Who takes a request: round-robin, least-loaded, prefix-aware or one-queue."),
)  # fmt: skip

workload_options = _all(
    click.option("--trace", type=click.Path(), metavar="FILE", help="Requests: Azure's CSV, Mooncake's JSON lines, plain CSV."),
    click.option("--workload", type=click.Path(), metavar="FILE", help="TOML file of arrivals, lengths and SLOs."),
    amount_option("--rate", "Requests a second that arrive at random.", metavar="X"),
    amount_option("--variation", "Deviation of the gaps between arrivals over their mean.  [default: 1, Poisson]", zero=True),
    count_option("--concurrency", "Clients that each ask again when they are answered."),
    count_option("--requests", "Requests to replay.  [default: the trace's, or 1,000]"),
    lengths_option("--input-tokens", "Tokens of prompts: 1024, uniform:100:2000, exponential:500, lognormal:1000:1.2."),
    lengths_option("--output-tokens", "Tokens of answers, in the same words."),
    amount_option("--prefix-share", "Share of the requests that begin with a common text.", zero=True),
    count_option("--prefix-tokens", "Tokens of a common text."),
    count_option("--prefix-groups", "Number of common texts."),
    amount_option("--speed", "Times as fast as the trace.", metavar="X"),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of all that is random."),
    amount_option("--ttft-s", "SLO: longest time to the first token.", metavar="S"),
    amount_option("--tpot-s", "SLO: longest time per output token after it.", metavar="S"),
)


def workload_of(options: dict[str, Any]) -> Workload:
    """The workload of a file, with what the options say in its place; takes its options out of ``options``."""
    from dataclasses import replace

    from presilicon.replay.arrivals import Distribution
    from presilicon.replay.workload import Workload, read_workload

    path = options.pop("workload")
    base: Any = read_workload(path) if path else Workload()
    given: dict[str, Any] = {"rate_per_s": options.pop("rate")}
    for name in ("trace", "variation", "concurrency", "requests", "speed", "ttft_s", "tpot_s"):
        given[name] = options.pop(name)
    for name in ("input_tokens", "output_tokens"):
        text = options.pop(name)
        given[name] = None if text is None else Distribution.parse(text)
    prefix = {name: options.pop(f"prefix_{name}") for name in ("share", "tokens", "groups")}
    told = {name: value for name, value in prefix.items() if value is not None}
    if told:
        given["prefix"] = replace(base.prefix, **({"share": 1.0} | told))
    given = {name: value for name, value in given.items() if value is not None}
    ways = ("trace", "rate_per_s", "concurrency")
    if any(way in given for way in ways):  # what is said here is instead of what the file says
        base = replace(base, **dict.fromkeys(ways))
    if "trace" in given:
        base = replace(base, input_tokens=None, output_tokens=None)
    found: Workload = replace(base, **given)
    return found


def parallelism_of(options: dict[str, Any]) -> Parallelism | None:
    """The way to share the model that the options ask for; None where they leave it open."""
    from presilicon.mapping import Parallelism

    ways = {way: options.pop(f"{way}_parallel") for way in ("tensor", "pipeline", "expert", "data")}
    given = {way: number for way, number in ways.items() if number is not None}
    return Parallelism(**given) if given else None


def limits_of(options: dict[str, Any]) -> Limits:
    """How a replica schedules."""
    from presilicon.replay import Limits

    return Limits(
        max_running=min(options["max_running"], options["max_batched_tokens"]),
        max_batched_tokens=options["max_batched_tokens"],
        max_waiting=options["max_waiting"],
        block_tokens=options["block_tokens"],
        chunked_prefill=not options["no_chunked_prefill"],
        prefix_caching=not options["no_prefix_caching"],
        preemption=options["preemption"],
    )


def speculation_of(options: dict[str, Any]) -> Speculation | None:
    """Speculative decoding; None where the options ask for none."""
    from presilicon.errors import WorkloadError
    from presilicon.replay import Speculation

    tokens, rate, draft = options["speculative_tokens"], options["acceptance_rate"], options["draft_model"]
    if tokens is None:
        if rate is not None or draft is not None:
            raise WorkloadError("nothing is proposed", hint="--speculative-tokens says how many tokens a step")
        return None
    return Speculation(tokens, 0.7 if rate is None else rate, language_model(draft) if draft else None)


def language_model(name: str) -> LanguageModel:
    """A language model by name; ModelError for any other kind."""
    from presilicon.errors import ModelError
    from presilicon.frontend import load
    from presilicon.frontend.language import LanguageModel

    model = load(name)
    if not isinstance(model, LanguageModel):
        raise ModelError("it generates no tokens", where=model.name, hint="a language model; `presilicon bench` runs networks")
    return model


def deployer(model: str, options: dict[str, Any], lengths: tuple[int, int]) -> Callable[[int | None], Deployment]:
    """A function that puts the model on so many chips of the kind and in the ways that the options say."""
    from presilicon.chip import load as load_chip
    from presilicon.errors import ParallelismError
    from presilicon.replay import deploy

    loaded, chip = language_model(model), load_chip(options["chip"])
    parallelism, limits, speculation = parallelism_of(options), limits_of(options), speculation_of(options)
    if speculation is not None and options["max_running"] == 1024:  # the default gives way to the tokens that are checked
        from dataclasses import replace

        limits = replace(limits, max_running=min(limits.max_running, limits.max_batched_tokens // (speculation.tokens + 1)))

    def deployed(chips: int | None) -> Deployment:
        if parallelism is not None and chips is not None and parallelism.chips != chips:
            raise ParallelismError(
                f"{parallelism} is {parallelism.chips} chips, not {chips}",
                hint="leave --chips out, or make the product equal to it",
            )
        return deploy(
            loaded, chip, chips=chips, parallelism=parallelism, weights=options["weights"], activations=options["activations"],
            kv_cache=options["kv_cache"], limits=limits, speculation=speculation, input_tokens=lengths[0],
            output_tokens=lengths[1],
        )  # fmt: skip

    return deployed


def fleet_of(deployment: Deployment, options: dict[str, Any], replicas: int) -> Fleet:
    """Replicas behind the router that the options ask for."""
    from presilicon.replay import Fleet

    return Fleet(
        deployment=deployment, replicas=replicas, routing=options["routing"],
        prefill_replicas=options.get("prefill_replicas") or 0,
    )  # fmt: skip


def typical_lengths(requests: Any) -> tuple[int, int]:
    """Mean lengths of requests, for which the way to share a model is chosen."""
    given = getattr(requests, "requests", requests)
    prompt, answer = (sum(getattr(r, name) for r in given) / len(given) for name in ("input_tokens", "output_tokens"))
    return max(1, round(prompt)), max(1, round(answer))
