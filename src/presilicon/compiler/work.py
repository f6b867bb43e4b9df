"""How much a step computes: multiply-accumulates that its result needs, whatever the array pads them to."""

from __future__ import annotations

from collections.abc import Mapping

from presilicon.compiler.steps import Attention, Convolution, Lowered, Product, Step


def macs(lowered: Lowered, step: Step, arguments: Mapping[str, int] | None = None) -> int:
    """MACs of a step; runtime arguments that are not given have their largest values."""
    known = {**lowered.arguments, **(arguments or {})}
    match step:
        case Product():
            return lowered.tensors[step.x].rows * int(lowered.constants[step.weights].size)
        case Convolution():
            height, width = step.out_size
            taps = step.kernel[0] * step.kernel[1] * step.channels // step.groups
            return step.batch * height * width * taps * step.out_channels
        case Attention():
            tokens = lowered.tensors[step.q].rows // step.batch
            keys = lowered.tensors[step.k].rows // step.batch
            pairs = tokens * (known[step.length] if step.length else keys)
            if step.causal:
                first = known[step.position] if step.position else 0
                pairs = sum(min(keys, first + 1 + i) for i in range(tokens))
            return step.batch * step.heads * pairs * 2 * step.dim
        case _:
            return 0
