"""Random programs that break no law: what simulator and RTL are held against beyond the corpus.

Every memory is filled with random bytes first. Then come random loads, stores, matmuls and kernels, ordered by the emitter
where they touch the same bytes, in parts: straight lines, and loops whose addresses come from registers. At the end the
used part of the scratchpad and of the accumulators is stored. What must come out, ``isa.in_order`` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.corpus.rows import aligned
from presilicon.compiler.emitter import Emitter
from presilicon.isa import (
    UOP_BYTES,
    UOPS,
    Instruction,
    Program,
    Region,
    Segment,
    Uop,
    barrier,
    end,
    halt,
    load,
    loop,
    matmul,
    place,
    reg,
    set_,
    store,
    sync,
    vector,
)
from presilicon.template import ENGINES, Core

SOURCE_BYTES = 1 << 15
# Bytes at the start of each bank that programs use: reads and writes stay in it.
WINDOW_BYTES = 1024
# Accumulator rows of each bank that programs use.
ACCUMULATOR_ROWS = 64
KERNELS = 4
_RNG = np.random.Generator


@dataclass(frozen=True, slots=True)
class RandomProgram:
    """A program and its one input ``source``."""

    program: Program
    source: NDArray[np.uint8]


def random_bytes(rng: _RNG, size: int) -> NDArray[np.uint8]:
    """Bytes of which half form fp32 numbers of usual size, a few of them special."""
    words = rng.integers(0, 1 << 32, size // 4, dtype=np.uint32)
    usual = (rng.normal(0.0, 4.0, size // 4).astype(np.float32)).view(np.uint32)
    special = np.array([0, 1 << 31, 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00800000, 0x7F7FFFFF, 0x3F800000], np.uint32)
    kind = rng.random(size // 4)
    words = np.where(kind < 0.6, usual, words)
    words = np.where(kind > 0.97, rng.choice(special, size // 4), words)
    return words.view(np.uint8)


class _Maker:
    """Draws instructions for one core; addresses stay in the windows of the banks."""

    def __init__(self, core: Core, rng: _RNG) -> None:
        self.core, self.rng = core, rng
        self.window = min(WINDOW_BYTES, core.bank_bytes)
        self.acc_rows = min(ACCUMULATOR_ROWS, core.accumulator_rows)

    def _pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def place(self, size: int, bank: int | None = None) -> int:
        """A random address at which ``size`` bytes lie in one bank's window."""
        bank = self._pick(0, self.core.scratchpad_banks - 1) if bank is None else bank
        return bank * self.core.bank_bytes + self._pick(0, self.window - size)

    def banks(self, count: int) -> list[int]:
        """Different banks."""
        return [int(b) for b in self.rng.permutation(self.core.scratchpad_banks)[:count]]

    def load(self) -> Instruction:
        kind = self._pick(0, 5)
        if kind == 0:
            beats = self._pick(1, 4) * self.core.bus_bytes
            entry = self._pick(0, (2048 - beats) // self.core.bus_bytes) * self.core.bus_bytes
            dram = self._pick(0, (SOURCE_BYTES - beats) // 64) * 64
            return load(dram=dram, spad=entry, run=beats, target="tables")
        n1, n2, n3 = self._pick(1, 5), self._pick(1, 2), self._pick(1, 2)
        left, right = (self._pick(0, 9), self._pick(0, 9)) if kind == 1 else (0, 0)
        rows = n1 * n2 * n3
        run = self._pick(1, min(200, self.window // rows - left - right))
        pitch = self._pick(left + run + right, self.window // rows)
        spad = self.place((rows - 1) * pitch + left + run + right)
        dram = self._pick(0, SOURCE_BYTES // 2)
        stride1 = self._pick(-300, 1500)
        dram = max(dram, 4096)
        if kind == 2:
            stride = self._pick(1, SOURCE_BYTES // 64 - 1)
            return load(
                dram=self._pick(0, 200),
                spad=spad,
                n1=n1,
                run=run,
                stride1=stride,
                pitch=pitch,
                gather=1,
                index0=self._pick(0, 8),
            )
        limit, y0 = (self._pick(1, 4), self._pick(-3, 3)) if kind == 3 else (0, 0)
        return load(
            dram=dram,
            spad=spad,
            n1=n1,
            n2=n2,
            n3=n3,
            run=run,
            stride1=stride1,
            stride2=self._pick(-700, 3000),
            stride3=self._pick(-700, 3000),
            pitch=pitch,
            left=left,
            right=right,
            fill=self._pick(0, 255),
            limit=limit,
            y0=y0,
        )

    def store(self, out: int) -> Instruction:
        n1, n2, n3 = self._pick(1, 5), self._pick(1, 2), self._pick(1, 2)
        rows = n1 * n2 * n3
        run = self._pick(1, min(150, self.window // rows))
        pitch = self._pick(run, self.window // rows)
        return store(
            dram=out + self._pick(3900, 4100),
            spad=self.place((rows - 1) * pitch + run),
            n1=n1,
            n2=n2,
            n3=n3,
            run=run,
            # Rows may lie over one another: the later one counts. All of them are within 4,000 bytes of the first.
            stride1=self._pick(-600, 600),
            stride2=self._pick(-900, 900),
            stride3=self._pick(-500, 500),
            pitch=pitch,
        )

    def matmul(self) -> Instruction:
        core = self.core
        rows, cols = core.rows, core.cols
        mode = self._pick(0, 3)
        x_bank, w_bank, group_bank = self.banks(3)
        tile = core.weight_words * core.weight_rows_per_cycle * cols // (2 if mode == 1 else 1)
        fits = {0: self.window // tile, 1: self.window // tile, 2: self.window // (rows * cols), 3: self.window // rows}[mode]
        kb = self._pick(1, max(1, min(3, fits, self.window // rows // 2)))
        k1 = 2 if kb * 2 <= fits and mode < 2 and self._pick(0, 3) == 0 else 1
        m0, m1 = self._pick(1, 7), self._pick(1, 3)
        span = kb * rows
        stride0 = self._pick(0, max(0, (self.window - span) // (m0 * m1 + k1)))
        stride1 = self._pick(0, stride0 * m0)
        k_stride = stride0
        x_bytes = (m0 - 1) * stride0 + (m1 - 1) * stride1 + (k1 - 1) * k_stride + span
        blocks = k1 * kb
        if mode <= 1:
            size, pitch = blocks * tile, 0
        elif mode == 2:
            pitch = self._pick(1, max(1, (self.window - cols) // (blocks * rows)))
            size = (blocks * rows - 1) * pitch + cols
        else:
            pitch = self._pick(1, max(1, (self.window - blocks * rows) // cols))
            size = (cols - 1) * pitch + blocks * rows
        if size > self.window or x_bytes > self.window:
            return self.matmul()
        group_blocks = self._pick(1, 3)
        groups = -(-blocks // group_blocks) * cols // 2
        tail = self._pick(1, rows)
        accumulate = self._pick(0, 1)
        return matmul(
            x=self.place(x_bytes, x_bank),
            w=self.place(size, w_bank),
            acc=self._pick(0, self.acc_rows - m0 * m1),
            m0=m0,
            m1=m1,
            kb=kb,
            k1=k1,
            tail=tail,
            x_stride0=stride0,
            x_stride1=stride1,
            k_stride1=k_stride,
            bank=self._pick(0, 1),
            accumulate=accumulate,
            weights=mode,
            w_pitch=pitch,
            groups=self.place(groups, group_bank) if mode == 1 else 0,
            group_blocks=group_blocks if mode == 1 else 1,
        )

    def vector(self, kernels: dict[int, tuple[Uop, ...]]) -> Instruction:
        core = self.core
        start = int(self.rng.choice(list(kernels)))
        by_strips = self._pick(0, 1) if all(not u.offset for u in kernels[start]) else 0
        strips = self._pick(1, max(1, min(5, self.window // (4 * core.lanes) // 2)))
        rows = self._pick(1, 11 if not by_strips else 3)
        reach = strips + max(u.offset for u in kernels[start])
        wide = 4 * core.lanes * reach
        rows = max(1, min(rows, self.window // wide))
        columns = self._pick(1, strips * core.lanes)
        banks = self.banks(4)
        pitches = tuple(self._pick(0, 1) * self._pick(wide, max(wide, self.window // rows)) for _ in range(4))
        pitches = tuple(p if (rows - 1) * p + wide <= self.window else 0 for p in pitches)
        # Streams 0 and 1 are read, 2 and 3 written: rows that are written must not overlap.
        pitches = (pitches[0], pitches[1], *(p if p else wide for p in pitches[2:]))
        if (rows - 1) * max(pitches[2:]) + wide > self.window:
            rows = 1
        formats = ("fp32", "int8")
        chunk_rows = -(-reach // core.chunks)
        step = self._pick(0, max(0, (self.acc_rows - rows) // chunk_rows // 4))
        causal = self._pick(0, 1)
        return vector(
            kernel=start,
            rows=rows,
            strips=strips,
            columns=columns,
            valid=self._pick(0, columns),
            streams=tuple(self.place((rows - 1) * p + wide, b) for p, b in zip(pitches, banks, strict=True)),
            pitches=pitches,
            formats=(
                formats[self._pick(0, 1)],
                formats[self._pick(0, 1)],
                ("fp32", "int8", "int32")[self._pick(0, 2)],
                ("fp32", "int8", "int32")[self._pick(0, 2)],
            ),
            fixed=tuple(i for i in (0, 1) if self._pick(0, 3) == 0),
            by_strips=by_strips,
            causal=causal,
            zero_point=self._pick(-128, 127),
            bank=self._pick(0, 1),
            acc=self._pick(0, max(0, self.acc_rows - rows - (chunk_rows - 1) * step)),
            acc_step=step,
        )

    def kernel(self) -> tuple[Uop, ...]:
        """A kernel: constants once, perhaps a part before, a loop or two, a part behind; registers written before read."""
        known: list[int] = []
        written = {2, 3}

        def some(low: int, high: int, offsets: int = 0) -> list[Uop]:
            return [self._uop(known, written, offsets=offsets) for _ in range(self._pick(low, high))]

        uops = [self._uop(known, set(), once=True) for _ in range(self._pick(0, 2))] + some(1, 2)
        for _ in range(self._pick(0, 2)):
            offsets = self._pick(0, 1)
            body = some(1, 4, offsets=offsets)
            uops += _looped(body, self._pick(1, 3))
            uops += some(0, 1)
        return (
            (*uops[:-1], _with(uops[-1], last=True))
            if not uops[-1].loop_end
            else (*uops, _with(self._uop(known, written), last=True))
        )

    def _uop(self, known: list[int], written: set[int], once: bool = False, offsets: int = 0) -> Uop:
        rng = self.rng
        op = str(rng.choice([*UOPS, "add", "add", "product", "max"]))
        stream = self._pick(0, 1)
        a_kind = int(rng.choice([0, 1, 2, 3] if known else [1, 2]))
        raw = op in ("move", "recip", "rsqrt")
        b_kind = 0 if raw else int(rng.choice([0, 1, 2, 3] if known else [1, 2]))
        masked = bool(self._pick(0, 3) == 0)
        takes_c = op in ("add", "max", "select") or masked
        c_kind = int(rng.choice([0, 1, 2, 3] if known else [1, 2, 3])) if takes_c else 0

        def some_register() -> int:
            return int(rng.choice(known))

        kinds = {"stream": a_kind == 2 or (not raw and b_kind == 2) or (takes_c and c_kind == 2)}
        imm = (not raw and b_kind == 1) or (takes_c and c_kind == 1)
        exchange = not raw and b_kind == 3
        write = bool(written) and self._pick(0, 2) == 0
        to_en = not write or bool(self._pick(0, 1))
        to = self._pick(0, 15) if to_en else 0
        uop = Uop(
            op=op,
            imm=int(random_bytes(rng, 4).view(np.uint32)[0]) if imm else 0,
            a_kind=a_kind,
            a_reg=some_register() if a_kind in (0, 3) else 0,
            b_kind=b_kind,
            b_reg=some_register() if not raw and b_kind in (0, 3) else 0,
            b_xor=self._pick(0, self.core.lanes.bit_length() - 2) if exchange else 0,
            c_kind=c_kind,
            c_reg=some_register() if takes_c and c_kind == 0 else 0,
            negate_p=bool(self._pick(0, 1)) and op not in ("move", "recip", "rsqrt", "select"),
            negate_c=bool(self._pick(0, 1)) and op in ("add", "max", "select"),
            masked=masked,
            to_en=to_en,
            to=to,
            read_stream=stream if kinds["stream"] else 0,
            write_en=write,
            # A stream is written by one micro-operation at a time: the second one's bytes are in another bank.
            write_stream=int(rng.choice(sorted(written))) if write else 0,
            offset=self._pick(0, offsets),
            once=once,
        )
        if to_en and to not in known:
            known.append(to)
        return uop


def _with(uop: Uop, **changes: object) -> Uop:
    from dataclasses import replace

    return replace(uop, **changes)  # type: ignore[arg-type]


def _looped(body: list[Uop], step: int) -> list[Uop]:
    if len(body) == 1:
        return [_with(body[0], loop_begin=True, loop_end=True, step=step)]
    return [_with(body[0], loop_begin=True), *body[1:-1], _with(body[-1], loop_end=True, step=step)]


def random_program(core: Core, seed: int, instructions: int = 24) -> RandomProgram:
    """A random program of about so many instructions between filling the memories and storing them."""
    rng = np.random.default_rng(seed)
    maker = _Maker(core, rng)
    window = maker.window
    kernels = place([(f"k{i}", maker.kernel()) for i in range(KERNELS)], core)
    dump = place([("dump", (Uop(op="move", a_kind=1, write_en=True, write_stream=2, last=True),))], core)[0]
    at_dump = sum(k.slots for k in kernels)
    kernels = (*kernels, type(dump)("dump", at_dump, dump.uops))
    out = aligned(SOURCE_BYTES)
    banks = core.scratchpad_banks
    final = out + 8192
    acc_rows = maker.acc_rows
    index = aligned(final + banks * window)
    kernel_address = aligned(index + 4 * core.index_slots)
    indices = rng.integers(0, 16, 64, dtype=np.uint32)
    texts = {k.start: k.uops for k in kernels if k.name != "dump"}

    parts: list[Instruction] = []

    def straight(items: list[Instruction]) -> None:
        emitter = Emitter(core, kernels)
        for item in items:
            emitter.add(item)
        parts.extend(emitter.finish(barrier()))

    fill = [load(dram=kernel_address, spad=0, run=UOP_BYTES * sum(k.slots for k in kernels), target="kernels")]
    fill += [load(dram=index, spad=0, run=256, target="indices"), load(dram=0, spad=0, run=2048, target="tables")]
    fill += [load(dram=b * 1024 % (SOURCE_BYTES - window), spad=b * core.bank_bytes, run=window) for b in range(banks)]
    for b in (0, 1):
        fill.append(
            matmul(x=0, x_stride0=0, w=core.bank_bytes, m0=maker.acc_rows, tail=core.rows, bank=b, weights="strided", w_pitch=1)
        )
    straight(fill)
    for _ in range(3):
        if maker._pick(0, 2) == 0:
            parts.extend(_loop_of(maker))
        parts.extend(_handshakes(maker))
        kinds = rng.choice(4, instructions // 3, p=[0.25, 0.15, 0.3, 0.3])
        straight([(maker.load, lambda: maker.store(out), maker.matmul, lambda: maker.vector(texts))[k]() for k in kinds])
    # What the accumulators hold goes through the scratchpad's first bank; then all windows are stored.
    strips = min(core.chunks, window // (4 * core.lanes))
    rows = max(1, min(acc_rows, window // (4 * core.lanes * strips)))
    ends = [store(dram=final + b * window, spad=b * core.bank_bytes, run=window) for b in range(banks)]
    dumped = vector(
        kernel=at_dump,
        rows=rows,
        strips=strips,
        columns=strips * core.lanes,
        streams=(0, 0, 0),
        pitches=(0, 0, 4 * core.lanes * strips),
        bank=int(rng.integers(0, 2)),
    )
    straight([*ends, dumped, store(dram=index - window, spad=0, run=window)])
    parts[-1] = halt()
    program = Program.build(
        core,
        parts,
        kernels=kernels,
        data=(Segment(index, indices.tobytes()),),
        regions=(
            Region("source", "input", "uint8", (SOURCE_BYTES,), 0),
            Region("y", "output", "uint8", (index - out,), out),
        ),
        address=aligned(kernel_address + UOP_BYTES * sum(k.slots for k in kernels)),
        kernel_address=kernel_address,
    )
    return RandomProgram(program, random_bytes(rng, SOURCE_BYTES))


def _loop_of(maker: _Maker) -> list[Instruction]:
    """A loop, perhaps in a loop, of loads whose addresses move by registers; a barrier keeps it apart."""
    count, inner = maker._pick(0, 4), maker._pick(1, 3)
    size = maker._pick(1, 40)
    spad = maker.place(size * 16)
    body = [
        load(dram=reg("r4") + maker._pick(0, 4096), spad=reg("r5") + spad, run=size),
        set_("r4", "r4", "add", maker._pick(1, 999)),
        set_("r5", "r5", "add", size),
    ]
    start = [set_("r6", "r0", "add", maker._pick(0, 2048)), set_("r5", "r0", "add", 0)]
    start.append(set_("r4", "r0", "add", reg("r6") + maker._pick(0, 2048)))
    nested = [loop(inner, len(body) + 1), *body, end()]
    return [*start, loop(count, len(nested) + 1), *nested, end(), barrier()]


def _handshakes(maker: _Maker) -> list[Instruction]:
    """Engines that wait for one another, or for themselves, and do nothing else; the wait may stand before the signal.

    Signals of the loads to the sequencer are left to the overlays.
    """
    made: list[Instruction] = []
    for _ in range(maker._pick(0, 4)):
        source, target = (ENGINES[maker._pick(0, len(ENGINES) - 1)] for _ in range(2))
        if target == "sequencer" and source in ("load", "sequencer"):
            continue
        count = maker._pick(1, 3)
        signals = [sync(source, signal=(target,))] * count
        waits = [sync(target, wait=(source,))] * count
        # An engine's own queue, and the sequencer, go on only in order.
        later = target not in (source, "sequencer") and maker._pick(0, 1)
        made += [*waits, *signals] if later else [*signals, *waits]
    return made
