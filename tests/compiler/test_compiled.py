"""The file of a compiled model: what is written is read back, what is damaged is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_meaning import layer_norm

from presilicon.chip import load
from presilicon.compiler.compiled import ChipPart, Compiled, HostPart, memory
from presilicon.compiler.ports import Port
from presilicon.compiler.step_file import from_json, to_json
from presilicon.compiler.steps import Binding, Lowered, Rows, Tensor
from presilicon.errors import InputError, IsaError
from presilicon.isa import Program, Region, Segment, halt
from presilicon.template import Core

CHIP = load("core-4x4")


def compiled() -> Compiled:
    x, y = Tensor("x", 3, 8), Tensor("y", 3, 8)
    lowered = Lowered(
        name="norm",
        tensors={"x": x, "y": y},
        constants={"gamma": np.arange(8, dtype=np.float32), "beta": np.ones(8, np.float32)},
        steps=(
            Rows(
                name="norm",
                program=layer_norm(8, 1e-5),
                streams=(Binding("x", "x"),),
                columns=(Binding("gamma", "gamma"), Binding("beta", "beta")),
                outputs=(Binding("y", "y"),),
            ),
        ),
        inputs=("x",),
        outputs=("y",),
        origin={"norm": ("/layer/norm",)},
    )
    program = Program.build(
        Core.of(CHIP),
        [halt()],
        data=[Segment(4096, b"abc")],
        regions=[Region("x", "input", "float32", (3, 8), 0), Region("y", "output", "float32", (3, 8), 256)],
        address=8192,
    )
    ports = tuple(Port(name=name, dtype="float32", shape=(3, 8), tensor=name) for name in "xy")
    part = ChipPart(lowered=lowered, programs=(program,), step_of=((0,),), inputs=ports[:1], outputs=ports[1:])
    host = HostPart(name="host", model=b"onnx", inputs=("y",), outputs=("z",), nodes=("Mod_3",))
    return Compiled(name="norm", chip=CHIP, parts=(part, host), inputs=ports[:1], outputs=ports[1:])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    model = compiled()
    model.write(tmp_path / "m")
    model.write(tmp_path / "again")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "again").read_bytes()
    back = Compiled.read(tmp_path / "m")
    (part, host), (part_back, host_back) = model.parts, back.parts
    assert isinstance(part, ChipPart)
    assert isinstance(part_back, ChipPart)
    assert host_back == host
    assert replace(back, parts=()) == replace(model, parts=())
    assert part_back.lowered.steps == part.lowered.steps
    assert dict(part_back.lowered.tensors) == dict(part.lowered.tensors)
    assert all(np.array_equal(part_back.lowered.constants[k], v) for k, v in part.lowered.constants.items())
    assert (part_back.programs, part_back.step_of, part_back.inputs) == (part.programs, part.step_of, part.inputs)
    assert dict(part_back.lowered.origin) == {"norm": ("/layer/norm",)}
    assert back.program_bytes == 64 + 3
    assert memory(part.programs)[4096:4099].tobytes() == b"abc"


def test_shared_operands_are_written_once() -> None:
    program = layer_norm(8, 1e-5)
    written = to_json(program)
    assert len(written["operands"]) < 40
    assert from_json(written) == program


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "cut off or damaged"),
        (lambda whole: b"\x7fELF" + whole[4:], r"no compiled model|cut off|damaged"),
        (lambda whole: b"", "no compiled model"),
        (lambda whole: whole.replace(b'"presilicon": 1', b'"presilicon": 7'), "damaged|version 7"),
        (lambda whole: whole.replace(b"PRESILIC", b"PRESILIX"), "damaged|no program"),
    ],
)
def test_damaged(change: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    compiled().write(path)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(IsaError, match=message) as refused:
        Compiled.read(path)
    assert str(path) in str(refused.value)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(IsaError, match="No such file"):
        Compiled.read(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be written"):
        compiled().write(tmp_path / "no" / "folder")


def test_another_chips_program_is_refused() -> None:
    with pytest.raises(IsaError, match="made for another chip"):
        replace(compiled(), chip=load("core-8x8"))
