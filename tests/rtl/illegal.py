"""Programs with one instruction that breaks one law of the hardware, and the error that must answer it."""

from dataclasses import dataclass

from presilicon.isa import (
    INSTRUCTION_BYTES,
    Instruction,
    Uop,
    end,
    halt,
    kernel,
    load,
    loop,
    matmul,
    set_,
    store,
    sync,
    vector,
)
from presilicon.isa.layout import ERROR_CODES, LAYOUT, TARGETS
from presilicon.template import ENGINES, Core

CODES = {meaning: code for code, meaning in ERROR_CODES.items()}
PROGRAM = 0x1000
KERNEL = 0x8000


@dataclass(frozen=True)
class Illegal:
    """A program's bytes, what must come of it, and whose error it is; ``legal``: the same, one step within the law."""

    name: str
    code: str
    data: bytes
    engine: str
    pc: int
    legal: bool = False


def patched(one: Instruction, **values: int) -> bytes:
    """The bytes of an instruction with fields set to what its constructor refuses."""
    word = int.from_bytes(one.encode(), "little")
    for f in LAYOUT[one.op]:
        if f.name in values:
            mask = (1 << f.bits) - 1
            word = word & ~(mask << f.at) | (values[f.name] & mask) << f.at
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def illegal(core: Core) -> list[Illegal]:
    """Every law of every engine broken by one field, its limits met from both sides."""
    bus = core.bus_bytes
    made: list[Illegal] = []

    def add(
        name: str, code: str, one: Instruction, before: tuple[Instruction, ...] = (), legal: bool = False, **values: int
    ) -> None:
        data = b"".join(i.encode() for i in before) + patched(one, **values) + halt().encode()
        made.append(Illegal(f"{one.op}: {name}", code, data, one.engine, len(before), legal))

    plain = load(dram=0, spad=0, run=bus)
    for name in ("n1", "n2", "n3", "run"):
        add(f"{name} 0", "illegal field", plain, **{name: 0})
        add(f"{name} 0", "illegal field", store(dram=0x4000, spad=0, run=bus), **{name: 0})
    add("target 5", "illegal field", plain, target=5)
    for name in ("n2", "n3"):
        add(f"gather with {name} 2", "illegal field", load(dram=0, spad=0, run=4, gather=1), **{name: 2})
    for name in ("left", "right", "limit"):
        add(f"tables with {name}", "illegal field", load(dram=0, spad=0, run=bus, target="tables"), **{name: 1})
    for target in TARGETS[1:4]:
        for name in ("dram", "spad", "run", "pitch", "stride1", "stride2", "stride3"):
            for bit in (1, bus // 2):
                one = load(dram=0, spad=0, run=bus, target=target)
                add(f"{target}, {name} not aligned by {bit}", "alignment", one, **{name: one[name] + bit})
    ends = {"tables": 2048, "kernels": 16 * core.kernel_slots, "indices": 4 * core.index_slots}
    for target, size in ends.items():
        add(f"behind the {target}", "scratchpad address", load(dram=0, spad=size, run=bus, target=target))
        add(f"last of the {target}", "", load(dram=0, spad=size - bus, run=bus, target=target), legal=True)
    last = core.index_slots - 1
    add("last index", "", load(dram=0, spad=0, run=4, gather=1, index0=last), legal=True)
    add("behind the indices", "index out of range", load(dram=0, spad=0, n1=2, run=4, pitch=4, gather=1, index0=last))
    add("bus", "bus read", load(dram=1 << 30, spad=0, run=bus))
    add("bus", "bus write", store(dram=1 << 30, spad=0, run=bus))
    for op, one in (("load", plain), ("store", store(dram=0x4000, spad=0, run=bus))):
        add("behind the scratchpad", "scratchpad address", one, spad=core.scratchpad_bytes)
        add(f"last of the scratchpad, {op}", "", one, legal=True, spad=core.scratchpad_bytes - bus)

    x, w = 0, core.bank_bytes
    product = matmul(x=x, w=w, m0=1, tail=core.rows, x_stride0=0)
    for name in ("m0", "m1", "kb", "k1", "tail", "group_blocks"):
        add(f"{name} 0", "illegal field", product, **{name: 0})
    add("tail too long", "illegal field", product, tail=core.rows + 1)
    rows = core.accumulator_rows
    for bank in (0, 1):
        add(f"last row of bank {bank}", "", product, legal=True, acc=rows - 1, bank=bank)
        add(f"behind the rows of bank {bank}", "accumulator row", product, acc=rows, bank=bank)
        add(f"second row behind bank {bank}", "accumulator row", product, acc=rows - 1, m0=2, bank=bank)

    def kernels(*uops: Uop) -> tuple[bytes, tuple[Instruction, ...]]:
        text = b"".join(u.encode() for u in uops)
        fetch = load(dram=KERNEL, spad=0, run=-(-len(text) // bus) * bus, target="kernels", signal=("vector",))
        return text, (fetch,)

    copy = kernel((Uop(op="move", a_kind=1, write_en=True, write_stream=2),))
    sizes = {"rows": 1, "strips": 1, "columns": core.lanes, "wait": ("load",)}
    _, fetch = kernels(*copy)
    run = vector(kernel=0, streams=(0, 0, w), **sizes)
    for name in ("rows", "strips"):
        add(f"{name} 0", "illegal field", run, fetch, **{name: 0})
    add("last accumulator row", "", run, fetch, legal=True, acc=rows - 1)
    add("accumulator row", "accumulator row", run, fetch, acc=rows)
    add("kernel that does not end", "kernel", run, fetch, kernel=core.kernel_slots - 1)

    add("five loops", "loop nesting", loop(1, 1), tuple(loop(1, 10 - 2 * n) for n in range(4)))
    made.append(Illegal("end without loop", "loop nesting", end().encode() + halt().encode(), "sequencer", 0))
    for opcode in (0, 11, 31):
        data = (opcode).to_bytes(INSTRUCTION_BYTES, "little")
        made.append(Illegal(f"opcode {opcode}", "illegal opcode", data, "sequencer", 0))
    for source in ENGINES:
        for target in ENGINES:
            for count, code in ((63, ""), (64, "semaphore overflow")):
                signals = b"".join(sync(source, signal=(target,)).encode() for _ in range(count))
                # The semaphores know no instructions: it is told where the sequencer stood.
                pc = 63 if source == "sequencer" else count
                name = f"{count} signals {source} to {target}"
                made.append(Illegal(name, code, signals + halt().encode(), source, pc, not code))
    made += [*_semaphores_used_twice(), _all_busy(core, fetch)]
    return made


def _semaphores_used_twice() -> list[Illegal]:
    """A wait that a signal ends; and one behind it whose signal comes late."""
    made = []
    for source in ENGINES:
        for target in ENGINES[:4]:
            if source != target:
                given, taken = sync(source, signal=(target,)), sync(target, wait=(source,))
                rest = [set_("r1", "r1", "add", 1)] * 12
                code = [given, taken, *rest, taken, *rest, given, halt()]
                name = f"{source} to {target} twice"
                made.append(Illegal(name, "", b"".join(one.encode() for one in code), "sequencer", 0, True))
    return made


def _all_busy(core: Core, fetch: tuple[Instruction, ...]) -> Illegal:
    """Long instructions in every engine and its queue, and an illegal one behind them: all must stop."""
    bank, bus = core.bank_bytes, core.bus_bytes
    code = [
        *fetch,
        load(dram=0, spad=3 * bank, n1=40, run=bus, pitch=bus, signal=("vector",)),
        sync("vector", wait=("load",)),
        sync("vector", wait=("load",)),
    ]
    for _ in range(3):
        code += [
            load(dram=0, spad=3 * bank, n1=40, run=bus, pitch=bus),
            store(dram=0x9000, spad=2 * bank, n1=40, run=bus, stride1=bus, pitch=0),
            matmul(x=0, w=bank, m0=60, kb=4, tail=core.rows, x_stride0=0),
            vector(
                kernel=0,
                streams=(0, 0, 2 * bank),
                pitches=(0, 0, 4 * core.lanes),
                bank=1,
                rows=60,
                strips=1,
                columns=core.lanes,
            ),
        ]
    data = b"".join(one.encode() for one in code) + (31).to_bytes(INSTRUCTION_BYTES, "little")
    return Illegal("all engines busy", "illegal opcode", data, "sequencer", len(code))


def image(one: Illegal, size: int) -> bytearray:
    """The memory that a program starts with: itself, and the kernel that copies accumulators."""
    memory = bytearray(size)
    memory[PROGRAM : PROGRAM + len(one.data)] = one.data
    copy = kernel((Uop(op="move", a_kind=1, write_en=True, write_stream=2),))
    text = b"".join(u.encode() for u in copy)
    memory[KERNEL : KERNEL + len(text)] = text
    return memory
