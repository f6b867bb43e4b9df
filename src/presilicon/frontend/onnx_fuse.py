"""What a compiler would join: attention written out as matmuls, biases, batch norms, and elementwise work in epilogues.

Fusing removes memory traffic only. Multiply-accumulates and parameters are the same before and after.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace

from presilicon.frontend.network import SharedConvolution, SharedMatmul
from presilicon.frontend.onnx_matrix import Books
from presilicon.frontend.onnx_operators import EPILOGUE, operators_of
from presilicon.frontend.onnx_values import FLOATS, Step, Value, words
from presilicon.graph import Attention, Convolution, Elementwise, Embedding, Matmul, Operator

_BETWEEN = frozenset(words("Mul Div Add Sub Where Cast Max Min Clip"))
_MOST_BETWEEN = 12
_LONGEST_EPILOGUE = 32


def operators(steps: Sequence[Step], returned: Sequence[Value]) -> tuple[Operator, ...]:
    """The operators of all ``steps``, joined where a compiler would; ``returned`` values must reach memory."""
    books = Books()
    for step in steps:
        step.operators = operators_of(step, books)
    _share(books)
    uses = _Uses(steps, returned)
    for step in steps:
        if step.op == "Softmax":
            _join_attention(step, uses)
    for step in steps:
        _join_bias(step, uses)
    _Epilogues(steps, uses).join()
    return tuple(o for step in steps for operator in step.operators for o in repeated(operator, step.times))


def _share(books: Books) -> None:
    """Parameters of several operators are held once: among matmuls equally, by a matmul rather than by a look-up."""
    for users in books.users.values():
        for step in users if len(users) > 1 else ():
            step.operators = [_divided(o, len(users)) for o in step.operators]
    for origin, steps in books.tables.items():
        for step in steps if origin in books.users else steps[1:]:
            step.operators = [replace(o, held=False) if isinstance(o, Embedding) else o for o in step.operators]


def _divided(operator: Operator, sharers: int) -> Operator:
    """``operator`` as one of ``sharers`` of the same parameters, where it holds any."""
    if isinstance(operator, SharedMatmul | SharedConvolution):
        return replace(operator, sharers=operator.sharers * sharers)
    if isinstance(operator, Matmul) and operator.has_weights:
        return _shared(operator, SharedMatmul, operator.count, sharers)
    if isinstance(operator, Convolution):
        return _shared(operator, SharedConvolution, operator.count, sharers)
    return operator


def repeated(operator: Operator, times: int) -> list[Operator]:
    """``operator`` done ``times`` times in a loop, its parameters held once; none where that is never."""
    if times == 1:
        return [operator]
    if times < 1:
        return []
    count = operator.count * times
    if isinstance(operator, Matmul | Convolution):
        return [replace(_divided(operator, times), count=count)]
    if isinstance(operator, Elementwise):
        return [replace(operator, count=count, parameters=operator.parameters / times)]
    if isinstance(operator, Embedding) and operator.held:
        return [operator, replace(operator, count=count - operator.count, held=False)]
    return [replace(operator, count=count)]


def _shared(operator: Operator, kind: type[SharedMatmul] | type[SharedConvolution], count: int, sharers: int) -> Operator:
    given = {f.name: getattr(operator, f.name) for f in fields(operator)} | {"count": count, "sharers": sharers}
    return kind(**given)


class _Uses:
    """Who makes and who reads each buffer."""

    def __init__(self, steps: Sequence[Step], returned: Sequence[Value]) -> None:
        self.maker: dict[int, Step] = {}
        self.readers: dict[int, list[Step]] = defaultdict(list)
        self.returned = {v.buffer for v in returned}
        for step in steps:
            for v in {v.buffer: v for v in step.inputs if v is not None}.values():
                self.readers[v.buffer].append(step)
            for out in step.outputs:
                if out is not None:
                    self.maker[out.buffer] = step

    def times(self, v: Value) -> int:
        """How often ``v`` is made."""
        maker = self.maker.get(v.buffer)
        return maker.times if maker else 1

    def only_reader(self, v: Value) -> Step | None:
        """The one step that reads ``v``, if nothing else needs it."""
        readers = self.readers[v.buffer]
        return readers[0] if len(readers) == 1 and v.buffer not in self.returned else None


def _dynamic_matmul(step: Step | None) -> bool:
    return step is not None and len(step.operators) == 1 and isinstance(step.operators[0], Matmul) and not any(
        v.stored for v in step.inputs[:2] if v is not None
    )  # fmt: skip


def _join_attention(softmax: Step, uses: _Uses) -> None:
    """Q K^T, at most a dozen elementwise operators, softmax, V: one Attention in place of the last matmul."""
    scores = softmax.out
    if len(scores.shape) < 3 or softmax.integer("axis", -1) not in (-1, len(scores.shape) - 1):
        return
    between: list[Step] = []
    step: Step | None = uses.maker.get(softmax.need(0).buffer)
    v = softmax.need(0)
    while step is not None and not _dynamic_matmul(step):
        if (
            step.op not in _BETWEEN
            or len(between) > _MOST_BETWEEN
            or uses.only_reader(v) is None
            or step.out.shape != scores.shape
        ):
            return
        between.append(step)
        paths = [i for i in step.moving if i.shape == scores.shape and i.buffer in uses.maker]
        if len(paths) != 1:
            return
        v = paths[0]
        step = uses.maker[v.buffer]
    if step is None or uses.only_reader(v) is None or v.shape != scores.shape:
        return
    first, out = step, scores
    last = uses.only_reader(out)
    while last is not None and last.op in _BETWEEN and last.out.shape == scores.shape and len(between) <= _MOST_BETWEEN:
        between.append(last)
        out = last.out
        last = uses.only_reader(out)
    if last is None or not _dynamic_matmul(last) or last.need(0).buffer != out.buffer or last.times != first.times:
        return
    a, b = first.operators[0], last.operators[0]
    if not isinstance(a, Matmul) or not isinstance(b, Matmul) or last.need(0).shape != scores.shape:
        return
    front, (q, kv) = scores.shape[:-2], scores.shape[-2:]
    if a.groups * a.m != math.prod(front) * q or a.groups != b.groups or a.n != kv or b.k != kv or a.groups != math.prod(front):
        return
    if {len(i.shape) for s in (first, last) for i in s.inputs[:2] if i is not None} != {len(scores.shape)}:
        return
    batch, heads = (math.prod(front[:-1]), front[-1]) if len(front) > 1 else (front[0], 1)
    last.operators = [
        Attention(name=softmax.name, split="heads", batch=batch, query_tokens=q, kv_tokens=kv, heads=heads, kv_heads=heads,
                  head_dim=a.k, value_dim=b.n, causal=False, cached=False, activations=a.activations, kv_cache=a.activations)
    ]  # fmt: skip
    for gone in (first, softmax, *between):
        gone.operators = []


def _join_bias(step: Step, uses: _Uses) -> None:
    """The vector added to a matmul becomes its bias; a batch norm's shift becomes the convolution's."""
    if not step.operators or not step.outputs or step.outputs[0] is None:
        return
    root, reader = step.operators[-1], uses.only_reader(step.out)
    if (
        reader is None
        or reader.times != step.times
        or len(reader.operators) != 1
        or not isinstance(reader.operators[0], Elementwise)
    ):
        return
    held = reader.operators[0]
    if isinstance(root, Convolution) and reader.op == "BatchNormalization" and reader.need(0).buffer == step.out.buffer:
        channels = root.out_channels
        if held.parameters == 2 * channels:
            step.operators[-1] = replace(root, bias=True)
            reader.operators = [replace(held, ops=1.0, parameters=channels)]
    elif isinstance(root, Matmul) and root.has_weights and not root.bias and reader.op == "Add" and root.groups == 1:
        vectors = [v for v in reader.inputs if v is not None and v.stored]
        known = held.parameters or isinstance(root, SharedMatmul)  # a shared bias comes with shared weights
        if known and len(vectors) == 1 and vectors[0].shape[-1:] == (root.n,) and vectors[0].elements == root.n:
            step.operators[-1] = replace(root, bias=True)
            reader.operators = []


class _Epilogues:
    """Marks elementwise operators as fused that a matrix unit's epilogue can do before the result goes to memory.

    From every matrix operator a region grows: elementwise work on its result alone, with as many elements. It is fused
    as far as one value only leaves it. Work on two results (a residual) goes with the one that nothing else reads.
    """

    def __init__(self, steps: Sequence[Step], uses: _Uses) -> None:
        self._steps, self._uses = steps, uses
        self._root: dict[int, Value] = {}
        self._regions: dict[int, list[Step]] = defaultdict(list)
        self._carrier: dict[int, Step] = {}

    def join(self) -> None:
        roots: list[tuple[Value, Step | None, Value | None]] = []
        for step in self._steps:
            out = step.outputs[0] if step.outputs else None
            if out is None:
                continue
            if step.operators and isinstance(step.operators[0], Matmul | Convolution | Attention):
                self._carrier[out.buffer] = step
                self._root[out.buffer] = out
                roots.append((out, None, None))
            elif step.op in EPILOGUE:
                joined = self._grow(step, out)
                if joined is not None:
                    roots.append((out, step, joined))
        fused: dict[int, Value] = {}  # buffer a fused chain ends in -> its first result
        for root, adder, joined in roots:
            if adder is not None:
                if joined is None or joined.buffer not in fused:
                    continue
                self._carrier[root.buffer] = self._carrier[fused.pop(joined.buffer).buffer]
                _mark(adder)
            end = self._fuse(root)
            fused[end.buffer] = root
        for end_buffer, root in fused.items():
            maker = self._uses.maker.get(end_buffer)
            if maker is not None:
                _write_as(self._carrier[root.buffer], maker)

    def _grow(self, step: Step, out: Value) -> Value | None:
        """Puts ``step`` into a region; where it joins two, the value it would be fused with (a region of its own follows)."""
        moving = [v for v in step.moving if self._uses.times(v) == step.times]
        if len(moving) != len(list(step.moving)):  # a loop lies between
            return None
        roots = {self._root[v.buffer].buffer if v.buffer in self._root else 0 for v in moving}
        if len(roots) == 1 and 0 not in roots:
            root = self._root[moving[0].buffer]
            room = len(self._regions[root.buffer]) < _LONGEST_EPILOGUE
            if room and root.elements == out.elements and all(v.elements == out.elements for v in moving):
                self._root[out.buffer] = root
                self._regions[root.buffer].append(step)
                return None
        ready = [v for v in moving if v.buffer in self._root and v.elements == out.elements
                 and self._uses.only_reader(v) is step]  # fmt: skip
        if not ready:
            return None
        self._root[out.buffer] = out
        return max(ready, key=lambda v: v.buffer)

    def _fuse(self, root: Value) -> Value:
        """Marks the longest start of a region that one value alone leaves, and returns that value."""
        region = self._regions[root.buffer]
        for length in range(len(region), -1, -1):
            inside = {id(step) for step in region[:length]}
            leaving = [v for v in (root, *(step.out for step in region[:length])) if self._leaves(v, inside)]
            if len(leaving) == 1:
                for step in region[:length]:
                    _mark(step)
                return leaving[0]
        return root

    def _leaves(self, v: Value, inside: set[int]) -> bool:
        readers = self._uses.readers[v.buffer]
        return v.buffer in self._uses.returned or not readers or any(id(r) not in inside for r in readers)


def _mark(step: Step) -> None:
    step.operators = [replace(o, fused=True) if isinstance(o, Elementwise) else o for o in step.operators]


def _write_as(carrier: Step, maker: Step) -> None:
    """The matrix operator writes what its epilogue ends in: a quantised result in its integer format."""
    end = maker.outputs[0]
    root = carrier.operators[0]
    if end is None or not isinstance(root, Matmul | Convolution):
        return
    if end.format not in FLOATS or root.output not in FLOATS:
        carrier.operators[0] = replace(root, output=end.format)
