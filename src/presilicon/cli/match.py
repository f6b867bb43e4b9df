"""``presilicon match``: all chips ranked for a model."""

from __future__ import annotations

from typing import Any

import click

from presilicon.cli.options import ChipName, amount_option, as_json, count_option, dims, model_argument


@click.command(name="match", short_help="All chips ranked for a model, by cost per token.")
@model_argument
@count_option("--input-tokens", "Tokens of each prompt.")
@count_option("--output-tokens", "Tokens of each answer.")
@amount_option("--ttft-s", "Longest time to the first token.", metavar="S")
@amount_option("--tpot-s", "Longest time per output token after it.", metavar="S")
@amount_option("--max-power-w", "Most power of all chips together.", metavar="W")
@count_option("--chips", "Most chips of one kind.")
@amount_option("--years", "Years of use that the purchase is spread over.", metavar="Y")
@amount_option("--usd-per-kwh", "Price of electricity.", metavar="USD", zero=True)
@amount_option("--pue", "Energy of the building over that of its computers.", metavar="X", least=1.0)
@click.option("--workload", type=click.Path(), metavar="FILE", help="TOML file of lengths, limits and allowed formats.")
@click.option("--explain", nargs=2, type=ChipName(), metavar="A B", help="Where chip A is ahead of chip B, term by term.")
@dims
@as_json
def match(model: str, explain: tuple[str, str] | None, as_json: bool, **options: Any) -> None:
    """Rank all chips for MODEL: the best batch, parallelism and formats of each, within limits, by cost per token.

    \b
    presilicon match openai/gpt-oss-120b
    presilicon match llama-3.1-8b --input-tokens 2048 --output-tokens 256 --ttft-s 1 --tpot-s 0.05
    presilicon match llama-3.1-70b --max-power-w 1000 --years 3 --usd-per-kwh 0.2
    presilicon match llama-3.1-8b --explain h200 l40s

    Chips that miss a limit, do not hold the model, or lack a figure are listed below with the reason.
    """
    raise click.UsageError("not yet")
