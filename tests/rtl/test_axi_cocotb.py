"""The whole chip's ports against cocotbext-axi: its own AXI4 memory and AXI4-Lite master, Alex Forencich's, not ours.

What runs inside the simulator is in cocotb_axi.py; a chip of 4x4 is verilated here with cocotb's interface, once.
"""

from __future__ import annotations

from pathlib import Path

import cocotb_tools.config
from cocotb_tools.runner import get_results, get_runner
from dma_bench import CORES

from presilicon.rtl.build import RUNTIME, TOP, Model
from presilicon.rtl.runner import verilog_of

# Only the ports are visible to cocotb: a model with every signal public is several times slower to build.
VISIBLE = f'`verilator_config\npublic_flat_rw -module "{TOP}" -var "*"\n'


def build_ports(folder: Path, verilog: str) -> None:
    """A simulation of ``verilog`` that cocotb drives."""
    folder.mkdir(exist_ok=True)
    (folder / "visible.vlt").write_text(VISIBLE)
    libraries = cocotb_tools.config.libs_dir
    Model(prefix="Vtop", arguments=("--vpi", str(folder / "visible.vlt")), optimize="0").build(
        folder,
        verilog,
        [cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"],
        (*RUNTIME, "verilated_vpi.cpp", "verilated_dpi.cpp"),
        ("-DVM_TRACE=0", "-DVM_TRACE_VCD=0"),
        ("-rdynamic", f"-Wl,-rpath,{libraries}", f"-L{libraries}", "-lcocotbvpi_verilator", "-latomic"),
        folder / TOP,
    )


def run_ports(folder: Path, uneven: bool = False) -> bool:
    """Whether all of cocotb_axi.py holds for what ``build_ports`` made of the smallest core, or of ``UNEVEN``."""
    results = get_runner("verilator").test(
        hdl_toplevel=TOP,
        hdl_toplevel_lang="verilog",
        test_module="cocotb_axi",
        build_dir=folder,
        # cocotbext-axi 0.1.28 uses names that cocotb 2 has renamed, and says so at length.
        extra_env={
            "PYTHONWARNINGS": "ignore::DeprecationWarning",
            "COCOTB_LOG_LEVEL": "WARNING",
            "PRESILICON_UNEVEN": "1" if uneven else "",
        },
        results_xml=str(folder / "results.xml"),
        log_file=str(folder / "log"),
    )
    return bool(get_results(results) == (5, 0))


def test_ports(tmp_path: Path) -> None:
    """All of cocotb_axi.py: registers, moves without and with back-pressure, read and write errors and the recovery."""
    build_ports(tmp_path, verilog_of(CORES["4x4"]))
    assert run_ports(tmp_path)
