"""Steps while they are made: where each value lies, what is still pending, and in which forms matrices are written.

A value of the graph is a `View` over a base: a matrix that one step writes. A base is pending until something needs it as a
matrix; then it is emitted in all the forms that its readers take: fp32, int8 with a zero point (``moving``: what products and
convolutions multiply), int8 symmetric by column (``stationary``: what attention multiplies).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from presilicon.compiler.calibrate import Ranges
from presilicon.compiler.importing.graph import Array, FloatGraph, Node
from presilicon.compiler.lowering.pending import MOST_STREAMS, Floats, Pending
from presilicon.compiler.lowering.quantise import Scale, asymmetric, symmetric
from presilicon.compiler.lowering.views import Atom, View, indexed
from presilicon.compiler.steps import Binding, Move, Rows, Step, Tensor
from presilicon.compiler.vectors import Constant, Operand, Output, Stream, fused, product

Form = Literal["real", "moving", "stationary"]
_SUFFIX: Mapping[Form, str] = {"real": "", "moving": ".moving", "stationary": ".stationary"}

# What only indexes anew: readers of its result read what it reads.
VIEWS = frozenset({"Reshape", "Transpose", "Slice", "Expand"})
_MOVING = frozenset({"Linear", "Conv"})
_ONE = Atom(1, 1)


class RefusedError(Exception):
    """A node that the chip cannot do, with the reason in one sentence."""


@dataclass
class Builder:
    """The model so far. ``roles``: inputs that are runtime arguments, by their argument; ``pairs``: bases whose columns are
    reordered so that the halves of each ``dim`` stand beside each other.
    """  # fmt: skip

    raw: FloatGraph
    graph: FloatGraph
    ranges: Ranges
    roles: Mapping[str, str]
    arguments: Mapping[str, int]
    weights: str = "int8"
    group: int = 128
    views: dict[str, View] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    forms: dict[tuple[str, Form], str] = field(default_factory=dict)
    scales: dict[tuple[str, Form], Floats] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    origin: dict[str, tuple[str, ...]] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)
    paired: set[str] = field(default_factory=set)
    turned: dict[tuple[str, str], tuple[Binding, int]] = field(default_factory=dict)

    # Values -----------------------------------------------------------------------------------------------------------

    def view(self, name: str) -> View:
        """Where a value lies; RefusedError where it is none that a step makes."""
        if name not in self.views:
            raise RefusedError(f"it reads {name}, which the chip does not compute")
        return self.views[name]

    def defined(self, node: Node, pending: Pending, view: View | None = None) -> None:
        """A node's result as a pending matrix; its elements lie as the shape has them, or as ``view`` says."""
        name = node.outputs[0]
        self.pending[name] = pending
        self.sizes[name] = (pending.rows, pending.width)
        self.views[name] = view or View.plain(name, self.graph.shape(name))

    def written(self, name: str, form: Form, tensor: Tensor, scale: Floats | None = None) -> None:
        """A base that a step has written as a tensor in a form."""
        self.tensors[tensor.name] = tensor
        self.forms[name, form] = tensor.name
        self.sizes.setdefault(name, (tensor.rows, tensor.columns))
        if scale is not None:
            self.scales[name, form] = scale

    def step(self, step: Step, sources: Iterable[str]) -> None:
        """One more step, with the nodes that it comes from."""
        self.steps.append(step)
        self.origin[step.name] = tuple(dict.fromkeys(sources))

    def free(self, name: str) -> str:
        """A name like this that no step, tensor or constant has."""
        taken = {*self.tensors, *self.constants, *self.origin}
        found, number = name, 1
        while found in taken:
            number += 1
            found = f"{name}.{number}"
        return found

    def constant(self, name: str, array: Array) -> str:
        """A new constant."""
        name = self.free(name)
        self.constants[name] = array
        return name

    # Readers ----------------------------------------------------------------------------------------------------------

    def readers(self, name: str) -> list[tuple[Node, int, str]]:
        """Who reads a value, itself or indexed anew: node, place among its inputs, the value that it reads."""
        found: list[tuple[Node, int, str]] = []
        for node in self.graph.readers.get(name, ()):
            for place, read in enumerate(node.inputs):
                if read != name:
                    continue
                if (node.op in VIEWS and place == 0) or node.op == "Cached" or self.multiplied_alone(node):
                    found += self.readers(node.outputs[0])
                else:
                    found.append((node, place, name))
        return found

    def multiplied_alone(self, node: Node) -> bool:
        """Whether a node picks among its input's elements (the largest of windows) and its result is multiplied alone.

        Then it goes over levels as well: the order of levels is that of numbers.
        """
        return node.op == "MaxPool" and self.wanted(node.outputs[0]) == ["moving"]

    def returned(self, name: str) -> bool:
        """Whether a value, itself or indexed anew, is an output."""
        if any(value == name for _, value in self.graph.outputs):
            return True
        return any(node.op in VIEWS and self.returned(node.outputs[0]) for node in self.graph.readers.get(name, ()))

    def wanted(self, base: str) -> list[Form]:
        """The forms that the readers of a base take."""
        found: dict[Form, None] = {}
        for node, place, _ in self.readers(base):
            if node.op in _MOVING and place == 0:
                found["moving"] = None
                if node.attributes.get("fine"):
                    found["real"] = None
            elif node.op == "Attention" and place < 3:
                found["stationary"] = None
            else:
                found["real"] = None
        if self.returned(base):
            found["real"] = None
        return sorted(found, key=list(_SUFFIX).index) or ["real"]

    # Scales -----------------------------------------------------------------------------------------------------------

    def range(self, names: Iterable[str]) -> tuple[float, float]:
        """Lowest and highest over values; RefusedError where none of them was measured."""
        known = [ends for name in names if (ends := self.given_range(name) or self.ranges.get(name)) is not None]
        if not known:
            raise RefusedError("its input has no range")
        return min(low for low, _ in known), max(high for _, high in known)

    def given_range(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest that the file's own levels of a value reach; None where it does not quantise the value."""
        if name not in self.graph.given:
            return None
        scale, zero_point = self.graph.given[name]
        return scale * (-128 - zero_point), scale * (127 - zero_point)

    def moving_scale(self, base: str) -> Scale:
        """Scale and zero point of a base where it is multiplied: the file's, or by its range."""
        read = [name for node, place, name in self.readers(base) if node.op in _MOVING and place == 0]
        for name in (*read, base):
            if name in self.graph.given:
                return Scale(*self.graph.given[name])
        return asymmetric(*self.range(read or [base]))

    def stationary_scale(self, base: str) -> Floats:
        """The scale of each column of a base that attention multiplies: that of the part it belongs to."""
        columns = self.sizes[base][1]
        scale = np.zeros(columns, np.float32)
        for node, place, name in self.readers(base):
            if node.op != "Attention" or place > 2:
                continue
            at = self.columns_of(name, base)
            one = symmetric(*self.range([name if name in self.ranges or name in self.graph.given else base])).scale
            scale[at[0] : at[0] + at[1]] = np.maximum(scale[at[0] : at[0] + at[1]], np.float32(one))
        return np.where(scale > 0, scale, np.float32(1)).astype(np.float32)

    def columns_of(self, name: str, base: str) -> tuple[int, int]:
        """First column and width of a value in its base; the whole base where it is no range of columns."""
        path = self._path(name, base)
        rows, columns = self.sizes[base]
        found = path.matrix(rows, columns) if path is not None else None
        return found or (0, columns)

    def _path(self, name: str, base: str) -> View | None:
        """The view of a value that nodes not yet lowered will index out of a base."""
        if name in self.views:
            return self.views[name] if self.views[name].base == base else None
        node = self.graph.makers[name]
        inner = self._path(node.inputs[0], base) if node.op in VIEWS else None
        return None if inner is None else indexed(self.graph, node, inner)

    # Forms ------------------------------------------------------------------------------------------------------------

    def tensor(self, base: str, form: Form) -> str:
        """The tensor of a base in a form, emitted or converted where it is not there yet."""
        if (base, form) not in self.forms and base in self.pending:
            self.emit(base)
        if (base, form) not in self.forms:
            self._converted(base, form)
        return self.forms[base, form]

    def scale(self, base: str) -> Scale:
        """Scale and zero point of a base in its moving form."""
        tensor = self.tensors[self.tensor(base, "moving")]
        return Scale(tensor.scale, tensor.zero_point)

    def emit(self, base: str) -> None:
        """The step of a pending base, in as many of its wanted forms as one program can write; the others from fp32."""
        pending, forms = self.pending.pop(base), self.wanted(base)
        if len(forms) > self._room(pending, forms):
            forms = ["real"]
        made: list[tuple[Output, Operand]] = []
        bindings: list[Binding] = []
        for form in forms:
            name = self._tensor(base, form, pending.rows, pending.width)
            tensor = self.tensors[name]
            given = pending
            if form != "real":
                given = self._quantised(pending, base, form, alone=len(forms) == 1)
            if len(forms) == 1:
                pending = given
            dtype: Literal["float32", "int8"] = "float32" if form == "real" else "int8"
            made.append((Output(name, dtype, tensor.zero_point), given.operand))
            bindings.append(Binding(name, name))
        program = pending.program(tuple(made))
        for name, array in pending.arrays.items():
            self.constants[name] = array
        step_name = self.free_step(base)
        if pending.root is not None:
            step = pending.root(step_name, program, pending.streams, pending.columns, tuple(bindings))
        else:
            step = Rows(name=step_name, program=program, streams=pending.streams, columns=pending.columns,
                        outputs=tuple(bindings), valid=pending.valid)  # fmt: skip
        self.step(step, pending.sources)

    def _room(self, pending: Pending, forms: list[Form]) -> int:
        """Outputs that there are streams for; one in fp32 takes the place of an fp32 stream that is read for the last time."""
        replaced = "real" in forms and any(
            b.tensor in self.tensors and self.tensors[b.tensor].dtype == "float32" and not b.row for b in pending.streams
        )
        return MOST_STREAMS - pending.bound + int(replaced)

    def free_step(self, name: str) -> str:
        """A step's name."""
        found, number = name, 1
        while found in self.origin:
            number += 1
            found = f"{name}.{number}"
        return found

    def _tensor(self, base: str, form: Form, rows: int, width: int) -> str:
        name = self.free(base + _SUFFIX[form])
        if form == "real":
            self.written(base, form, Tensor(name, rows, width))
        elif form == "moving":
            scale = self.moving_scale(base)
            self.written(base, form, Tensor(name, rows, width, "int8", scale.scale, scale.zero_point))
        else:
            scales = self.stationary_scale(base)
            uniform = float(scales[0]) if bool((scales == scales[0]).all()) else 1.0
            self.written(base, form, Tensor(name, rows, width, "int8", uniform), scales)
        return name

    def _quantised(self, pending: Pending, base: str, form: Form, alone: bool) -> Pending:
        """The pending value in units of a form's levels; ``alone``: nothing else of the program reads its expression."""
        if form == "moving":
            factor: float | Floats = 1.0 / self.tensors[self.forms[base, form]].scale
        else:
            scales = self.scales[base, form].astype(np.float64)
            factor = float(1 / scales[0]) if bool((scales == scales[0]).all()) else (1 / scales).astype(np.float32)
        if alone:
            return pending.scaled(factor, self.free(f"{base}.levels"))
        if np.ndim(factor) == 0:
            return pending.of(product(pending.operand, Constant(float(factor))))
        raise RefusedError("its columns differ in scale and something else reads them in fp32")

    def _converted(self, base: str, form: Form) -> None:
        """A form from one that is there, by a step of its own."""
        rows, width = self.sizes[base]
        if form != "real" and (base, "real") not in self.forms:
            self._converted(base, "real")
        pending = self._from_int8(base) if form == "real" else self.streamed(base)
        name = self._tensor(base, form, rows, width)
        given = pending if form == "real" else self._quantised(pending, base, form, alone=True)
        tensor = self.tensors[name]
        dtype: Literal["float32", "int8"] = "float32" if form == "real" else "int8"
        for key, array in given.arrays.items():
            self.constants[key] = array
        program = given.program(((Output(name, dtype, tensor.zero_point), given.operand),))
        own = self.free_step(f"{base}{_SUFFIX[form] or '.real'}")
        self.step(Rows(name=own, program=program, streams=given.streams, columns=given.columns, outputs=(Binding(name, name),)),
                  self._sources_of(base))  # fmt: skip

    def _sources_of(self, base: str) -> tuple[str, ...]:
        maker = self.graph.makers.get(base)
        return maker.sources if maker is not None else ()

    def _from_int8(self, base: str) -> Pending:
        """What an int8 form stands for."""
        rows, width = self.sizes[base]
        form: Form = "moving" if (base, "moving") in self.forms else "stationary"
        if (base, form) not in self.forms:
            raise RefusedError(f"{base} is nowhere written")
        name = self.forms[base, form]
        tensor = self.tensors[name]
        stream = (Binding(name, name),)
        if form == "moving":
            operand = fused(Stream(name), Constant(tensor.scale), Constant(-tensor.scale * tensor.zero_point))
            return Pending(operand=operand, rows=rows, width=width, sources=(), streams=stream)
        plain = Pending(operand=Stream(name), rows=rows, width=width, sources=(), streams=stream)
        more, column = plain.with_column(self.free(f"{base}.scale"), self.scales[base, form])
        return more.of(product(Stream(name), column))

    # Reading ----------------------------------------------------------------------------------------------------------

    def streamed(self, base: str, column: int = 0, width: int | None = None) -> Pending:
        """A base (or some of its columns) as a stream of fp32."""
        name = self.tensor(base, "real")
        rows, columns = self.sizes[base]
        key = name if not column else f"{name}@{column}"
        return Pending(
            operand=Stream(key), rows=rows, width=width or columns, sources=(), streams=(Binding(key, name, column),)
        )

    def taken(self, name: str, reader: Node) -> Pending:
        """A value's expression where only ``reader`` reads it and it is a whole base; else its stream."""
        view = self.view(name)
        rows, columns = self.sizes[view.base]
        at = view.matrix(rows, columns)
        if at is None:
            return self.streamed(self.moved(name))
        alone = [node.name for node, _, _ in self.readers(view.base)] == [reader.name] and not self.returned(view.base)
        if view.base in self.pending and at == (0, columns) and alone:
            return self.pending.pop(view.base)
        return self.streamed(view.base, *at)

    def settled(self, name: str, pending: Pending) -> Pending:
        """A pending value that was taken, written to memory after all and read as a stream."""
        base = self.view(name).base
        self.pending[base] = pending
        return self.streamed(base)

    def arranged(self, key: str, view: View, rows: int, columns: int, form: Form) -> str:
        """A base (rows, columns) of its own for a view's elements in its order."""
        if (key, form) not in self.forms:
            source = self.tensors[self.tensor(view.base, form)]
            scales = self.scales.get((view.base, form))
            if scales is not None and not bool((scales == scales[0]).all()):
                raise RefusedError("its columns differ in scale and are arranged anew")
            made = Tensor(self.free(key + _SUFFIX[form]), rows, columns, source.dtype, source.scale, source.zero_point)
            self.copied(view, source.name, made, self._sources_of(view.base))
            self.written(key, form, made, None if scales is None else np.full(columns, scales[0], np.float32))
            self.views[key] = View.plain(key, (rows, columns))
        return key

    def moved(self, name: str, form: Form = "real") -> str:
        """A base of its own for a value that is indexed out of another: its elements copied into the order of its shape."""
        shape = self.graph.shape(name)
        rows, columns = int(np.prod(shape[:-1])), int(shape[-1]) if shape else 1
        copy = self.arranged(f"{name}.copy", self.view(name), rows, columns, form)
        self.views[copy] = View.plain(copy, shape)
        return copy

    def copied(self, view: View, source: str, out: Tensor, sources: Iterable[str], at: int = 0) -> None:
        """Moves that put a view's elements one behind the other into ``out`` from element ``at`` on."""
        atoms = view.flat() or (_ONE,)
        if len(atoms) > 4:
            raise RefusedError(f"its elements lie along {len(atoms)} axes, and a copy follows at most four")
        sizes = tuple(atom.size for atom in atoms)
        out_strides = outer_strides(sizes)
        self.tensors[out.name] = out
        self.step(
            Move(name=self.free_step(out.name if not at else f"{out.name}.{at}"), source=source, out=out.name, shape=sizes,
                 strides=tuple(atom.stride for atom in atoms), out_strides=out_strides, start=view.offset, out_start=at),
            sources,
        )  # fmt: skip

    def part_copied(self, name: str, out: Tensor, node: Node, period: int, run: int, at: int) -> None:
        """A value's elements put into ``out`` in runs of ``run`` elements, one each ``period``, from element ``at`` on."""
        if name in self.graph.constants:
            flat_array = np.ascontiguousarray(self.graph.constants[name], np.float32).reshape(-1, run)
            held = self.constant(f"{out.name}.{at}.constant", flat_array)
            move = Move(name=self.free_step(f"{out.name}.{at}"), source=held, out=out.name, shape=flat_array.shape,
                        strides=(run, 1), out_strides=(period, 1), out_start=at)  # fmt: skip
            self.step(move, node.sources)
            return
        view = self.view(name)
        source = self.tensor(view.base, "real")
        flat = View.plain(view.base, (int(np.prod(self.graph.shape(name))) // run, run))
        whole = view.flat()
        if len(whole) > 1 or (whole and whole[0].stride != 1):
            copy = self.moved(name)
            source, flat = self.tensor(copy, "real"), View.plain(copy, flat.shape)
        start = view.offset if source == self.forms.get((view.base, "real")) else 0
        sizes = flat.shape
        self.step(
            Move(name=self.free_step(f"{out.name}.{at}"), source=source, out=out.name, shape=sizes, strides=(run, 1),
                 out_strides=(period, 1), start=start, out_start=at),
            node.sources,
        )  # fmt: skip


def outer_strides(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of elements one behind the other."""
    return tuple(int(s) for s in np.cumprod([1, *reversed(sizes)])[:-1][::-1])
