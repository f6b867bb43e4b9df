"""One function per opcode: the fields of ``layout`` as keywords, with what the engines wait for and signal.

A slot takes an int or ``reg("r3") + 128``; ``wait`` and ``signal`` take names of engines. IsaError where a field or law of the
instruction does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from presilicon.isa.instruction import Instruction, Slot, make, reg

Value = int | Slot
Engines = Iterable[str]


def load(
    *,
    dram: Value,
    spad: Value,
    run: Value,
    n1: Value = 1,
    n2: Value = 1,
    n3: int = 1,
    stride1: int = 0,
    stride2: int = 0,
    stride3: int = 0,
    pitch: int = 0,
    y0: Value = 0,
    limit: Value = 0,
    left: int = 0,
    right: int = 0,
    fill: int = 0,
    gather: int = 0,
    index0: int = 0,
    target: int | str = 0,
    wait: Engines = (),
    signal: Engines = (),
) -> Instruction:
    """DRAM to the scratchpad (or another ``target``): rows along up to three counts, with fill or gather."""
    return make(
        "load",
        wait,
        signal,
        dram=dram,
        spad=spad,
        run=run,
        n1=n1,
        n2=n2,
        n3=n3,
        stride1=stride1,
        stride2=stride2,
        stride3=stride3,
        pitch=pitch,
        y0=y0,
        limit=limit,
        left=left,
        right=right,
        fill=fill,
        gather=gather,
        index0=index0,
        target=target,
    )


def store(
    *,
    dram: Value,
    spad: Value,
    run: Value,
    n1: Value = 1,
    n2: Value = 1,
    n3: int = 1,
    stride1: int = 0,
    stride2: int = 0,
    stride3: int = 0,
    pitch: int = 0,
    wait: Engines = (),
    signal: Engines = (),
) -> Instruction:
    """The scratchpad to DRAM: rows along up to three counts."""
    return make(
        "store",
        wait,
        signal,
        dram=dram,
        spad=spad,
        run=run,
        n1=n1,
        n2=n2,
        n3=n3,
        stride1=stride1,
        stride2=stride2,
        stride3=stride3,
        pitch=pitch,
    )


def matmul(
    *,
    x: Value,
    w: Value,
    m0: Value,
    tail: Value,
    x_stride0: int,
    acc: Value = 0,
    kb: Value = 1,
    k1: int = 1,
    k_stride1: int = 0,
    m1: int = 1,
    x_stride1: int = 0,
    bank: int = 0,
    accumulate: int = 0,
    weights: int | str = 0,
    w_pitch: int = 0,
    groups: Value = 0,
    group_blocks: int = 1,
    wait: Engines = (),
    signal: Engines = (),
) -> Instruction:
    """(m0 m1, k1 kb rows) x (k1 kb rows, cols) into int32 accumulators."""
    return make(
        "matmul",
        wait,
        signal,
        x=x,
        w=w,
        m0=m0,
        tail=tail,
        x_stride0=x_stride0,
        acc=acc,
        kb=kb,
        k1=k1,
        k_stride1=k_stride1,
        m1=m1,
        x_stride1=x_stride1,
        bank=bank,
        accumulate=accumulate,
        weights=weights,
        w_pitch=w_pitch,
        groups=groups,
        group_blocks=group_blocks,
    )


def vector(
    *,
    kernel: int,
    rows: Value,
    strips: Value,
    columns: Value,
    valid: Value | None = None,
    streams: tuple[Value, ...] = (),
    pitches: tuple[int, ...] = (),
    formats: tuple[str, ...] = (),
    fixed: tuple[int, ...] = (),
    by_strips: int = 0,
    causal: int = 0,
    zero_point: int = 0,
    bank: int = 0,
    acc: int = 0,
    acc_step: int = 0,
    wait: Engines = (),
    signal: Engines = (),
) -> Instruction:
    """A kernel over rows and strips; ``streams``, ``pitches`` and ``formats`` (fp32, int8, int32) have one entry a stream.

    ``fixed`` names the streams whose address does not depend on the strip. ``valid`` is ``columns`` where it is left out.
    """
    given: dict[str, object] = {f"stream{i}": value for i, value in enumerate(streams)}
    given |= {f"pitch{i}": value for i, value in enumerate(pitches)}
    return make(
        "vector",
        wait,
        signal,
        **given,
        kernel=kernel,
        rows=rows,
        strips=strips,
        columns=columns,
        valid=columns if valid is None else valid,
        formats=formats,
        fixed=sum(1 << i for i in set(fixed)),
        by_strips=by_strips,
        causal=causal,
        zero_point=zero_point,
        bank=bank,
        acc=acc,
        acc_step=acc_step,
    )


def sync(engine: int | str, wait: Engines = (), signal: Engines = ()) -> Instruction:
    """Stand in an engine's queue, only waiting and signalling; ``sequencer``: hold the sequencer itself."""
    return make("sync", wait, signal, engine=engine)


def loop(count: Value, length: int) -> Instruction:
    """Repeat the next ``length`` instructions, the last of which is ``end``."""
    return make("loop", count=count, length=length)


def end() -> Instruction:
    """The last instruction of a loop's body."""
    return make("end")


def set_(to: str, a: str = "r0", op: int | str = "add", value: Value = 0) -> Instruction:
    """``to = a op value`` on scalar registers, by name."""
    return make("set", to=reg(to).register, a=reg(a).register, op=op, value=value)


def barrier() -> Instruction:
    """Wait until this core is quiet and all cores have come here."""
    return make("barrier")


def halt() -> Instruction:
    """The end of the program: the run is done when all engines are."""
    return make("halt")
