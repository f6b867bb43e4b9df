"""The report of a chip under the sliders, as a file to keep."""

from __future__ import annotations

from collections.abc import Callable
from shlex import join as shell

from presilicon import __version__, view
from presilicon.chip import Chip
from presilicon.report import EstimateReport
from presilicon.studio.asked import Asked, base_of, report_for, setting
from presilicon.studio.live import ENERGY_TOLD, TIME_TOLD, broken_limits, curve, made_of, pictures_of, times
from presilicon.studio.making import Making, token_price
from presilicon.units import percent
from presilicon.view.document import Document, Figure, Section, datum, folded, html, key_values, preformatted, rows, shown
from presilicon.view.markup import Markup

WIDTH, DIE_WIDTH = 820.0, 520.0
LONGEST = 12


def chip_report(asked: Asked, find: Callable[[str], Chip]) -> str:
    """One HTML file; errors as those of the estimate."""
    report, one = report_for(asked, find)
    made, unknown = made_of(base_of(asked, one, find), one)
    usd, basis = token_price(report, one, made)
    title = one.title or one.name
    source = setting(report)
    pictures: list[view.Picture | Markup] = [view.roofline(report, one, width=WIDTH)]
    if points := curve(asked, one, find):
        name = f"{report.chips} x {title}"
        pictures.append(view.throughput_latency({name: points}, source=source, limit_s=asked.limits.get("tpot_s"), width=WIDTH))
    bars = [view.Stack("", times(report))]
    pictures.append(view.stacks("Time of operators", bars, "s", width=WIDTH, source=source, summary=TIME_TOLD))
    bars = [view.Stack("", report.energy_parts)]
    pictures.append(view.stacks("Energy", bars, "J", width=WIDTH, source=source, summary=ENERGY_TOLD))
    drawn = pictures_of(made, one, DIE_WIDTH) if made else {}
    # The chip's file stands in the report itself: the command below reads it back.
    return html(
        Document(
            title=f"{report.model} on {report.chips} x {title}" if report.chips > 1 else f"{report.model} on {title}",
            subtitle=f"presilicon estimate: {report.formats}, {asked.batch} in flight, {report.parallelism}",
            summary=_summary(report, made, usd, basis, broken_limits(report, made, asked.limits)),
            figures=_figures(report, made, usd, basis),
            sections=[
                Section("How it performs", "", pictures),
                Section("Longest operators", "", [_operators(report)]),
                Section("What it takes to make", unknown if made is None else "", list(drawn.values())),
                Section("The chip", one.note, [key_values({k: f"{v:,.6g}" for k, v in one.figures().items()})]),
                Section("Its file", "As every command reads it.", [folded("chip.toml", preformatted(one.to_toml()))]),
            ],
            command=command(asked, report),
            made_by=f"presilicon {__version__}, studio",
            sources=[(", ".join(s.fields), s.document, s.date, s.confidence) for s in one.sources],
        )
    )


def command(asked: Asked, report: EstimateReport) -> str:
    """The command line that gives the same estimate from the chip's file."""
    words = ["presilicon", "estimate", asked.model, "--chip", "chip.toml", "--batch", str(asked.batch)]
    if report.tokens_per_s is not None:
        words += ["--input-tokens", str(asked.input_tokens), "--output-tokens", str(asked.output_tokens)]
    for name in ("weights", "activations", "kv_cache"):
        if value := getattr(asked, name):
            words += ["--" + name.replace("_", "-"), value]
    ways = {"T": "tensor", "P": "pipeline", "E": "expert", "D": "data"}
    for part in report.parallelism.split("x") if report.parallelism != "1" else ():
        words += [f"--{ways[part[0]]}-parallel", part[2:]]
    return shell(words)


def _figures(report: EstimateReport, made: Making | None, usd: float | None, basis: str) -> list[Figure]:
    def note(key: str, unit: str) -> str:
        ends = report.intervals.get(key)
        return f"{shown(ends[0], unit)} to {shown(ends[1], unit)}" if ends else ""

    found = [
        Figure(name, getattr(report, key), unit, key, note(key, unit))
        for name, key, unit in (
            ("Output tokens", "tokens_per_s", "/s"),
            ("Throughput", "throughput_per_s", "/s"),
            ("Time to first token", "time_to_first_token_s", "s"),
            ("Time per output token", "time_per_output_token_s", "s"),
            ("Latency of the batch", "latency_s", "s"),
            ("Power, all chips", "power_w", "W"),
            ("Energy of the batch", "energy_j", "J"),
            ("Memory of a chip", "memory_bytes", "B"),
        )
        if getattr(report, key) is not None
    ]
    if made:
        found.append(Figure("Area of the die", made.area_mm2, "mm2", "making.area_mm2", made.node))
        found.append(Figure("Cost to make", made.unit_usd, "USD", "making.unit_usd", "no design cost, no margin"))
    if usd is not None:
        found.append(Figure("1 M output tokens", usd, "USD", "usd_per_million_tokens", basis))
    return found


def _summary(report: EstimateReport, made: Making | None, usd: float | None, basis: str, broken: list[str]) -> tuple[str, ...]:
    whole = sum(line.latency_s for line in report.operators) or 1.0
    bounds: dict[str, float] = {}
    for line in report.operators:
        bounds[line.bound] = bounds.get(line.bound, 0.0) + line.latency_s / whole
    bound = max(bounds, key=lambda name: bounds[name])
    spent = max(report.energy_parts, key=lambda name: report.energy_parts[name])
    if report.tokens_per_s is not None:
        first = (
            f"{shown(report.tokens_per_s, '')} output tokens a second; the first token after "
            f"{shown(report.time_to_first_token_s, 's')}, then one every {shown(report.time_per_output_token_s, 's')}."
        )
    else:
        first = f"{shown(report.throughput_per_s, '')} samples a second, {shown(report.latency_s, 's')} for the batch."
    price = f" A million output tokens cost {shown(usd, 'USD')} ({basis})." if usd is not None else ""
    area = (
        f"A die of {shown(made.area_mm2, 'mm2')} at {made.node}, {percent(made.die_yield)} of which work; "
        f"{shown(made.unit_usd, 'USD')} to make one chip."
        if made
        else "Its area is not known: the maker does not publish what it follows from."
    )
    return (
        first,
        f"{percent(bounds[bound])} of the operators' time is {bound} bound.",
        f"{shown(report.power_w, 'W')} for all chips; {spent} takes "
        f"{percent(report.energy_parts[spent] / report.energy_j)} of it.",
        area + price,
        "Outside the limits: " + "; ".join(broken) + "." if broken else "Every limit that was asked for is kept.",
    )


def _operators(report: EstimateReport) -> Markup:
    whole = sum(line.latency_s for line in report.operators) or 1.0
    numbered = sorted(enumerate(report.operators), key=lambda pair: -pair[1].latency_s)[:LONGEST]
    return rows(
        ("operator", "kind", "bound", "time", "share", "energy", "of peak"),
        [
            (
                line.name,
                line.kind,
                line.bound,
                datum(line.latency_s, "s", f"operators.{i}.latency_s"),
                percent(line.latency_s / whole),
                datum(line.energy_j, "J", f"operators.{i}.energy_j"),
                datum(line.utilization, "%", f"operators.{i}.utilization"),
            )
            for i, line in numbered
        ],
        words=(0, 1, 2),
    )
