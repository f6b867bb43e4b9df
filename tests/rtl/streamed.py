"""Blocks run by Verilator over whole arrays: a word of inputs a cycle in, a word of outputs a cycle out, one call."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from presilicon.rtl.build import cache_folder, compiler, digest, verilator_root, versions
from presilicon.rtl.hierarchy import verilog

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
    """A block, compiled; what was compiled is kept by the hash of the Verilog."""

    def __init__(self, block: wiring.Component) -> None:
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
    done = subprocess.run(command, env=os.environ | {"VERILATOR_ROOT": str(verilator_root())}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _compiled(text: str, words: list[int]) -> Path:
    """The shared library of a module ``top``, from the cache where it was compiled before."""
    include = verilator_root() / "include"
    flags = ["-std=c++20", "-O1", "-fPIC", "-w", "-DVL_TIME_CONTEXT", f"-I{include}", f"-I{include / 'vltstd'}"]
    run = f"#define IN {words[0]}\n#define OUT {words[1]}\n{RUN}"
    cache = cache_folder() / "tests"
    library = cache / f"{digest(text, run, *flags, versions())}.so"
    if library.exists():
        return library
    cache.mkdir(parents=True, exist_ok=True)
    runtime = [cache / f"{digest(source, *flags, versions())}.o" for source in ("verilated", "verilated_threads")]
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        for source, made in zip(("verilated", "verilated_threads"), runtime, strict=True):
            if not made.exists():
                _run(compiler(), *flags, "-c", str(include / f"{source}.cpp"), "-o", str(folder / made.name))
                (folder / made.name).replace(made)
        (folder / "top.v").write_text(text)
        (folder / "run.cpp").write_text(run)
        tool = [str(verilator_root() / "bin" / "verilator_bin"), "--cc", "-O3", "--x-assign", "fast", "-Wno-lint", "-Wno-fatal"]
        _run(*tool, "--Mdir", name, "--prefix", "Vtop", "--top-module", "top", str(folder / "top.v"))
        sources = [str(f) for f in folder.glob("*.cpp")]
        _run(
            compiler(), *flags, f"-I{name}", *sources, *map(str, runtime), "-shared", "-pthread", "-latomic", "-o", f"{name}/so"
        )
        (folder / "so").replace(library)
    return library
