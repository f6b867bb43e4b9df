"""Streams of a VECTOR: where their bytes lie, and in how free an order a kernel over them can be worked out.

The hardware works group after group and pass after pass. Where no element depends on that order all are computed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from presilicon.isa.uop import Section, Uop
from presilicon.template import Core

Fields = Mapping[str, int]

# By number of the format: fp32, int8, int32.
ELEMENT_BYTES = (4, 1, 4, 4)


def element_bytes(fields: Fields, number: int) -> int:
    """Bytes of an element of a stream."""
    return ELEMENT_BYTES[fields["formats"] >> 2 * number & 3]


def is_fixed(fields: Fields, number: int) -> bool:
    """Whether a stream's address does not depend on the strip."""
    return bool(fields["fixed"] >> number & 1)


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of a stream: ``rows`` runs of ``run`` bytes, ``pitch`` apart."""

    start: int
    run: int
    pitch: int
    rows: int

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.start + (self.rows - 1) * self.pitch + self.run

    def apart(self, other: Extent) -> bool:
        """Whether the two have no byte in common, as far as bounds and equal pitches tell."""
        if self.start >= other.end or other.start >= self.end:
            return True
        if self.pitch != other.pitch or not self.pitch:
            return False
        distance = (other.start - self.start) % self.pitch
        return distance >= self.run and self.pitch - distance >= other.run


def read_extent(core: Core, fields: Fields, number: int) -> Extent:
    """What a stream reads at most: whole strips."""
    strips = 1 if is_fixed(fields, number) else fields["strips"]
    run = strips * core.lanes * element_bytes(fields, number)
    return Extent(fields[f"stream{number}"] & 0xFFFFFF, run, fields[f"pitch{number}"], fields["rows"])


def write_extent(core: Core, fields: Fields, number: int) -> Extent:
    """What a stream writes at most: its columns."""
    columns = min(fields["columns"], core.lanes * (1 if is_fixed(fields, number) else fields["strips"]))
    run = columns * element_bytes(fields, number)
    return Extent(fields[f"stream{number}"] & 0xFFFFFF, run, fields[f"pitch{number}"], fields["rows"])


def _mapping(fields: Fields, number: int) -> tuple[int, ...]:
    return (
        fields[f"stream{number}"] & 0xFFFFFF,
        fields[f"pitch{number}"],
        element_bytes(fields, number),
        fields["fixed"] >> number & 1,
    )


def written(uops: tuple[Uop, ...]) -> frozenset[int]:
    """Streams that are written."""
    return frozenset(u.write_stream for u in uops if u.write_en)


def read(uops: tuple[Uop, ...]) -> frozenset[int]:
    """Streams that are read."""
    return frozenset(u.read_stream for u in uops if u.reads_stream)


def groups_are_free(core: Core, fields: Fields, uops: tuple[Uop, ...]) -> bool:
    """Whether all groups may be worked out side by side: none writes what another reads or writes.

    Nor changes a register that the first group has prepared for all.
    """
    prepared = {u.to for u in uops if u.once and u.to_en}
    if any(u.to in prepared for u in uops if u.to_en and not u.once):
        return False
    for w in written(uops):
        to = write_extent(core, fields, w)
        if is_fixed(fields, w) and fields["by_strips"]:
            return False
        for other in read(uops) | written(uops):
            same = _mapping(fields, other) == _mapping(fields, w)
            extents = [read_extent(core, fields, other)] * (other in read(uops))
            extents += [write_extent(core, fields, other)] * (other in written(uops))
            for extent in extents:
                if same and fields["rows"] > 1 and to.pitch < max(to.run, extent.run):
                    return False
                if not same and not to.apart(extent):
                    return False
    return True


def passes_are_free(core: Core, fields: Fields, section: Section) -> bool:
    """Whether all passes of a loop may be worked out side by side, given that the groups may.

    No register carries from one pass to the next, and what is written neither hits an address twice nor is read later on.
    """
    uops = section.uops
    ready: set[int] = set()
    changed = {u.to for u in uops if u.to_en}
    for u in uops:
        if any(r in changed and r not in ready for r in u.reads):
            return False
        if u.to_en:
            ready.add(u.to)
    for number, u in enumerate(uops):
        if not u.write_en:
            continue
        if is_fixed(fields, u.write_stream) or (u.offset >= section.step and not fields["by_strips"]):
            return False
        to = write_extent(core, fields, u.write_stream)
        for later in uops[number + 1 :]:
            if later.reads_stream and not to.apart(read_extent(core, fields, later.read_stream)):
                return False
    return True
