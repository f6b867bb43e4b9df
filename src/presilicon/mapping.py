"""How the operators of a graph are shared by several chips: tensor, pipeline, expert and data parallelism.

``partition`` takes the graph of one pass and gives that of one chip, with the collectives between chips put in.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from presilicon.errors import ParallelismError
from presilicon.graph import (
    Attention,
    Collective,
    Elementwise,
    Embedding,
    ExpertMatmul,
    Graph,
    Matmul,
    Operator,
    Sampling,
    Size,
)


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Ways the chips share a model: ``tensor`` x ``pipeline`` x ``data`` chips.

    ``data`` replicas share nothing but a mixture's experts, which are spread over tensor x data chips, ``expert`` ways by
    expert and the rest by splitting each expert.
    """

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    data: int = 1

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65536:
                raise ParallelismError(f"{f.name} parallelism is {value!r}", hint="a whole number from 1")
        if (self.tensor * self.data) % self.expert:
            raise ParallelismError(
                f"expert parallelism {self.expert} does not divide tensor x data = {self.tensor} x {self.data} chips"
            )

    @property
    def chips(self) -> int:
        """Chips in all."""
        return self.tensor * self.pipeline * self.data

    def __str__(self) -> str:
        parts = [f"{f.name[0].upper()}P{getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) > 1]
        return "x".join(parts) or "1"


def _divided(value: Size, by: int, what: str, name: str) -> Size:
    array = np.asarray(value)
    if by > 1 and np.any(array % by):
        shown = int(array.flat[int(np.argmax(array % by != 0))])
        raise ParallelismError(f"{what} {shown} is not divided by {by}", where=name, hint=f"a parallelism that divides {shown}")
    return value / by if by > 1 else value


def _attention(op: Attention, tensor: int) -> Attention:
    if int(np.max(op.kv_heads)) % tensor and tensor % int(np.max(op.kv_heads)):
        raise ParallelismError(f"{op.kv_heads} key and value heads and tensor parallelism {tensor}", where=op.name,
                               hint="one divides the other")  # fmt: skip
    # Fewer key and value heads than chips: each chip keeps a copy of one.
    return replace(op, heads=_divided(op.heads, tensor, "heads", op.name), kv_heads=np.maximum(op.kv_heads / tensor, 1.0))


def _experts(op: ExpertMatmul, p: Parallelism, down: bool) -> ExpertMatmul:
    inner = p.tensor * p.data // p.expert
    experts = _divided(op.experts, p.expert, "experts", op.name)
    changed = replace(op, experts=experts, routed_share=op.routed_share / p.expert, tokens=op.tokens * p.data)
    if down:
        return replace(changed, k=_divided(op.k, inner, "inner width", op.name))
    return replace(changed, n=_divided(op.n, inner, "inner width", op.name))


def partition(graph: Graph, parallelism: Parallelism) -> Graph:
    """The graph of one chip's part (of the whole pipeline), collectives put in; the batch is that of one data replica.

    ParallelismError where heads, experts or widths do not divide.
    """
    p = parallelism
    if p.chips == p.pipeline:
        return graph
    tensor, spread = p.tensor, p.tensor * p.data
    shared: list[Operator] = []
    down = False
    operators = graph.operators
    for index, op in enumerate(operators):
        following = operators[index + 1] if index + 1 < len(operators) else None
        if isinstance(op, ExpertMatmul):
            if not down and p.data > 1:
                shared.append(_exchange(op, spread, "dispatch"))
            shared.append(_experts(op, p, down))
            if down:
                if p.data > 1:
                    shared.append(_exchange(op, spread, "combine"))
                else:
                    shared.append(_all_reduce(op, op.tokens * op.n * op.output.bytes_per_element, tensor))
            down = not down
        elif op.split == "experts" and isinstance(op, Elementwise):
            shared.append(replace(op, elements=op.elements / tensor))
        elif tensor == 1 or op.split == "none":
            if isinstance(op, Embedding) and tensor > 1 and op.held:
                shared.append(replace(op, table_rows=op.table_rows / tensor))
            else:
                shared.append(op)
        elif isinstance(op, Attention):
            shared.append(_attention(op, tensor))
        elif isinstance(op, Matmul):
            shared += _matmul(op, tensor, following)
        elif isinstance(op, Elementwise):
            shared.append(replace(op, elements=op.elements / tensor))
        else:
            shared.append(op)
    return graph.with_operators(tuple(o for o in shared if o is not None))


def _matmul(op: Matmul, tensor: int, following: Operator | None) -> list[Operator]:
    if op.split == "heads":
        return [replace(op, groups=_divided(op.groups, tensor, "heads", op.name))]
    if op.split == "input":
        part: Operator = replace(op, k=_divided(op.k, tensor, "inner width", op.name))
        if "shared_" in op.name:  # summed with the routed experts' result before that is reduced
            return [part]
        return [part, _all_reduce(op, op.m * op.n * op.output.bytes_per_element, tensor)]
    # Columns are padded up where they do not divide (a vocabulary).
    parts: list[Operator] = [replace(op, n=np.ceil(np.asarray(op.n) / tensor))]
    if isinstance(following, Sampling):
        parts.append(Collective(name=f"{op.name}_all_gather", count=op.count, collective="all_gather", chips=tensor,
                                message_bytes=op.m * op.n * 2.0))  # fmt: skip
    return parts


def _all_reduce(op: Operator, message_bytes: Size, chips: int) -> Operator:
    return Collective(
        name=f"{op.name}_all_reduce",
        count=op.count if chips > 1 else 0,
        collective="all_reduce",
        chips=chips,
        message_bytes=message_bytes,
    )


def _exchange(op: ExpertMatmul, chips: int, name: str) -> Operator:
    """Rows sent to the chips of their experts and back (message of one chip: its rows, once an expert)."""
    width = op.k if name == "dispatch" else op.n
    bytes_per_row = width * (op.activations if name == "dispatch" else op.output).bytes_per_element
    return Collective(name=f"{op.name}_{name}", count=op.count, collective="alltoall", chips=chips,
                      message_bytes=op.tokens * op.experts_per_token * bytes_per_row)  # fmt: skip


def unfused(graph: Graph) -> Graph:
    """The same pass with attention as three operators (scores, softmax, weighted sum) whose scores go through memory.

    What frameworks without a fused attention kernel run; every score is computed, those that causality drops too.
    """
    parts: list[Operator] = []
    for op in graph.operators:
        parts += _three(op) if isinstance(op, Attention) else [op]
    return graph.with_operators(tuple(parts))


def _three(op: Attention) -> list[Operator]:
    groups, scores = op.batch * op.heads, op.batch * op.heads * op.query_tokens * op.kv_tokens
    name, count, wide = op.name, op.count, op.activations
    return [
        Matmul(name=f"{name}_scores", count=count, m=op.query_tokens, k=op.head_dim, n=op.kv_tokens, groups=groups,
               weights=wide, activations=wide, source=wide, output=wide, has_weights=False),
        Elementwise(name=f"{name}_softmax", count=count, elements=scores, reads=1.0, writes=1.0, ops=5.0, activations=wide),
        Matmul(name=f"{name}_values", count=count, m=op.query_tokens, k=op.kv_tokens, n=op.value_dim, groups=groups,
               weights=wide, activations=wide, source=wide, output=wide, has_weights=False),
    ]  # fmt: skip
