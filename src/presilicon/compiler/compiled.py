"""A compiled model: its parts on the chip and, where nodes were refused, on the host; and its file.

The file is a ZIP archive: ``model.json`` (version, names, ports, parts), ``chip.toml``, and for each part its steps, constants
and one program a core. It is written whole or not at all.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from presilicon import chip as chips
from presilicon.chip import Chip
from presilicon.compiler.ports import Port
from presilicon.compiler.step_file import from_json, to_json
from presilicon.compiler.steps import Lowered
from presilicon.errors import IsaError, PresiliconError
from presilicon.files import write_whole
from presilicon.isa import Program
from presilicon.template import Core

VERSION = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipPart:
    """Steps and the programs that do them, one a core; ``step_of`` maps each core's instructions to steps (-1: none).

    The ports carry the names of values of the model's file: inputs, outputs and states of the part.
    """

    lowered: Lowered
    programs: tuple[Program, ...]
    step_of: tuple[tuple[int, ...], ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPart:
    """Nodes that the chip cannot do, as an ONNX model for the host; its inputs and outputs are values of the model's file."""

    name: str
    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A model for a chip: its parts in order, its inputs and outputs as the model's file has them."""

    name: str
    chip: Chip
    parts: tuple[ChipPart | HostPart, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __post_init__(self) -> None:
        core = self.core
        for part in self.chip_parts:
            for program in part.programs:
                program.check_core(core)

    @property
    def core(self) -> Core:
        """The core that it is for."""
        return Core.of(self.chip)

    @property
    def chip_parts(self) -> tuple[ChipPart, ...]:
        """The parts on the chip."""
        return tuple(part for part in self.parts if isinstance(part, ChipPart))

    @property
    def instructions(self) -> int:
        """Instructions of all programs."""
        return sum(len(program.instructions) for part in self.chip_parts for program in part.programs)

    @property
    def program_bytes(self) -> int:
        """What lies in DRAM before the start: instructions, kernels, constants."""
        images = (segment for part in self.chip_parts for program in part.programs for segment in program.image())
        return sum(len(segment.data) for segment in images)

    @property
    def dram_bytes(self) -> int:
        """DRAM that the largest part takes, tensors included."""
        return max((program.dram_bytes for part in self.chip_parts for program in part.programs), default=0)

    def write(self, path: str | Path) -> None:
        """Writes its file, whole or not at all; the same model gives the same bytes."""
        write_whole(path, lambda file: _write(self, file))

    @classmethod
    def read(cls, path: str | Path) -> Compiled:
        """The model in a file; IsaError, naming the file, where it is damaged, cut off or none."""
        try:
            with zipfile.ZipFile(path) as archive:
                return _read(archive)
        except OSError as error:
            raise IsaError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
        except zipfile.BadZipFile:
            whole = Path(path).read_bytes()[:4] == b"PK\x03\x04"
            text = "the file is cut off or damaged" if whole else "this is no compiled model"
            raise IsaError(text, where=str(path), hint="a file that presilicon compile wrote") from None
        except (KeyError, ValueError, TypeError, EOFError):
            raise IsaError("the file's contents are not those of a compiled model", where=str(path)) from None
        except PresiliconError as error:
            raise error.at(str(path)) from None


def memory(programs: tuple[Program, ...], size: int = 0) -> NDArray[np.uint8]:
    """DRAM with the images of all programs; at least ``size`` bytes."""
    dram = np.zeros(max(size, *(program.dram_bytes for program in programs)), np.uint8)
    for program in programs:
        for part in program.image():
            dram[part.address : part.end] = np.frombuffer(part.data, np.uint8)
    return dram


def _write(model: Compiled, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, content: bytes | str) -> None:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)

        parts: list[dict[str, Any]] = []
        for number, part in enumerate(model.parts):
            if isinstance(part, HostPart):
                put(f"{number}/host.onnx", part.model)
                names = {"inputs": part.inputs, "outputs": part.outputs, "nodes": part.nodes}
                parts.append({"host": part.name, **names})
                continue
            put(f"{number}/steps.json", json.dumps(_steps(part), separators=(",", ":")))
            for at, array in enumerate(part.lowered.constants.values()):
                with archive.open(zipfile.ZipInfo(f"{number}/constant{at}.npy", _EPOCH), "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)
            for at, program in enumerate(part.programs):
                with archive.open(zipfile.ZipInfo(f"{number}/core{at}", _EPOCH), "w", force_zip64=True) as entry:
                    for piece in program.pieces():
                        entry.write(piece)
            parts.append({"cores": len(part.programs)})
        meta = {
            "presilicon": VERSION,
            "name": model.name,
            "parts": parts,
            "ports": to_json({"inputs": model.inputs, "outputs": model.outputs}),
        }
        put("chip.toml", model.chip.to_toml())
        put("model.json", json.dumps(meta, indent=1))


def _steps(part: ChipPart) -> dict[str, Any]:
    low = part.lowered
    return to_json(
        {
            "name": low.name,
            "tensors": dict(low.tensors),
            "constants": list(low.constants),
            "steps": low.steps,
            "inputs": low.inputs,
            "outputs": low.outputs,
            "states": low.states,
            "arguments": dict(low.arguments),
            "origin": dict(low.origin),
            "step_of": part.step_of,
            "ports": (part.inputs, part.outputs),
        }
    )


def _read(archive: zipfile.ZipFile) -> Compiled:
    meta = json.loads(archive.read("model.json"))
    if meta["presilicon"] != VERSION:
        raise IsaError(f"the file is of version {meta['presilicon']}", hint=f"this release reads version {VERSION}")
    parts = tuple(_part(archive, number, entry) for number, entry in enumerate(meta["parts"]))
    ports = from_json(meta["ports"])
    return Compiled(
        name=meta["name"],
        chip=chips.parse(archive.read("chip.toml").decode("utf-8"), "chip.toml"),
        parts=parts,
        inputs=ports["inputs"],
        outputs=ports["outputs"],
    )


def _part(archive: zipfile.ZipFile, number: int, entry: Mapping[str, Any]) -> ChipPart | HostPart:
    if "host" in entry:
        names = {key: tuple(entry[key]) for key in ("inputs", "outputs", "nodes")}
        return HostPart(name=entry["host"], model=archive.read(f"{number}/host.onnx"), **names)
    told = from_json(json.loads(archive.read(f"{number}/steps.json")))
    constants = {
        name: np.load(io.BytesIO(archive.read(f"{number}/constant{at}.npy")), allow_pickle=False)
        for at, name in enumerate(told["constants"])
    }
    kept = {key: told[key] for key in ("name", "tensors", "steps", "inputs", "outputs", "states", "arguments", "origin")}
    return ChipPart(
        lowered=Lowered(constants=constants, **kept),
        programs=tuple(Program.from_bytes(archive.read(f"{number}/core{at}")) for at in range(entry["cores"])),
        step_of=told["step_of"],
        inputs=told["ports"][0],
        outputs=told["ports"][1],
    )
