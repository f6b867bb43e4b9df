"""The first place of each row's largest element; long rows in parts: they fill the vector unit and fit the scratchpad."""

from __future__ import annotations

import numpy as np

from presilicon.compiler.importing.graph import Node
from presilicon.compiler.lowering.builder import Builder, RefusedError
from presilicon.compiler.lowering.pending import Pending
from presilicon.compiler.lowering.rowwise_rules import last_axis
from presilicon.compiler.lowering.views import View
from presilicon.compiler.steps import Binding, Move, Rows, Tensor
from presilicon.compiler.vectors import (
    ONE,
    Column,
    Constant,
    Loop,
    Operand,
    Output,
    Scalar,
    Scalars,
    Stream,
    Value,
    VectorProgram,
    fused,
    minus,
    product,
)
from presilicon.template import GROUP

# Rows from so many columns on are cut, into up to so many parts.
LONG, MOST_PARTS = 1024, 64


def arg_max(b: Builder, node: Node) -> None:
    """The first place of each row's largest element."""
    rank = len(b.graph.shape(node.inputs[0]))
    if int(node.attributes.get("axis", 0)) not in (-1, rank - 1) or node.attributes.get("select_last_index", 0):
        raise RefusedError("only the first of the largest along the last axis is found")
    x, out = last_axis(b, node), node.outputs[0]
    if x.width != b.tensors[x.streams[0].tensor].columns:  # the program's results do not say how wide its rows are
        x = b.streamed(b.moved(node.inputs[0]))
    tensor = Tensor(b.free(out), x.rows, 1, "int32")
    parts = _parts(b, x)
    if parts > 1:
        _by_parts(b, node, x, parts, tensor)
    else:
        name = b.constant(f"{out}.places", -np.arange(x.width, dtype=np.float32))
        phases = _phases(x.operand, Column(name))
        program = VectorProgram(
            phases=(*phases, Scalars(((out, product(Scalar("place"), Constant(-1.0))),))),
            outputs=(Output(out, "int32", scalar=True),),
        )
        bound = (Binding(out, tensor.name),)
        b.step(
            Rows(name=b.free_step(out), program=program, streams=x.streams, columns=(Binding(name, name),), outputs=bound),
            node.sources,
        )
    b.written(out, "real", tensor)
    b.views[out] = View.plain(out, b.graph.shape(out))


def _phases(x: Operand, place: Operand) -> tuple[Loop, Loop]:
    """``largest``, and the largest ``place`` (counted downwards) of those that are as large."""
    held = Value("select", minus(x, Scalar("largest")), place, Constant(-np.inf))
    return Loop(maxima=(("largest", x),)), Loop(maxima=(("place", held),))


def _parts(b: Builder, x: Pending) -> int:
    """Parts that a row is cut into: the first number from a group of the vector unit on that divides it; 1 for short rows."""
    tensor = b.tensors[x.streams[0].tensor]
    plain = isinstance(x.operand, Stream) and tensor.dtype == "float32" and tensor.columns == x.width and tensor.rows == x.rows
    found = (parts for parts in range(GROUP, MOST_PARTS + 1) if x.width % parts == 0)
    return next(found, 1) if plain and x.width >= LONG else 1


def _by_parts(b: Builder, node: Node, x: Pending, parts: int, token: Tensor) -> None:
    """Each part's largest and its place, then the largest of these."""
    out, width = node.outputs[0], x.width // parts

    def tensor(name: str, rows: int, columns: int) -> str:
        made = Tensor(b.free(f"{out}.{name}"), rows, columns)
        b.tensors[made.name] = made
        return made.name

    def reshaped(name: str, source: str, rows: int, columns: int) -> str:
        made = tensor(name, rows, columns)
        shape = (rows * columns,)
        move = Move(name=b.free_step(made), source=source, out=made, shape=shape, strides=(1,), out_strides=(1,))
        b.step(move, node.sources)
        return made

    cut = reshaped("parts", x.streams[0].tensor, x.rows * parts, width)
    places = b.constant(f"{out}.places", -np.arange(width, dtype=np.float32))
    largest, place = tensor("largest", x.rows * parts, 1), tensor("place", x.rows * parts, 1)
    of_parts = Rows(
        name=b.free_step(f"{out}.of_parts"),
        program=VectorProgram(
            phases=_phases(Stream("x"), Column("places")),
            outputs=(Output("largest", scalar=True), Output("place", scalar=True)),
        ),
        streams=(Binding("x", cut),),
        columns=(Binding("places", places),),
        outputs=(Binding("largest", largest), Binding("place", place)),
    )
    b.step(of_parts, node.sources)
    firsts = b.constant(f"{out}.firsts", -np.arange(parts, dtype=np.float32) * width)
    own = reshaped("largest.rows", largest, x.rows, parts), reshaped("place.rows", place, x.rows, parts)
    phases = _phases(Stream("x"), fused(Stream("place"), ONE, Column("firsts")))
    of_all = Rows(
        name=b.free_step(out),
        program=VectorProgram(
            phases=(*phases, Scalars((("token", product(Scalar("place"), Constant(-1.0))),))),
            outputs=(Output("token", "int32", scalar=True),),
        ),
        streams=(Binding("x", own[0]), Binding("place", own[1])),
        columns=(Binding("firsts", firsts),),
        outputs=(Binding("token", token.name),),
    )
    b.step(of_all, node.sources)
