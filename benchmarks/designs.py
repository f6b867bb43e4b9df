"""Full designs a second on one core: Llama-3.1-8B, prefill and decode, tiling, energy and memory check, arrays in and out.

    python benchmarks/designs.py [--block N] [--designs N] [--repeats N] [--atleast RATE] [--json]

A design is a chip of its own cores, clock, array, bandwidth, memories, link and power limit. Exit 1 below ``--atleast``.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from presilicon import chip, frontend
from presilicon.dtypes import Formats
from presilicon.estimate import Load, Machine, machine, service_cost

MODEL, BASE = "llama-3.1-8b", "nvidia-h100-sxm-80gb"
LOAD = Load(batch=8, input_tokens=1024, output_tokens=128)
FLOOR_OPERATIONS = 256


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is asked of every design, arrays over designs: seconds, joules, bytes, and whether they fit."""

    first_token_s: NDArray[np.float64]
    next_token_s: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    memory_bytes: NDArray[np.float64]
    fits: NDArray[np.bool_]


def random_machines(number: int, seed: int = 0) -> Machine:
    """``number`` random chips as one machine of arrays; software constants are those of one family."""
    rng = np.random.default_rng(seed)
    base = machine(chip.load(BASE))
    cores = rng.integers(8, 257, number).astype(float)
    clock = rng.uniform(0.5e9, 2.5e9, number)
    side = rng.choice([8.0, 16.0, 32.0, 64.0, 128.0], number)
    rate = 2.0 * cores * clock * side * side
    return replace(
        base,
        cores=cores,
        clock_hz=clock,
        array_macs=side * side,
        memory_bytes=rng.choice([8e9, 16e9, 24e9, 48e9, 80e9, 141e9], number),
        memory_bytes_per_s=rng.uniform(0.1e12, 8e12, number),
        shared_sram_bytes=rng.uniform(4e6, 256e6, number),
        scratchpad_bytes=rng.choice([65536.0, 131072.0, 262144.0, 524288.0], number),
        vector_ops_per_s=cores * clock * rng.choice([64.0, 128.0, 256.0], number),
        tdp_w=rng.uniform(25.0, 1200.0, number),
        link_bytes_per_s=rng.uniform(16e9, 900e9, number),
        peak={"bf16": rate, "fp16": rate, "fp8": 2.0 * rate, "int8": 2.0 * rate},
    )


def evaluate(machines: Machine, formats: Formats) -> Outputs:
    """All figures of all designs."""
    cost = service_cost(machines, MODELS[MODEL], LOAD, formats=formats)
    number = np.shape(machines.cores)

    def over_designs(values: object) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(values), number)

    return Outputs(
        first_token_s=over_designs(cost.time_to_first_token_s),
        next_token_s=over_designs(cost.time_per_output_token_s),
        latency_s=over_designs(cost.latency_s),
        energy_j=over_designs(cost.energy_j),
        memory_bytes=over_designs(cost.memory_bytes),
        fits=over_designs(cost.fits),
    )


MODELS = {MODEL: frontend.load(MODEL)}


def floor_per_s(block: int) -> float:
    """Additions of two arrays of a block a second, elements counted: what the same arrays allow at most."""
    a, b, out = np.ones(block), np.ones(block), np.empty(block)
    start = time.perf_counter()
    for _ in range(FLOOR_OPERATIONS):
        np.add(a, b, out=out)
    return FLOOR_OPERATIONS * block / (time.perf_counter() - start)


def measured(work: Callable[[], object], designs: int, repeats: int) -> list[float]:
    """Designs a second of each repeat, one to warm up not counted."""
    work()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        rates.append(designs / (time.perf_counter() - start))
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=int, default=4096, help="designs evaluated at once")
    parser.add_argument("--designs", type=int, default=65536, help="designs of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--atleast", type=float, default=50_000.0, help="designs a second of the slowest repeat")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # one core, whatever the libraries would start
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    blocks = [random_machines(options.block, seed) for seed in range(-(-options.designs // options.block))]
    designs = options.block * len(blocks)
    results = {}
    for name, formats in (("bf16", Formats()), ("fp8", Formats.parse("fp8", "fp8", "fp8"))):

        def all_blocks(formats: Formats = formats) -> int:
            return sum(int(evaluate(block, formats).fits.sum()) for block in blocks)

        rates = measured(all_blocks, designs, options.repeats)
        results[name] = {"median": float(np.median(rates)), "least": min(rates), "most": max(rates), "fit": all_blocks()}
    floor = floor_per_s(options.block)
    slowest = min(r["least"] for r in results.values())
    found = {
        "model": MODEL,
        "designs": designs,
        "block": options.block,
        "repeats": options.repeats,
        "designs_per_s": results,
        "array_operations_per_design": floor / results["bf16"]["median"],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "holds": slowest >= options.atleast,
    }
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{MODEL}, batch 8, 1024 + 128 tokens, {designs} designs in blocks of {options.block}, {options.repeats} repeats")
        for name, r in results.items():
            print(f"  {name:5s} {r['median']:9,.0f} designs/s (from {r['least']:,.0f} to {r['most']:,.0f}); {r['fit']} fit")
        print(f"  one design takes the time of {found['array_operations_per_design']:,.0f} additions of array elements")
        print(f"  peak memory {found['peak_memory_bytes'] / 1e6:,.0f} MB")
        print(f"  at least {options.atleast:,.0f} designs/s: {'yes' if found['holds'] else 'NO'}")
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
