"""For tests of the emission: cores of every size, and a model through reference, verifier and simulator."""

from dataclasses import replace

import numpy as np

from presilicon.check import different, outputs, put
from presilicon.compiler.compiled import memory
from presilicon.compiler.emission import emit
from presilicon.compiler.meaning import reference
from presilicon.compiler.steps import Lowered
from presilicon.isa import verify
from presilicon.simulate.machine import run
from presilicon.template import Core

_BASE = Core(
    rows=4,
    cols=4,
    lanes=4,
    bus_bytes=16,
    weight_rows_per_cycle=4,
    scratchpad_bytes=1 << 15,
    scratchpad_banks=8,
    accumulator_rows=64,
)


def sized(rows: int, cols: int, lanes: int, *, kib: int = 64, **more: int) -> Core:
    """A core with an array of this size."""
    wide = max(1, -(-16 // cols))
    fields = {"accumulator_rows": 128, "weight_rows_per_cycle": wide, "scratchpad_bytes": kib << 10} | more
    return replace(_BASE, rows=rows, cols=cols, lanes=lanes, **fields)


SIZES = {
    "4x4": _BASE,
    "8x8": sized(8, 8, 8),
    "12x20": sized(12, 20, 4),
    "16x16": sized(16, 16, 16, kib=256, bus_bytes=32, weight_rows_per_cycle=4),
    "16x32": sized(16, 32, 32, kib=256),
    "32x16": sized(32, 16, 8, kib=128),
    "32x32": sized(32, 32, 32, kib=512, bus_bytes=32, accumulator_rows=512),
    "64x64": sized(64, 64, 32, kib=512),
    "128x20": sized(128, 20, 4, kib=256),
    "20x128": sized(20, 128, 32, kib=256),
}


def inputs_of(lowered: Lowered, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random inputs and states."""
    found = {}
    for name in (*lowered.inputs, *lowered.states):
        tensor = lowered.tensors[name]
        shape = (tensor.rows, tensor.columns)
        if tensor.dtype == "float32":
            found[name] = rng.normal(0.0, 2.0, shape).astype(np.float32)
        else:
            high = 128 if tensor.dtype == "int8" else 8
            found[name] = rng.integers(-128 if tensor.dtype == "int8" else 0, high, shape).astype(tensor.dtype)
    return found


def simulated(lowered, core, inputs, arguments=None, *, verified=True, **options):
    """The run of a model on the simulator, what it wrote, and its programs."""
    emitted = emit(lowered, core, **options)
    given = {lowered.register(name): value for name, value in (arguments or {}).items()}
    if verified:
        verify(emitted.programs, core, given)
    dram = memory(emitted.programs)
    put(emitted.programs[0], dram, inputs)
    done = run(emitted.programs, core, arguments=given, dram=dram)
    found = outputs(emitted.programs[0], dram)
    for region in emitted.programs[0].regions:
        if region.kind == "state":
            raw = dram[region.address : region.address + region.bytes]
            found[region.name] = raw.view(region.dtype).reshape(region.shape).copy()
    return done, found, emitted


def agrees(lowered, core, seed=0, arguments=None, **options):
    """Asserts that simulator and reference give the same bytes; the run and its programs."""
    rng = np.random.default_rng(seed)
    inputs = inputs_of(lowered, rng)
    wanted = reference(
        lowered,
        {name: inputs[name] for name in lowered.inputs},
        arguments=arguments,
        states={name: inputs[name] for name in lowered.states},
    )
    done, found, emitted = simulated(lowered, core, inputs, arguments, **options)
    for name, value in wanted.items():
        bad = different({name: value}, {name: found[name]})
        if bad:
            where = np.argwhere(np.asarray(value) != found[name])[:5].tolist()
            raise AssertionError(f"{name}: {bad} bytes of {value.nbytes} differ, first at {where}")
    return done, emitted
