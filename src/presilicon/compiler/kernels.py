"""Vector programs as kernels: values get registers, constants and column parameters are made ready, sums get their tree.

A kernel is compiled for any number of strips, with loops over them, or for the few strips of one block of columns, unrolled,
its column parameters in registers for all groups. What it computes is ``vectors.evaluate``, bit for bit, on every core.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from presilicon.compiler.kernel_operations import COLUMNS, IMM, ONE, SWAP, Operations, Taken, bits
from presilicon.compiler.kernel_registers import allocated
from presilicon.compiler.vectors import Loop, Operand, Output, Scalars, Stream, Swapped, Value, VectorProgram
from presilicon.errors import CheckError
from presilicon.isa import Instruction, Slot, Uop, vector
from presilicon.isa.kernels import group_count
from presilicon.isa.uop import sections
from presilicon.template import Core

STREAMS = 4
# Strips that an offset reaches.
REACH = 8
_FORMAT = {"float32": "fp32", "int8": "int8", "int32": "int32"}
Where = Mapping[str, tuple[Any, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKernel:
    """A vector program's micro-operations and what the instruction must know of it.

    ``streams`` are the names that each hardware stream stands for: an input, an output, both where the output takes the input's
    place, or `COLUMNS`: the parameters ``packed``, each a block's columns, one behind the other.
    """

    uops: tuple[Uop, ...]
    streams: tuple[tuple[str, ...], ...]
    formats: tuple[str, ...]
    fixed: tuple[int, ...] = ()
    packed: tuple[str, ...] = ()
    zero_point: int = 0
    by_strips: bool = False

    @property
    def reach(self) -> int:
        """Strips that the packed parameters take; 0 where there are none."""
        return 1 + max(u.offset for u in self.uops) if self.packed else 0

    def instruction(self, at: Where, *, start: int, rows: int, strips: int | Slot, columns: int, **more: Any) -> Instruction:
        """The instruction that runs it from slot ``start``; ``at``: address and pitch of each stream by one of its names.

        ``more``: valid, causal, bank, acc, acc_step, as in `isa.vector`.
        """
        # A strip beyond `strips` is idle, a parameter's too. What is written ends with the columns.
        if self.reach and isinstance(strips, int):
            strips = max(strips, self.reach)
        places = [next(at[name] for name in names if name in at) for names in self.streams]
        return vector(
            kernel=start,
            rows=rows,
            strips=strips,
            columns=columns,
            streams=tuple(address for address, _ in places),
            pitches=tuple(pitch for _, pitch in places),
            formats=self.formats,
            fixed=self.fixed,
            zero_point=self.zero_point,
            by_strips=int(self.by_strips),
            **more,
        )

    def slots(self, rows: int, strips: int) -> int:
        """Slots that it takes on so many rows and strips (8 cycles each)."""
        return slots_of(self.uops, rows, strips, self.by_strips)


def slots_of(uops: tuple[Uop, ...], rows: int, strips: int, by_strips: bool) -> int:
    """Executed micro-operations over all groups."""
    groups = group_count({"rows": rows, "by_strips": int(by_strips)})
    found = 0
    for part in sections(uops):
        passes = -(-strips // (REACH if by_strips else part.step)) if part.step else 1
        found += sum(1 if u.once else groups * passes for u in part.uops)
    return found


def compile_kernel(
    core: Core,
    program: VectorProgram,
    *,
    dtypes: Mapping[str, str] | None = None,
    block_strips: int = 0,
    by_strips: bool = False,
    fixed: Collection[str] = (),
    zero_beyond: Collection[str] = (),
) -> CompiledKernel:
    """The kernel of a program on a core; CheckError where it needs more streams or registers than there are.

    ``dtypes`` of the input streams (float32 where not said). ``block_strips``: the strips of a block of columns for a kernel
    that keeps column parameters in registers; where it cannot, or with 0, it loops over the strips. ``fixed`` streams have one
    strip a row. Outputs in ``zero_beyond`` are zero from column ``valid`` on. ``by_strips``: for few rows, no sums or maxima.
    """
    reduces = any(isinstance(phase, Scalars) or phase.sums or phase.maxima for phase in program.phases)
    if by_strips and reduces:
        raise CheckError("a program with row scalars cannot go by strips")
    simple = block_strips and len(program.phases) == 1 and not reduces and not by_strips
    tries = [
        (block_strips if unrolled else 0, split) for unrolled in ((True, False) if simple else (False,)) for split in (0, 1)
    ]
    problem: CheckError | None = None
    for strips, split in tries:
        for late in (False, True):
            try:
                builder = _Builder(core, _split(program) if split else program, dict(dtypes or {}), strips, late)
                return builder.build(by_strips, frozenset(fixed), frozenset(zero_beyond))
            except CheckError as error:
                problem = problem or error
    assert problem is not None
    raise problem


def _split(program: VectorProgram) -> VectorProgram:
    """Each sum in a loop of its own: fewer registers at a time."""
    phases: list[Loop | Scalars] = []
    for phase in program.phases:
        if isinstance(phase, Scalars):
            phases.append(phase)
            continue
        phases += [Loop(sums=(one,)) for one in phase.sums]
        if phase.maxima or phase.outputs:
            phases.append(Loop(maxima=phase.maxima, outputs=phase.outputs))
    return VectorProgram(phases=tuple(phases), outputs=program.outputs, tables=program.tables)


class _Builder(Operations):
    """One attempt to compile a program."""

    # Phases ----------------------------------------------------------------------------------------------------------------

    def scalar_phase(self, phase: Scalars) -> None:
        self.known = {}
        for name, value in phase.values:
            self.scalars[name] = self.variable(value)

    def loop_phase(self, phase: Loop) -> None:
        registers = self.core.partial_registers
        partials = {name: [self.new() for _ in range(registers)] for name, _ in phase.sums}
        most = {name: self.new() for name, _ in phase.maxima}
        for variables in partials.values():
            for one in variables:
                self.fill(0, one, once=False)
        for one in most.values():
            self.fill(bits(-np.inf), one, once=False)
        step = registers if phase.sums else 1
        if not self.strips:
            self.loop, self.loops = self.loops, self.loops + 1
            self.steps.append(step)
        for offset in range(self.strips or step):
            self.offset, self.known = offset, {}
            self.outputs_of(phase)
            for name, value in phase.sums:
                self.accumulate("add", value, partials[name][offset])
            for name, value in phase.maxima:
                self.accumulate("max", value, most[name])
        self.loop, self.offset, self.known = -1, 0, {}
        for name, variables in partials.items():
            self.scalars[name] = self.folded(variables)
        for name, one in most.items():
            self.across("max", one)
            self.scalars[name] = one

    def outputs_of(self, phase: Loop) -> None:
        """What a loop writes, at the offset at hand; with ``late`` what takes an input's place comes at the very end."""
        late = set(self.merged) if self.late else set()
        for name, value in phase.outputs:
            if isinstance(value, Value) and name not in late:
                self.waiting.setdefault(id(value), []).append(name)
        for name, value in sorted(phase.outputs, key=lambda item: item[0] in late):
            if name in late or not isinstance(value, Value):
                self.written(name, self.variable(value))
            else:
                self.value(value)

    def accumulate(self, op: str, value: Operand, to: int) -> None:
        """``to`` op= value over the valid columns; a product is worked out in the same operation."""
        inner = value if isinstance(value, Value) and value.op == "product" and id(value) not in self.known else None
        if inner is not None:
            taken = self.operands(inner)
        else:
            taken = Taken(imm=ONE, fields={"b_kind": IMM})
            self.take(taken, "a", value)
        taken.reads["c_reg"] = to
        if inner is not None and inner.negate_p:
            taken.fields["negate_p"] = True
        self.emit(op, taken, to, masked=True)

    def folded(self, variables: list[int]) -> int:
        """The tree over partial sums and their lanes."""
        while len(variables) > 1:
            half = len(variables) // 2
            for low, high in zip(variables[:half], variables[half:], strict=True):
                taken = Taken(imm=ONE, fields={"b_kind": IMM}, reads={"a_reg": low, "c_reg": high})
                self.emit("add", taken, low)
            variables = variables[:half]
        self.across("add", variables[0])
        return variables[0]

    def across(self, op: str, one: int) -> None:
        """A sum or maximum over the lanes, in every lane."""
        distance = self.core.lanes // 2
        while distance:
            taken = Taken(fields={"b_kind": SWAP, "b_xor": distance.bit_length() - 1})
            taken.reads |= {"a_reg": self.constant(ONE), "b_reg": one, "c_reg": one}
            self.emit(op, taken, one)
            distance //= 2

    # The whole kernel --------------------------------------------------------------------------------------------------------

    def build(self, by_strips: bool, fixed: frozenset[str], zero_beyond: frozenset[str]) -> CompiledKernel:
        program = self.program
        self.fixed, self.zero_beyond = fixed, zero_beyond
        parameters = (*program.biases, *program.columns)
        if self.strips and self.strips > REACH:
            raise CheckError(f"a block of {self.strips} strips")
        if self.strips and len(parameters) * self.strips <= REACH:
            self.packed = parameters
        streams = self.streams(parameters)
        for phase in program.phases:
            if isinstance(phase, Loop):
                self.loop_phase(phase)
            else:
                self.scalar_phase(phase)
        for output in program.outputs:
            if output.scalar:
                self.written(output.name, self.scalars[output.name])
        self.check_merged()
        uops = allocated(self.prologue + self.ops, self.steps, {name: i for i, names in enumerate(streams) for name in names})
        outputs = {output.name: output for output in program.outputs}
        scalars = {name for name, output in outputs.items() if output.scalar}
        return CompiledKernel(
            uops=uops,
            streams=streams,
            formats=tuple(self.format_of(names, outputs) for names in streams),
            fixed=tuple(i for i, names in enumerate(streams) if set(names) & (fixed | scalars)),
            packed=self.packed,
            zero_point=_zero_point(program.outputs),
            by_strips=by_strips,
        )

    def format_of(self, names: tuple[str, ...], outputs: Mapping[str, Output]) -> str:
        name = names[0]
        return _FORMAT[outputs[name].dtype if name in outputs else self.dtypes.get(name, "float32")]

    def streams(self, parameters: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """The hardware streams; where there are too many, outputs take the place of inputs that are read for the last time."""
        columns = ([COLUMNS] if self.packed else list(parameters)) if parameters else []
        names = [output.name for output in self.program.outputs] + list(self.program.streams) + columns
        if len(set(names)) < len(names):
            raise CheckError("two streams, columns or outputs have one name", hint=", ".join(names))
        last = {name: i for i, phase in enumerate(self.program.phases) if isinstance(phase, Loop) for name in _streams(phase)}
        where = {name: i for i, phase in enumerate(self.program.phases) if isinstance(phase, Loop) for name, _ in phase.outputs}
        taken: set[str] = set()
        for output in self.program.outputs:
            if len(names) - len(self.merged) <= STREAMS:
                break
            for name in self.program.streams:
                alike = self.dtypes.get(name, "float32") == output.dtype and name not in taken and name not in self.fixed
                if alike and not output.scalar and last[name] <= where[output.name]:
                    self.merged[output.name] = name
                    taken.add(name)
                    break
        found = [name for name in names if name not in taken]
        if len(found) > STREAMS:
            raise CheckError(f"a kernel needs {len(found)} streams and has {STREAMS}", hint=", ".join(found))
        return tuple((name, *([self.merged[name]] if name in self.merged else [])) for name in found)

    def check_merged(self) -> None:
        """CheckError where an input is read behind the write that takes its place."""
        for output, name in self.merged.items():
            writes = [(i, op) for i, op in enumerate(self.ops) if op.write == output]
            for i, op in enumerate(self.ops):
                # A loop's passes are told apart by their strips; what stands outside comes wholly before or after it.
                behind = [
                    j for j, w in writes if i > j and (w.loop != op.loop or w.fields.get("offset") == op.fields.get("offset"))
                ]
                if op.read == name and behind:
                    raise CheckError(f"{name} is read after {output} has taken its place")


def _zero_point(outputs: tuple[Output, ...]) -> int:
    points = {output.zero_point for output in outputs if output.dtype == "int8"}
    if len(points) > 1:
        raise CheckError(f"int8 outputs with zero points {sorted(points)}", hint="one kernel adds one zero point")
    return next(iter(points), 0)


def _streams(phase: Loop) -> set[str]:
    """Streams that a loop reads."""
    found: set[str] = set()
    todo: list[Operand | None] = [value for _, value in (*phase.sums, *phase.maxima, *phase.outputs)]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Stream):
            found.add(one.name)
        elif isinstance(one, Swapped):
            todo.append(one.of)
        elif isinstance(one, Value):
            todo += [one.a, one.b, one.c]
    return found
