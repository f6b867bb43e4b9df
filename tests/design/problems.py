"""Searches that the tests run: small, so that every design of their space can be evaluated."""

from dataclasses import replace
from typing import Any

from presilicon import design, frontend
from presilicon.design import Problem

SMALL = {
    "cores": [4.0, 8.0, 16.0, 32.0, 64.0],
    "array": [32.0, 64.0],
    "vector_lanes": [64.0, 128.0],
    "scratchpad_bytes": [131072.0, 1048576.0],
    "shared_sram_bytes": [8388608.0],
    "clock_hz": [0.8e9, 1.2e9, 1.6e9],
    "memory": ["LPDDR5X", "GDDR7", "HBM3E"],
    "stacks": [1.0, 2.0, 4.0, 8.0],
    "link_bytes_per_s": [64e9],
    "power_share": [0.2, 0.3, 0.6],
    "batch": [1.0, 4.0, 16.0, 64.0, 128.0],
}


def narrowed(problem: Problem, values: dict[str, list[Any]]) -> Problem:
    space = problem.space
    for name, given in values.items():
        space = space.only(name, given)
    return replace(problem, space=space)


def small(model: str = "llama-3.1-8b", **options: Any) -> Problem:
    """A search over some 20,000 designs."""
    asked = {"node": "n5", "chips": 1, "max_power_w": 300.0} | options
    return narrowed(design.problem(frontend.load(model), **asked), SMALL | {"formats": ["bf16+fp8"]})


def template(**options: Any) -> Problem:
    """A search over chips of the template for an encoder of 32 tokens."""
    model = frontend.load("all-MiniLM-L6-v2")
    return design.problem(model, space="template", objective="latency", node="n7", input_tokens=32, **options)
