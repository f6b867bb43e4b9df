"""Random networks from their ONNX file through import, lowering and emission: all levels give the same bytes."""

from __future__ import annotations

import numpy as np
from emission_checks import SIZES, agrees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_nets import ENDS, KINDS, Plan, network

from levels import core
from presilicon import chip as chips
from presilicon.compiler.compiled import ChipPart, Compiled
from presilicon.compiler.emission import emit
from presilicon.compiler.lower import lower
from presilicon.session import LEVELS, Session

plans = st.builds(
    Plan,
    start=st.sampled_from(("x", "ids")),
    operators=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 999)), min_size=1, max_size=6).map(tuple),
    end=st.sampled_from(ENDS),
    tokens=st.integers(1, 12),
    width=st.integers(4, 40),
    seed=st.integers(0, 1000),
)
small = st.builds(
    Plan,
    start=st.sampled_from(("x", "ids")),
    operators=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99)), min_size=1, max_size=4).map(tuple),
    end=st.sampled_from(ENDS),
    tokens=st.integers(1, 6),
    width=st.integers(4, 12),
    seed=st.integers(0, 1000),
)
fixed = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


@settings(fixed, max_examples=270)
@given(plan=plans, size=st.sampled_from(sorted(SIZES)), weights=st.sampled_from(("int8", "int8", "int4")))
def test_simulator_and_reference_agree(plan: Plan, size: str, weights: str) -> None:
    net, output, calibration, _ = network(plan)
    model = lower(net.source(output), calibration=calibration, weights=weights, group=8)  # type: ignore[arg-type]
    agrees(model.lowered, SIZES[size], plan.seed)


@settings(fixed, max_examples=30)
@given(plan=small, weights=st.sampled_from(("int8", "int4")))
def test_the_hardware_agrees_in_every_byte_and_cycle(plan: Plan, weights: str) -> None:
    net, output, calibration, inputs = network(plan)
    model = lower(net.source(output), calibration=calibration, weights=weights, group=8)  # type: ignore[arg-type]
    made = emit(model.lowered, core("core-4x4"))
    ports = {"inputs": model.inputs, "outputs": model.outputs}
    part = ChipPart(lowered=model.lowered, programs=made.programs, step_of=made.step_of, **ports)
    compiled = Compiled(name="net", chip=chips.load("core-4x4"), parts=(part,), **ports)
    results = []
    for level in LEVELS:
        with Session(compiled, level) as session:
            results.append(session.run(inputs))
    for result in results[1:]:
        assert all(np.array_equal(result.outputs[name], array) for name, array in results[0].outputs.items())
    assert results[1].cycles == results[2].cycles
