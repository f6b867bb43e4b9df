"""A program: instructions, kernels, constant data, and where inputs and outputs lie; its file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import IsaError
from presilicon.files import write_whole
from presilicon.isa.instruction import INSTRUCTION_BYTES, REGISTERS, Instruction
from presilicon.isa.overlay import link, windows
from presilicon.isa.uop import UOP_BYTES, Uop, sections
from presilicon.template import Core

DTYPES = {"int8": 1, "uint8": 1, "int32": 4, "uint32": 4, "float32": 4}
KINDS = ("input", "output", "state", "scratch")
# Kernels begin at whole beats of the widest bus, in DRAM and in kernel memory.
KERNEL_ALIGN = 64 // UOP_BYTES
ALIGN = 64


@dataclass(frozen=True, slots=True)
class Kernel:
    """Micro-operations of one name and the slot of the kernel memory in which they are to stand (a multiple of 4)."""

    name: str
    start: int
    uops: tuple[Uop, ...]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise IsaError(f"a kernel cannot be named {self.name!r}", hint="letters, digits and underscores")
        try:
            sections(self.uops)
        except IsaError as error:
            raise error.at(f"kernel {self.name}") from None
        if self.start % KERNEL_ALIGN or self.start < 0:
            raise IsaError(f"kernel {self.name} starts in slot {self.start}", hint=f"a multiple of {KERNEL_ALIGN}")

    @property
    def slots(self) -> int:
        """Slots it takes in memory, up to the start of a next one."""
        return -(-len(self.uops) // KERNEL_ALIGN) * KERNEL_ALIGN

    def encode(self) -> bytes:
        """Its bytes in memory, with zeros up to the start of a next one."""
        return b"".join(u.encode() for u in self.uops).ljust(self.slots * UOP_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class Segment:
    """Constant bytes and their DRAM address."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.address + len(self.data)


@dataclass(frozen=True, slots=True)
class Region:
    """A named array in DRAM: ``kind`` input, output, state (read and written from run to run) or scratch.

    It lies at ``address`` plus the value of scalar register ``register`` (0: none).
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    address: int
    register: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise IsaError(f"region {self.name} is of kind {self.kind!r}", hint=", ".join(KINDS))
        if self.dtype not in DTYPES:
            raise IsaError(f"region {self.name} has elements of {self.dtype!r}", hint=", ".join(DTYPES))
        if not self.name or any(c.isspace() for c in self.name):
            raise IsaError(f"a region cannot be named {self.name!r}", hint="a name without blanks")
        if not 0 <= self.register < REGISTERS or self.address < 0 or any(n < 1 for n in self.shape):
            raise IsaError(f"region {self.name} has shape {self.shape}, address {self.address}, register {self.register}")

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * DTYPES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a core is to do, for the core with this digest; ``build`` makes one with its parts placed.

    ``address`` is that of the instructions in DRAM (linked, see `overlay`), ``kernel_address`` that of the kernels, one behind
    the other in their order. Everything lies below ``dram_bytes``. IsaError where two parts overlap or reach beyond.
    """

    core_digest: str
    instructions: tuple[Instruction, ...]
    kernels: tuple[Kernel, ...] = ()
    data: tuple[Segment, ...] = ()
    regions: tuple[Region, ...] = ()
    dram_bytes: int
    address: int = 0
    kernel_address: int = 0

    def __post_init__(self) -> None:
        if not self.instructions:
            raise IsaError("a program has no instruction", hint="halt at least")
        for names, what in (([k.name for k in self.kernels], "kernels"), ([r.name for r in self.regions], "regions")):
            if double := next((name for name in names if names.count(name) > 1), ""):
                raise IsaError(f"two {what} are named {double}")
        if self.address % ALIGN or self.kernel_address % ALIGN:
            raise IsaError(
                f"instructions at {self.address:#x}, kernels at {self.kernel_address:#x}", hint=f"multiples of {ALIGN}"
            )
        parts = sorted(self._parts())
        for (_, end, name), (start, _, other) in pairwise(parts):
            if end > start:
                raise IsaError(f"{name} and {other} overlap at {start:#x}")
        if parts[0][0] < 0 or parts[-1][1] > self.dram_bytes:
            raise IsaError(f"{parts[-1][2]} ends at {parts[-1][1]:#x}, beyond the {self.dram_bytes} bytes of the program")
        for region in self.regions:
            if not region.register and region.address + region.bytes > self.dram_bytes:
                raise IsaError(f"region {region.name} reaches beyond the {self.dram_bytes} bytes of the program")

    def _parts(self) -> list[tuple[int, int, str]]:
        parts = [(self.address, self.address + INSTRUCTION_BYTES * len(self.instructions), "the instructions")]
        if self.kernels:
            size = sum(k.slots for k in self.kernels) * UOP_BYTES
            parts.append((self.kernel_address, self.kernel_address + size, "the kernels"))
        return parts + [(s.address, s.end, f"data at {s.address:#x}") for s in self.data if s.data]

    @classmethod
    def build(
        cls,
        core: Core,
        instructions: Iterable[Instruction],
        *,
        kernels: Iterable[Kernel] = (),
        data: Iterable[Segment] = (),
        regions: Iterable[Region] = (),
        address: int = 0,
        kernel_address: int | None = None,
        dram_bytes: int = 0,
    ) -> Program:
        """A program for ``core``, its overlays linked where it is longer than the instruction memory.

        The kernels come behind the instructions and ``dram_bytes`` covers everything, where they are not given.
        """
        linked = link(tuple(instructions), core, address)
        end = address + INSTRUCTION_BYTES * len(linked)
        where = end if kernel_address is None else kernel_address
        kernels, data, regions = tuple(kernels), tuple(data), tuple(regions)
        ends = [end, where + UOP_BYTES * sum(k.slots for k in kernels), *(s.end for s in data)]
        ends += [r.address + r.bytes for r in regions if not r.register]
        return cls(
            core_digest=core.digest(),
            instructions=linked,
            kernels=kernels,
            data=data,
            regions=regions,
            dram_bytes=dram_bytes or -(-max(ends) // ALIGN) * ALIGN,
            address=address,
            kernel_address=where,
        )

    def kernel(self, name: str) -> Kernel:
        """The kernel of a name."""
        for one in self.kernels:
            if one.name == name:
                return one
        raise IsaError(f"there is no kernel {name!r}", hint=", ".join(k.name for k in self.kernels))

    def region(self, name: str) -> Region:
        """The region of a name."""
        for one in self.regions:
            if one.name == name:
                return one
        raise IsaError(f"there is no region {name!r}", hint=", ".join(r.name for r in self.regions))

    def kernel_at(self, name: str) -> int:
        """The DRAM address of a kernel: what a load with target ``kernels`` takes it from."""
        self.kernel(name)
        address = self.kernel_address
        for one in self.kernels:
            if one.name == name:
                break
            address += one.slots * UOP_BYTES
        return address

    def segments(self, core: Core) -> tuple[tuple[int, int], ...]:
        """Windows of the instruction memory: first instruction and how many, the first window being what the start loads."""
        return windows(len(self.instructions), core)

    def image(self) -> tuple[Segment, ...]:
        """Everything that is to lie in DRAM before the start: instructions, kernels and data."""
        found = [Segment(self.address, b"".join(i.encode() for i in self.instructions))]
        if self.kernels:
            found.append(Segment(self.kernel_address, b"".join(k.encode() for k in self.kernels)))
        return (*found, *self.data)

    def memory(self, size: int | None = None) -> NDArray[np.uint8]:
        """The image in a DRAM of ``size`` bytes (or as many as the program needs)."""
        dram = np.zeros(self.dram_bytes if size is None else size, np.uint8)
        for part in self.image():
            if part.end > len(dram):
                raise IsaError(f"the program needs {part.end} bytes of DRAM, not {len(dram)}")
            dram[part.address : part.end] = np.frombuffer(part.data, np.uint8)
        return dram

    def check_core(self, core: Core) -> None:
        """IsaError where the program was made for another core, or its kernels do not fit this one's kernel memory."""
        if self.core_digest != core.digest():
            raise IsaError(
                f"the program was made for another chip: it carries {self.core_digest}, this core is {core.digest()}",
                hint="compile it again for this chip",
            )
        for one in self.kernels:
            if one.start + len(one.uops) > core.kernel_slots:
                raise IsaError(f"kernel {one.name} reaches slot {one.start + len(one.uops) - 1} of {core.kernel_slots}")

    def to_bytes(self) -> bytes:
        """The file's content."""
        from presilicon.isa.binary import to_bytes

        return to_bytes(self)

    def pieces(self) -> Iterator[bytes]:
        """The file's content piece by piece."""
        from presilicon.isa.binary import pieces

        return pieces(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Program:
        """The program in a file's content; IsaError where it is not whole or not one."""
        from presilicon.isa.binary import from_bytes

        return from_bytes(content)

    def write(self, path: str | Path) -> None:
        """Writes its file, whole or not at all."""
        write_whole(path, self.to_bytes())

    @classmethod
    def read(cls, path: str | Path, core: Core | None = None) -> Program:
        """The program in a file; IsaError (naming the file) where it is damaged, or made for another core than ``core``."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise IsaError(f"cannot be read: {error.strerror}", where=str(path)) from None
        try:
            program = cls.from_bytes(content)
            if core is not None:
                program.check_core(core)
        except IsaError as error:
            raise error.at(str(path)) from None
        return program


def place(kernels: Sequence[tuple[str, Sequence[Uop]]], core: Core) -> tuple[Kernel, ...]:
    """Kernels one behind the other in the kernel memory; IsaError where they do not fit."""
    placed: list[Kernel] = []
    start = 0
    for name, uops in kernels:
        placed.append(Kernel(name, start, tuple(uops)))
        start += placed[-1].slots
    if start > core.kernel_slots:
        raise IsaError(f"the kernels take {start} slots", hint=f"the kernel memory has {core.kernel_slots}")
    return tuple(placed)
