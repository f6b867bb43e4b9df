"""``presilicon check``: a program through estimate, reference, simulator and RTL, compared byte by byte and cycle by cycle."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.cases import named_cases
from presilicon.cli.model_check import check_whole_model, is_model
from presilicon.cli.options import ChipName, as_json, compile_arguments, compile_options
from presilicon.cli.output import print_json, print_table, progress, say
from presilicon.errors import InputError

if TYPE_CHECKING:
    from presilicon.check import Checked
    from presilicon.compiler.corpus import Case
    from presilicon.template import Core


@click.command(name="check", short_help="Estimate, reference, simulator and RTL of a program side by side.")
@click.argument("model", metavar="MODEL")
@click.option("--chip", required=True, type=ChipName(), metavar="CHIP", help="A chip of the template.")
@click.option("--rtl/--no-rtl", default=True, help="Also run the RTL with Verilator (default).")
@click.option("--seed", default=0, show_default=True, help="Seed of inputs and of random programs.")
@click.option("--dram-latency", default=40, show_default=True, metavar="CYCLES", help="Latency of the memory.")
@click.option("--stalls", default=0, metavar="PERCENT", help="Bursts that the memory makes wait at random, up to 50 cycles.")
@click.option("--back-pressure", default=0, metavar="PERCENT", help="Beats that the memory holds back at random.")
@click.option("--trace", type=click.Path(), metavar="T.json", help="Write the timeline of both levels for Perfetto.")
@click.option("--vcd", type=click.Path(), metavar="W.vcd", help="Write the RTL's wave form.")
@compile_options
@as_json
def check(
    model: str,
    chip: str,
    rtl: bool,
    seed: int,
    dram_latency: int,
    stalls: int,
    back_pressure: int,
    trace: str | None,
    vcd: str | None,
    as_json: bool,
    **compiling: Any,
) -> int:
    """Run MODEL on CHIP at every level and say where they part. Exit code 1 where a value differs.

    \b
    presilicon check gemm:64x64x64 --chip core-16x16
    presilicon check gemm-int4:1x4096x4096 --chip core-32x32 --no-rtl
    presilicon check corpus --chip core-8x8            every program of the corpus
    presilicon check corpus:softmax --chip core-8x8    those whose name has softmax in it
    presilicon check random:100 --chip core-4x4        100 random programs
    presilicon check model.onnx --chip core-16x16 --calibrate samples.npz
    presilicon check all-MiniLM-L6-v2 --tokens 32 --chip core-16x16

    MODEL is gemm:MxKxN, gemm-int4:MxKxN, corpus, corpus:NAME, random:COUNT, or a whole model as `presilicon compile` takes
    it, which then runs on random inputs. The first run on a chip builds its RTL, which takes a minute or two; it is kept for
    the next time.
    """
    import numpy as np

    from presilicon.check import compare
    from presilicon.chip import load
    from presilicon.dram import DramOptions
    from presilicon.template import Core

    core = Core.of(load(chip))
    options = DramOptions(
        latency=dram_latency, stall_percent=stalls, stall_max=50 if stalls else 0, stall_seed=seed, back_pressure=back_pressure
    )
    if is_model(model):
        return check_whole_model(
            model, chip, rtl=rtl, seed=seed, options=options, trace=trace, vcd=vcd, as_json=as_json,
            compiling=compile_arguments(**compiling),
        )  # fmt: skip
    cases = list(named_cases(model, core, seed))
    for path in (trace, vcd):
        if path and len(cases) > 1:
            raise InputError(f"{path} can hold one program, and {model} is {len(cases)}", where=model)
    most = max(case.program.dram_bytes for case in cases)
    if rtl:
        from presilicon.rtl.runner import RtlMachine

        progress("building the RTL, or finding it built ...")
        machine: Any = RtlMachine(core, np.zeros(most, np.uint8), options, vcd=Path(vcd) if vcd else None)
    else:
        machine = nullcontext()
    with machine as opened:
        results = []
        for case in cases:
            results.append(compare(case, core, machine=opened, options=options, progress=_told(case.name)))
    estimates = [_estimate(core, case, dram_latency) for case in cases]
    if trace:
        _write_trace(trace, cases[0], results[0])
    if as_json:
        print_json("check", _json(chip, options.active(), cases, results, estimates))
    else:
        _print(chip, options.active(), results, estimates)
    return 0 if all(result.agrees for result in results) else 1


def _told(name: str) -> Any:
    return lambda cycles, speed: progress(f"{name}: {cycles:,} cycles, {speed:,.0f} a second")


def _estimate(core: Core, case: Case, latency: int) -> float | None:
    from presilicon.estimate.template import matmul_estimate

    return None if case.plan is None else matmul_estimate(core, case.plan, latency=latency).cycles


def _write_trace(path: str, case: Case, result: Checked) -> None:
    from presilicon.files import write_whole
    from presilicon.simulate.timeline import timeline
    from presilicon.template import ENGINES

    levels: dict[str, Any] = {
        "simulate": [(core, ENGINES[e.engine], e) for core, events in enumerate(result.simulated.events) for e in events]
    }
    if result.rtl is not None:
        levels["rtl"] = [(e.core, e.engine, e) for e in result.rtl.events]
    write_whole(path, timeline(levels, case.program))


def _row(case: Case, result: Checked, estimate: float | None) -> dict[str, Any]:
    cycles = {"estimate": estimate, **result.cycles}
    return {
        "name": result.name,
        "kind": result.name.split("-")[0],
        "mismatches": dict(result.mismatches),
        "cycles": cycles,
        "utilization": result.utilization,
        "dram_read_bytes": result.simulated.dram_read_bytes,
        "dram_written_bytes": result.simulated.dram_written_bytes,
        "busy_cycles": dict(result.simulated.busy_cycles),
    }


def _json(
    chip: str, memory: tuple[str, ...], cases: list[Case], results: list[Checked], estimates: list[float | None]
) -> dict[str, Any]:
    def total(name: str) -> int | None:
        values = [result.mismatches.get(name) for result in results]
        return None if None in values else sum(v for v in values if v is not None)

    estimated = [e for e in estimates if e is not None]
    simulated = [result.cycles["simulate"] for result in results]
    on_rtl = [result.cycles["rtl"] for result in results if "rtl" in result.cycles]
    return {
        "chip": chip,
        "memory": list(memory),
        "mismatches": {name: total(name) for name in ("reference_simulate", "simulate_rtl")},
        "cycles": {
            "estimate": sum(estimated) if len(estimated) == len(results) else None,
            "simulate": sum(simulated),
            "rtl": sum(on_rtl) if on_rtl else None,
        },
        "utilization": results[0].utilization if len(results) == 1 else None,
        "operators": [_row(*each) for each in zip(cases, results, estimates, strict=True)],
    }


def _print(chip: str, memory: tuple[str, ...], results: list[Checked], estimates: list[float | None]) -> None:
    rows = []
    for result, estimate in zip(results, estimates, strict=True):
        rtl = result.cycles.get("rtl")
        rows.append(
            (
                result.name,
                str(result.mismatches["reference_simulate"]),
                str(result.mismatches.get("simulate_rtl", "-")),
                "-" if estimate is None else f"{estimate:,.0f}",
                f"{result.cycles['simulate']:,}",
                "-" if rtl is None else f"{rtl:,}",
                f"{100 * result.utilization:.1f} %" if result.utilization else "-",
            )
        )
    columns = ("program", "ref/sim", "sim/rtl", "estimate", "simulate", "rtl", "utilization")
    print_table(
        columns,
        rows,
        right=columns[1:],
        title=f"{chip}: bytes that differ, and cycles" + (f" ({', '.join(memory)})" if memory else ""),
    )
    for result in results:
        if result.parted:
            engine, pc, simulated, hardware = result.parted
            say(
                f"{result.name}: {engine} at instruction {pc} is issued and done in cycles {simulated[0]} and {simulated[1]} in"
                f" the simulator, {hardware[0]} and {hardware[1]} in the RTL."
            )
    bad = sum(not result.agrees for result in results)
    say(f"{len(results) - bad} of {len(results)} agree in every byte.")
