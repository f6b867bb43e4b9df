"""Damaged files through the real loaders: each gives something that works, or one clear sentence, and never a traceback."""

import random
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from frontend.onnx_models import Net
from fuzz import mutate
from presilicon import chip, frontend
from presilicon.errors import InputError
from presilicon.estimate.machine import machine
from presilicon.frontend import named
from presilicon.validate import facts

DATA = resources.files("presilicon") / "data"
VALUES = ["0", "-1", "nan", "inf", "-inf", "1e400", "true", "''", "'x'", "[]", "[1]", "{}", "1_0", "0x10", "é", "", "\0"]


def survives(use: Callable[[Path], object], path: Path, content: bytes) -> bool:
    """Whether the loader took a file; where not, its error is one sentence that says something."""
    path.write_bytes(content)
    try:
        use(path)
        told = None
    except InputError as error:
        told = error.message
    assert told is None or told.strip()
    assert "Traceback" not in (told or "")
    return told is None


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes cut, flipped, doubled or moved."""
    kind = rng.randrange(5)
    place = rng.randrange(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + rng.randbytes(rng.randrange(1, 9)) + content[place:]
    end = min(len(content), place + rng.randrange(1, 60))
    return content[:place] + content[end:] if kind == 3 else content[:end] + content[place:]


def edited(text: str, rng: random.Random, cell: str) -> bytes:
    """A text with one to three values (what matches ``cell``) replaced or exchanged, sometimes damaged as well."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(re.finditer(cell, text))
        one = rng.choice(found)
        value = rng.choice((rng.choice(VALUES), rng.choice(found).group()))
        text = text[: one.start()] + value + text[one.end() :]
    content = text.encode()
    return damaged(content, rng) if rng.random() < 0.3 else content


def test_configurations(tmp_path: Path) -> None:
    rng = random.Random(1)
    bases = [{"architectures": [row.architecture], **row.config} for row in named.rows() if row.config]

    def use(path: Path) -> None:
        model = frontend.load(str(path.parent))
        assert 0 < model.parameters < 1e30

    path = tmp_path / "config.json"
    taken = sum(survives(use, path, mutate(rng.choice(bases), rng, rng.choice(bases))) for _ in range(700))
    assert 50 < taken < 650, taken


def test_onnx_files(tmp_path: Path) -> None:
    rng = random.Random(2)
    net = Net()
    hidden = net.op("Relu", net.op("Gemm", net.input("x", "batch", 4), net.weight("w", 3, 4), net.weight("b", 3), transB=1))
    last = net.op("Reshape", net.op("MatMul", hidden, net.weight("v", 3, 2)), net.constant("shape", [-1, 1]))
    path = net.save(tmp_path / "model.onnx", last)
    whole = path.read_bytes()

    def use(path: Path) -> None:
        assert 0 <= frontend.load(str(path)).parameters < 1e30

    def mutant() -> bytes:
        content = whole
        for _ in range(rng.choice((1, 1, 2, 4))):
            content = damaged(content, rng) or b"\0"
        return content

    taken = sum(survives(use, path, mutant()) for _ in range(800))
    assert 10 < taken < 790, taken


def test_chips(tmp_path: Path) -> None:
    rng = random.Random(3)
    bases = [path.read_text(encoding="utf-8") for path in (DATA / "chips").iterdir() if path.name.endswith(".toml")]

    def use(path: Path) -> None:
        one = chip.load(str(path))
        assert chip.parse(one.to_toml()) == one
        if not one.missing():
            machine(one)

    path = tmp_path / "chip.toml"
    taken = sum(survives(use, path, edited(rng.choice(bases), rng, r"(?m)(?<== )[^\n]+|^[a-z_0-9]+(?= =)")) for _ in range(500))
    assert 5 < taken < 495, taken


FACTS = (
    "chip,dtype,m,n,k,latency_s\nnvidia-h100-sxm-80gb,bf16,16,4096,4096,1.2e-05\nnvidia-h100-sxm-80gb,fp8,64,512,4096,8e-06\n",
    "chip,dtype,m,n,k,latency_s,power_w\nnvidia-h200-sxm-141gb,bf16,4096,4096,4096,2.2e-04,650\n",
    "chip,collective,chips,message_bytes,latency_s\nnvidia-h100-sxm-80gb,all_reduce,8,1048576,3.1e-05\n",
    "chip,phase,batch_size,query_tokens,kv_tokens,num_heads,num_key_value_heads,head_dim,window_size,attn_dtype,"
    "kv_cache_dtype,latency_s\nnvidia-h100-sxm-80gb,decode,8,1,4096,32,8,128,0,bf16,bf16,2.5e-05\n",
)


def test_facts(tmp_path: Path) -> None:
    rng = random.Random(4)
    published = (DATA / "published" / "mlperf.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    bases = (*FACTS, "".join(published[:4]))

    def use(path: Path) -> None:
        assert len(facts.read(path)) > 0

    path = tmp_path / "table.csv"
    taken = sum(survives(use, path, edited(rng.choice(bases), rng, r"[^,\n]+")) for _ in range(500))
    assert 5 < taken < 495, taken


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xfe", b"[" * 100_000, b"\n" * 1000, b"a" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "model.onnx", "chip.toml", "table.csv"])
def test_files_of_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    load: Callable[[Path], object] = {
        "config.json": lambda path: frontend.load(str(path.parent)),
        "model.onnx": lambda path: frontend.load(str(path)),
        "chip.toml": lambda path: chip.load(str(path)),
        "table.csv": facts.read,
    }[name]
    assert not survives(load, tmp_path / name, content)
