"""The file of a program: magic, version, the core's digest, sections with their lengths, a checksum of it all.

    0  8 bytes   "PRESILIC"
    8  u32       version, 1
    12 16 bytes  digest of the core, hexadecimal
    28 u32       sections; of each its name (4 bytes) and length (u64)
       ...       their contents: META (JSON), INST (64 bytes each), UOPS (16 bytes each), DATA (segments one behind the other)
       32 bytes  SHA-256 of everything before

Numbers are little endian.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from itertools import chain
from typing import Any

from presilicon.errors import IsaError
from presilicon.isa.instruction import INSTRUCTION_BYTES, Instruction
from presilicon.isa.program import Kernel, Program, Region, Segment
from presilicon.isa.uop import UOP_BYTES, Uop

MAGIC = b"PRESILIC"
VERSION = 1
_HEAD = struct.Struct("<8sI16sI")
_ENTRY = struct.Struct("<4sQ")
_SECTIONS = (b"META", b"INST", b"UOPS", b"DATA")
_CHECKSUM = 32


def to_bytes(program: Program) -> bytes:
    """A program as the content of its file."""
    return b"".join(pieces(program))


def pieces(program: Program) -> Iterator[bytes]:
    """The content of a program's file piece by piece: its data are never there a second time."""
    meta = {
        "dram_bytes": program.dram_bytes,
        "address": program.address,
        "kernel_address": program.kernel_address,
        "kernels": [[k.name, k.start, len(k.uops)] for k in program.kernels],
        "data": [[s.address, len(s.data)] for s in program.data],
        "regions": [[r.name, r.kind, r.dtype, list(r.shape), r.address, r.register] for r in program.regions],
    }
    contents = (
        [json.dumps(meta, separators=(",", ":")).encode()],
        [b"".join(i.encode() for i in program.instructions)],
        [b"".join(u.encode() for k in program.kernels for u in k.uops)],
        [s.data for s in program.data],
    )
    head = _HEAD.pack(MAGIC, VERSION, program.core_digest.encode(), len(contents))
    lengths = (sum(map(len, content)) for content in contents)
    head += b"".join(_ENTRY.pack(name, length) for name, length in zip(_SECTIONS, lengths, strict=True))
    checksum = hashlib.sha256()
    for piece in chain([head], *contents):
        checksum.update(piece)
        yield piece
    yield checksum.digest()


def from_bytes(content: bytes) -> Program:
    """The program in the content of a file; IsaError says what is wrong with it."""
    if not content.startswith(MAGIC[: len(content)]) or not content:
        raise IsaError("this is no program", hint="a file that presilicon compile wrote")
    if len(content) < _HEAD.size + _CHECKSUM:
        raise IsaError(f"the file is cut off after {len(content)} bytes")
    _, version, digest, count = _HEAD.unpack_from(content)
    if version != VERSION:
        raise IsaError(f"the file is of version {version}", hint=f"this release reads version {VERSION}")
    at = _HEAD.size + count * _ENTRY.size
    if count != len(_SECTIONS):
        raise IsaError(f"the file has {count} sections", hint=f"{len(_SECTIONS)}")
    if at > len(content):
        raise IsaError(f"the file is cut off after {len(content)} bytes")
    entries = [_ENTRY.unpack_from(content, _HEAD.size + i * _ENTRY.size) for i in range(count)]
    size = at + sum(length for _, length in entries) + _CHECKSUM
    if size > len(content):
        raise IsaError(f"the file is cut off: {len(content)} of {size} bytes are there")
    if size < len(content):
        raise IsaError(f"{len(content) - size} bytes follow the program")
    if hashlib.sha256(content[:-_CHECKSUM]).digest() != content[-_CHECKSUM:]:
        raise IsaError("the file is damaged: its checksum does not hold")
    parts = {}
    for name, length in entries:
        parts[name] = content[at : at + length]
        at += length
    try:
        meta = json.loads(parts[b"META"])
        return _program(digest.decode("ascii"), meta, parts)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise IsaError("the file's contents are not those of a program") from None


def _program(digest: str, meta: dict[str, Any], parts: dict[bytes, bytes]) -> Program:
    words, uops, data = parts[b"INST"], parts[b"UOPS"], parts[b"DATA"]
    instructions = []
    for number, at in enumerate(range(0, len(words), INSTRUCTION_BYTES)):
        try:
            instructions.append(Instruction.decode(words[at : at + INSTRUCTION_BYTES]))
        except IsaError as error:
            raise error.at(f"instruction {number}") from None
    kernels, first = [], 0
    for name, start, count in meta["kernels"]:
        coded = [uops[UOP_BYTES * i : UOP_BYTES * (i + 1)] for i in range(first, first + count)]
        kernels.append(Kernel(name, start, tuple(Uop.decode(one) for one in coded)))
        first += count
    segments, at = [], 0
    for address, length in meta["data"]:
        segments.append(Segment(address, data[at : at + length]))
        at += length
    if first * UOP_BYTES != len(uops) or at != len(data):
        raise ValueError
    return Program(
        core_digest=digest,
        instructions=tuple(instructions),
        kernels=tuple(kernels),
        data=tuple(segments),
        regions=tuple(Region(name, kind, dtype, tuple(shape), *rest) for name, kind, dtype, shape, *rest in meta["regions"]),
        dram_bytes=meta["dram_bytes"],
        address=meta["address"],
        kernel_address=meta["kernel_address"],
    )
