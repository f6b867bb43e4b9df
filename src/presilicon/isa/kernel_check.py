"""What a kernel of micro-operations may not do, whatever its instruction: read what it has not written, or has just written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from presilicon.errors import IsaError
from presilicon.isa.streams import Extent, element_bytes, is_fixed, read_extent, write_extent
from presilicon.isa.uop import Uop, sections
from presilicon.template import Core

Fields = Mapping[str, int]


@lru_cache(maxsize=1024)
def check_registers(uops: tuple[Uop, ...]) -> None:
    """IsaError where a kernel reads a register that no micro-operation has written before it."""
    known: set[int] = set()
    for number, u in enumerate(uops):
        for register in u.reads:
            if register not in known:
                raise IsaError(
                    f"micro-operation {number} `{u}` reads r{register}, which the kernel has not written",
                    hint="every kernel writes a register before it reads it",
                )
        if u.to_en:
            known.add(u.to)


def check_lanes(core: Core, fields: Fields, uops: tuple[Uop, ...]) -> None:
    """IsaError where a kernel exchanges lanes that the core does not have, or has offsets by strips."""
    for number, u in enumerate(uops):
        if u.b == "exchange" and 1 << u.b_xor >= core.lanes:
            raise IsaError(f"micro-operation {number} `{u}`: the core has {core.lanes} lanes", hint="a distance below that")
        if u.offset and fields["by_strips"]:
            raise IsaError(f"micro-operation {number} `{u}` has an offset", hint="none with by_strips")
        if u.reads_stream and fields["formats"] >> 2 * u.read_stream & 3 > 1:
            raise IsaError(f"micro-operation {number} `{u}` reads a stream that is not fp32 or int8")
        if u.write_en and fields["formats"] >> 2 * u.write_stream & 3 > 2:
            raise IsaError(f"micro-operation {number} `{u}` writes a stream that is not fp32, int8 or int32")


def _counted(core: Core, fields: Fields, number: int) -> Extent:
    """What a stream reads that counts."""
    whole = read_extent(core, fields, number)
    columns = max(fields["columns"], fields["valid"])
    return Extent(whole.start, min(whole.run, columns * element_bytes(fields, number)), whole.pitch, whole.rows)


@dataclass(frozen=True, slots=True)
class _Place:
    """A micro-operation, its number, the part of the kernel it stands in, and that part's step (0: no loop)."""

    uop: Uop
    number: int
    part: int
    step: int


def _read_first(fields: Fields, reader: _Place, writer: _Place) -> bool:
    """Whether two streams laid out alike are read, element by element, before they are written."""
    if reader.part != writer.part:
        return reader.part < writer.part
    if is_fixed(fields, reader.uop.read_stream):
        return not reader.step and reader.number <= writer.number
    ahead = reader.uop.offset - writer.uop.offset
    if not reader.step or ahead % reader.step:
        return bool(ahead) or reader.number <= writer.number
    return ahead > 0 or (ahead == 0 and reader.number <= writer.number)


def check_streams(core: Core, fields: Fields, uops: tuple[Uop, ...]) -> None:
    """IsaError where a kernel may read from memory what it wrote in the same instruction."""
    places: list[_Place] = []
    for part, section in enumerate(sections(uops)):
        places += [_Place(u, len(places) + i, part, section.step) for i, u in enumerate(section.uops)]
    for writer in (p for p in places if p.uop.write_en):
        w = writer.uop.write_stream
        to = write_extent(core, fields, w)
        for reader in (p for p in places if p.uop.reads_stream):
            r = reader.uop.read_stream
            source = _counted(core, fields, r)
            if not source.run or not to.run or to.apart(source):
                continue
            alike = to.start == source.start and to.pitch == source.pitch and is_fixed(fields, w) == is_fixed(fields, r)
            alike = alike and element_bytes(fields, w) == element_bytes(fields, r)
            rows_apart = to.rows == 1 or to.pitch >= max(to.run, source.run)
            if not (alike and rows_apart and _read_first(fields, reader, writer)):
                raise IsaError(
                    f"micro-operation {reader.number} `{reader.uop}` may read what {writer.number} `{writer.uop}` has written"
                    " in the same instruction",
                    hint="streams apart, or one stream that is read at a strip before it is written there",
                )
