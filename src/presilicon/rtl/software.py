"""What software needs of the registers: their map as JSON, a C header, and a page; all from ``register_map``."""

from __future__ import annotations

import json
from importlib import resources

from presilicon.rtl.register_map import IDENTITY, PAGE_BYTES, REGISTERS, VERSION, Register
from presilicon.template import Core

_ACCESS = {"r": "read", "rw": "read and write", "w": "write, reads as 0", "w1c": "read; a 1 clears its bit"}


def register_json(core: Core) -> str:
    """The register map as JSON: every word with its offset, and the fields of a register."""
    table = {
        "schema": "presilicon/registers/1",
        "version": f"{VERSION >> 16}.{VERSION & 0xFFFF}",
        "core_digest": core.digest(),
        "cores": core.cores,
        "page_bytes": PAGE_BYTES,
        "registers": [
            {
                "name": r.name,
                "offset": r.offset,
                "bits": r.bits,
                "access": r.access,
                "meaning": r.meaning,
                "words": [{"name": name, "offset": r.offset + 4 * i} for i, name in enumerate(r.word_names())],
                "fields": [{"name": f.name, "at": f.at, "bits": f.bits, "meaning": f.meaning} for f in r.fields],
            }
            for r in REGISTERS
        ],
    }
    return json.dumps(table, indent=2) + "\n"


def c_header(core: Core) -> str:
    """The register map as a C header: an offset for each word, a mask and a shift for each field."""
    lines = [
        "/* Registers of a presilicon core. Generated: change the table in presilicon/rtl/register_map.py instead. */",
        "#ifndef PRESILICON_REGISTERS_H",
        "#define PRESILICON_REGISTERS_H",
        "",
        f"#define PRESILICON_CORE_COUNT {core.cores}u",
        f"#define PRESILICON_PAGE_BYTES 0x{PAGE_BYTES:x}u /* of registers, each core */",
        f"#define PRESILICON_BUS_BYTES {core.bus_bytes}u /* programs and data are aligned to it */",
        f"#define PRESILICON_IDENTITY 0x{IDENTITY:08x}u /* what ID reads as */",
        f"#define PRESILICON_VERSION_MAJOR {VERSION >> 16}u",
        f"#define PRESILICON_DIGEST 0x{core.digest()}ull /* what DIGEST reads as: programs carry it */",
    ]
    for r in REGISTERS:
        lines += ["", f"/* {r.name}: {r.meaning} ({_ACCESS[r.access]}) */"]
        lines += [f"#define PRESILICON_{name} 0x{r.offset + 4 * i:03x}u" for i, name in enumerate(r.word_names())]
        for f in r.fields:
            name = f"PRESILICON_{r.name}_{f.name}"
            lines += [f"#define {name} 0x{((1 << f.bits) - 1) << f.at:x}u /* {f.meaning} */"]
            lines += [f"#define {name}_SHIFT {f.at}u"] if f.bits > 1 else []
    return "\n".join([*lines, "", "#endif", ""])


def register_page(core: Core) -> str:
    """The register map as a page of text (Markdown)."""
    lines = [
        "# Registers",
        "",
        "32-bit words behind AXI4-Lite. Core *c* has its page at *c* * 0x1000"
        + (f", *c* from 0 to {core.cores - 1}." if core.cores > 1 else "; there is one core.")
        + " A write with some byte strobes low, of a word that is only read, or of one that does not exist changes nothing and"
        " is answered with SLVERR, as is a read of a word that does not exist.",
        "",
        "A register of more than 32 bits takes two words, the low one first. Reading the low word of a counter keeps its high"
        " word for the read after it.",
        "",
        "| offset | register | bits | access | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| 0x{r.offset:03x} | {r.name} | {r.bits} | {_ACCESS[r.access]} | {_meaning(r)} |" for r in REGISTERS]
    return "\n".join(lines) + "\n"


def _meaning(r: Register) -> str:
    fields = "; ".join(
        f"bit{'s' if f.bits > 1 else ''} {f.at}{f' to {f.at + f.bits - 1}' if f.bits > 1 else ''} {f.name}: {f.meaning}"
        for f in r.fields
    )
    return f"{r.meaning}. {fields}" if fields else r.meaning


def software_files(core: Core) -> dict[str, str]:
    """The files for who writes drivers, by name."""
    folder = resources.files("presilicon.rtl")
    return {
        "registers.json": register_json(core),
        "REGISTERS.md": register_page(core),
        "CLOCKS.md": (folder / "CLOCKS.md").read_text(encoding="utf-8"),
        "software/presilicon_registers.h": c_header(core),
        "software/presilicon_driver.c": (folder / "presilicon_driver.c").read_text(encoding="utf-8"),
    }
