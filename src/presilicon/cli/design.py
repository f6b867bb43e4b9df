"""``presilicon design``: the chip that serves a model best, why, and whether to buy, partner or build."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import amount_option, as_json, count_option, dims, model_argument
from presilicon.cli.output import print_json, print_table, progress, say
from presilicon.cli.report import write_report
from presilicon.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from presilicon.design import Snapshot

_PROBLEM = (
    "objective", "space", "node", "memory", "chips", "max_area_mm2", "max_unit_usd", "volume", "years", "usd_per_kwh", "pue",
    "input_tokens", "output_tokens", "ttft_s", "tpot_s", "max_power_w",
)  # fmt: skip
_FRONT, _NEAR, _PRICES = 10, 6, 10


@click.command(name="design", short_help="The chip that serves a model best, and whether to build it.")
@model_argument
@click.option("-o", "folder", required=True, type=click.Path(), metavar="DIR", help="Folder for design.json, chip and store.")
@click.option("--objective", default="tokens-per-dollar", show_default=True, metavar="O",
              help="tokens-per-dollar, tokens-per-joule, tokens-per-second (and chip) or latency.")  # fmt: skip
@amount_option("--max-power-w", "Most rated power of all chips together.", metavar="W")
@amount_option("--max-area-mm2", "Largest die; a reticle's 858 unless given.", metavar="A")
@amount_option("--max-unit-usd", "Most that making one chip may cost.", metavar="USD")
@click.option("--node", metavar="N", help="Process node, such as n5; any of the space unless given.")
@click.option("--memory", metavar="K", help="Kind of memory, such as HBM3E; any of the space unless given.")
@count_option("--chips", "Most chips that share the model.")
@count_option("--input-tokens", "Tokens of each prompt.")
@count_option("--output-tokens", "Tokens of each answer.")
@amount_option("--ttft-s", "Longest time to the first token.", metavar="S")
@amount_option("--tpot-s", "Longest time per output token after it.", metavar="S")
@click.option("--workload", type=click.Path(), metavar="FILE", help="TOML file of lengths, limits and allowed formats.")
@count_option("--volume", "Chips made in all, which bear the engineering (100,000 unless given).")
@amount_option("--years", "Years of use that the purchase is spread over.", metavar="Y")
@amount_option("--usd-per-kwh", "Price of electricity.", metavar="USD", zero=True)
@amount_option("--pue", "Energy of the building over that of its computers.", metavar="X", least=1.0)
@click.option(
    "--space", default="accelerator", show_default=True, metavar="FILE", help="accelerator, template, or a TOML file."
)
@count_option("--budget", "Designs to evaluate at most (200,000 unless given).")
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of the search; same seed, same result."
)
@count_option("--workers", "Processes that evaluate; all processors unless given.")
@click.option("--ray", metavar="ADDRESS", help='Spread over a Ray cluster: its address, or "local" to start one.')
@click.option("--resume", is_flag=True, help="Go on with the search that the folder holds.")
@click.option("--watch", is_flag=True, help="Show the best designs and the front while it searches.")
@click.option("--build", is_flag=True, help="Write a template chip's Verilog and check it at all levels.")
@dims
@as_json
def design(model: str, folder: str, as_json: bool, watch: bool, dims: tuple[tuple[str, int], ...], **options: Any) -> int:
    """Design the chip that serves MODEL best: searched, explained, priced, and laid beside what can be bought.

    \b
    presilicon design openai/gpt-oss-120b -o out
    presilicon design meta-llama/Llama-3.1-8B --max-power-w 150 --node n5 -o out
    presilicon design llama-3.1-8b --objective latency --max-unit-usd 1000 -o out
    presilicon design resnet50 --space template --objective latency --build -o out
    presilicon design llama-3.1-8b --volume 1000000 --budget 500000 --resume -o out

    DIR gets design.json, report.html, the chosen chip as TOML (which every command takes as a CHIP), and every design that
    was evaluated as Parquet in DIR/designs. A run that was killed goes on with --resume and ends as it would have.
    """
    from presilicon import design as room
    from presilicon import frontend

    asked = {name: options[name] for name in _PROBLEM if options[name] is not None}
    problem = room.problem(frontend.load(model, dict(dims) or None), workload_file=options["workload"], **asked)
    if options["build"] and not problem.space.template:
        raise InputError(
            f"no chip of the space {problem.space.name} has RTL", where="--build", hint="--space template holds those that have"
        )
    archive = room.Archive(problem)
    told: Snapshot | None = None
    with _bar(watch) as show:
        for told in room.search(
            problem, folder=folder, seed=options["seed"], budget=options["budget"] or room.DEFAULT_BUDGET,
            workers=options["workers"], ray=options["ray"], resume=options["resume"], archive=archive,
        ):  # fmt: skip
            show(told)
    assert told is not None
    found = room.report(problem, archive, told, command=_command())
    files = [*room.write(folder, found), write_report(folder)]
    built = room.build(problem, found.chosen, folder, progress=progress) if options["build"] else None
    if as_json:
        print_json("design", found.to_json() | {"files": files} | ({"build": built.to_json()} if built else {}))
    else:
        _print(found.to_json())
        if built:
            _print_built(built.to_json())
        say()
        say(f"{', '.join(files)} and designs/ in {folder}.")
    return 0 if built is None or built.agrees else 1


def _command() -> str:
    return shlex.join(["presilicon", *(a for a in sys.argv[1:] if a not in ("--resume", "--json"))])


@contextmanager
def _bar(watch: bool) -> Iterator[Callable[[Snapshot], None]]:
    """What shows on stderr how far a search is, a bar or the front; silent where stderr is no terminal."""
    if watch:
        from presilicon.view.watch import watch_search

        with watch_search(enabled=True) as draw:
            yield draw
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} designs"), TimeElapsedColumn(),
               TextColumn("{task.fields[best]}"))  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as shown:
        task = shown.add_task("random", total=None, best="")

        def show(now: Snapshot) -> None:
            best = f"{now.best.figures['usd_per_million_tokens']:.3g} USD/M" if now.best else "none fits yet"
            shown.update(task, description=f"{now.phase:12s}", total=now.budget, completed=now.evaluated, best=best)

        yield show


def _print(found: Mapping[str, Any]) -> None:
    from presilicon.units import si

    chosen, problem = found["chosen"], found["problem"]
    figures, fields = chosen["figures"], chosen["fields"]
    say(
        f"{found['designs_evaluated']:,} of {problem['designs_in_space']:.3g} designs in {found['seconds']:.1f} s "
        f"({found['designs_per_s']:,.0f} a second); {found['designs_feasible']:,} hold all limits."
    )
    say()
    say(f"Chosen: {chosen['name']}")
    print_table(("", ""), [(name, _value(name, value)) for name, value in fields.items()])
    say()
    shown = [
        (label, si(figures[name], unit))
        for name, label, unit in (
            ("tokens_per_s", "output tokens a second, all chips", "/s"),
            ("time_to_first_token_s", "time to first token", "s"),
            ("time_per_output_token_s", "time per output token", "s"),
            ("energy_j_per_token", "energy per token", "J"),
            ("power_w", "mean power of all chips", "W"),
            ("tdp_w", "rated power of a chip", "W"),
            ("memory_bytes", "memory needed", "B"),
        )
        if figures[name]
    ]
    shown += [
        ("die area", f"{figures['area_mm2']:.0f} mm2"),
        ("cost of making one", _spread(chosen["unit_usd"])),
        ("engineering (NRE)", _spread(chosen["nre_usd"])),
        ("cost per million tokens", _spread(chosen["usd_per_million_tokens"])),
        ("export class (3A090)", chosen["policy"]["eccn"] or "none"),
    ]
    print_table(("figure", "value (p10 to p90)"), shown)
    _print_why(found)
    _print_others(found)
    say()
    for sentence in found["recommendation"]:
        say(sentence)


def _print_why(found: Mapping[str, Any]) -> None:
    say()
    print_table(
        ("", "decision", "met", "gain"),
        [
            (str(d["step"]), _change(d), d["bottleneck"], f"{d['gain']:.2f}x" if d["gain"] and not d["broken"] else "-")
            for d in found["decisions"]
        ],
        right=("gain",),
        title="From the middle of every axis to the chosen design",
        fold="met",
    )  # fmt: skip
    say()
    print_table(
        ("more of", "now", "then", "gain", "but breaks"),
        [
            (p["of"], _value(p["of"], p["now"]), _value(p["of"], p["then"]), f"{100 * p['gain']:+.1f} %", p["breaks"] or "-")
            for p in found["shadow_prices"][:_PRICES]
        ],
        right=("now", "then", "gain"),
        title="What one step more would buy",
        fold="but breaks",
    )
    say()
    print_table(
        ("other choice", "value", "worse by"),
        [(n["axis"], str(n["value"]), f"{100 * (n['ratio'] - 1):.1f} %") for n in found["near"][:_NEAR]],
        right=("worse by",),
        title="What nearly won",
    )


def _print_built(built: Mapping[str, Any]) -> None:
    say()
    rows = [
        (one["name"], *(str(one["mismatches"].get(pair, "-")) for pair in ("reference_simulate", "simulate_rtl")),
         *(f"{one['cycles'][level]:,}" if level in one["cycles"] else "-" for level in ("simulate", "rtl")))
        for one in built["checks"]
    ]  # fmt: skip
    columns = ("program", "ref/sim", "sim/rtl", "cycles simulated", "on RTL")
    print_table(columns, rows, right=columns[1:], title="Checked on a copy with a small array: bytes that differ, cycles")
    say(f"{len(built['files'])} files of Verilog and its documents in rtl/.")


def _change(decision: Mapping[str, Any]) -> str:
    axis = decision["axis"]
    return f"{axis}: {_value(axis, decision['before'])} -> {_value(axis, decision['after'])}"


def _print_others(found: Mapping[str, Any]) -> None:
    say()
    rows = [
        (
            a["chip"],
            a["way"],
            str(a["entry"]["chips"]),
            _spread(a["usd_per_million_tokens"], "") if a["usd_per_million_tokens"] else "-",
            f"{a['lead']['value']:.2f}x" if a["lead"] else "-",
            "yes" if a["inside_interval"] else "no" if a["inside_interval"] is False else "-",
            f"{a['energy_ratio']:.2f}x",
            f"{a['equal_usd']:,.0f}" if a["equal_usd"] else "-",
        )
        for a in found["alternatives"]
    ]
    if not rows:
        say("No existing chip of the library holds the same limits.")
        return
    columns = ("chip", "way", "N", "USD/M (p10 to p90)", "cost", "inside", "energy", "equal at USD")
    title = "Existing chips under the same limits: cost and energy over the design's"
    print_table(columns, rows, right=("N", "cost", "energy", "equal at USD"), fold="chip", title=title)


def _spread(interval: Mapping[str, float], unit: str = " USD") -> str:
    return f"{_short(interval['value'])}{unit} ({_short(interval['p10'])} to {_short(interval['p90'])})"


def _short(value: float) -> str:
    from presilicon.units import si

    return si(value) if value >= 1e4 else f"{value:.3g}"


def _value(name: str, value: Any) -> str:
    from presilicon.units import si

    if isinstance(value, str):
        return value
    unit = "Hz" if name.endswith("_hz") else "B/s" if name.endswith("bytes_per_s") else "B" if name.endswith("_bytes") else ""
    return si(float(value), unit) if unit else f"{value:g}"
