"""``presilicon match``: all chips ranked for a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from presilicon.cli.options import ChipName, amount_option, as_json, count_option, dims, model_argument
from presilicon.cli.output import print_json, print_table, say

_BASES = {"purchase": "buy", "rent": "rent"}


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
@click.option("--template", is_flag=True, help="Rank the chips of presilicon's own template too: designs, not products.")
@click.option("--explain", nargs=2, type=ChipName(), metavar="A B", help="Where chip A is ahead of chip B, term by term.")
@dims
@as_json
def match(
    model: str, dims: tuple[tuple[str, int], ...], explain: tuple[str, str] | None, as_json: bool, **options: Any
) -> None:
    """Rank all chips for MODEL: the best batch, parallelism and formats of each, within limits, by cost per token.

    \b
    presilicon match openai/gpt-oss-120b
    presilicon match llama-3.1-8b --input-tokens 2048 --output-tokens 256 --ttft-s 1 --tpot-s 0.05
    presilicon match llama-3.1-70b --max-power-w 3000 --years 3 --usd-per-kwh 0.2
    presilicon match llama-3.1-8b --explain h200 l40s

    Chips that miss a limit, do not hold the model, or lack a figure are listed below with the reason.
    """
    from presilicon import chip, frontend
    from presilicon import match as engine

    pair = tuple(chip.load(name) for name in explain) if explain else ()
    given = {name: value for name, value in options.items() if value is not None}
    ranking = engine.match(frontend.load(model, dict(dims) or None), **given)
    explanation = ranking.explain(*(one.name for one in pair)) if pair else None
    if as_json:
        print_json("match", ranking.to_json() | ({"explanation": explanation.to_json()} if explanation else {}))
    elif explanation:
        _print_explanation(explanation.to_json())
    else:
        _print(ranking.to_json())


def _print(found: Mapping[str, Any]) -> None:
    from presilicon.units import si

    fitting = [entry for entry in found["ranking"] if entry["fits"]]
    rows = [
        (
            entry["chip"],
            str(entry["chips"]),
            f"{entry['batch']:g}",
            str(entry["formats"]).partition("/")[0],
            si(entry["tokens_per_s_per_chip"]),
            si(entry["time_to_first_token_s"], "s"),
            si(entry["time_per_output_token_s"], "s"),
            f"{entry['power_w']:.0f}",
            _usd(entry["usd_per_million_tokens"]),
            _BASES.get(str(entry["price_basis"]).partition(" ")[0], "-"),
            _paragraph(entry["policy"]),
        )
        for entry in fitting
    ]
    if not rows:
        say(f"No chip qualifies for {found['model']}.")
        _print_left_out(found)
        return
    columns = ("chip", "N", "batch", "weights", "tok/s", "TTFT", "TPOT", "W", "USD/M", "from", "3A090")
    print_table(columns, rows, right=tuple(c for c in columns if c not in ("chip", "weights", "from", "3A090")), fold="chip")
    say()
    say(
        "N: chips. tok/s: output tokens per second and chip. W: all chips, hosts left out. USD/M: per million output tokens, "
        "from the purchase or the rent of the chips. 3A090: paragraph of the US export rules for a data-centre chip, ? where "
        "its die's area is not known well enough (`presilicon cost CHIP`); not legal advice. "
        "--json has intervals, prices with their sources, and published results."
    )
    _print_evidence(fitting)
    _print_left_out(found)


def _paragraph(policy: Mapping[str, Any] | None) -> str:
    """The paragraph of 3A090 alone."""
    name = str(policy["eccn"]).removeprefix("3A090.") if policy else ""
    return name + ("" if policy["certain"] else "?") if policy and name else "-"


def _print_left_out(found: Mapping[str, Any]) -> None:
    """Chips that do not qualify, each with the reason."""
    left_out = [entry for entry in found["ranking"] if not entry["fits"]]
    if left_out:
        say()
        say(f"{len(left_out)} chips are not ranked:")
        for entry in left_out:
            say(f"  {entry['chip']}: {entry['reason']}")


def _print_evidence(fitting: list[Mapping[str, Any]]) -> None:
    """The best published rate of the model on each chip of the ranking, beside what is predicted for it here."""
    from presilicon.units import si

    rows = []
    for entry in fitting:
        rates = [e for e in entry["evidence"] if e["unit"].endswith("/s")]
        if rates:
            best = max(rates, key=lambda e: float(e["value"]) / e["chips"])
            per_chip = si(float(best["value"]) / best["chips"])
            rows.append((entry["chip"], f"{per_chip} {best['unit']}", si(entry["tokens_per_s_per_chip"]), best["what"]))
    if rows:
        say()
        say("Published for this model, per chip, with lengths and limits of its own, beside the prediction above:")
        print_table(("chip", "published", "predicted", "where"), rows, right=("published", "predicted"), fold="where")


def _print_explanation(found: Mapping[str, Any]) -> None:
    from presilicon.units import si

    rows = []
    for term in found["terms"]:
        a, b = term["a"], term["b"]
        ratio = f"{a / b:.2f}" if a and b else "-"
        rows.append(
            (term["term"], *(_usd(v) + " USD" if term["unit"] == "USD" else si(v, term["unit"]) for v in (a, b)), ratio)
        )
    print_table(("", found["a"], found["b"], "ratio"), rows, right=(found["a"], found["b"], "ratio"))
    say()
    say("Below the figures: where the time of one output token of a request goes.")


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
