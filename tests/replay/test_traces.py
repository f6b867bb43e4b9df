"""Traces are read, and every broken line is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from presilicon.errors import WorkloadError
from presilicon.replay import read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 19:15:50.9951690,1,1\n"
)
MOONCAKE = (
    '{"timestamp": 100, "input_length": 1030, "output_length": 6, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 3100, "input_length": 600, "output_length": 4, "hash_ids": [0, 9]}\n\n'
    '{"timestamp": 3100, "input_length": 5, "output_length": 1}\n'
)
PLAIN = "input_tokens,arrival_s,output_tokens,user\n10,0.5,20,x\n11,0.5,21,y\n\n12,2.5,22,z\n"


DAMAGE = (b"", b"0", b"-", b"\0", b"\xff", b",", b"\n", b'"', b"1e9", b"{")


@pytest.fixture
def trace(tmp_path: Path):
    def write(text: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_azure(trace) -> None:
    found = read_trace(trace(AZURE))
    assert [(r.input_tokens, r.output_tokens) for r in found] == [(374, 44), (396, 109), (1, 1)]
    assert [r.arrival_s for r in found] == pytest.approx([0.0, 4.314579, 3604.314579], abs=1e-6)
    assert [r.id for r in found] == [0, 1, 2]
    later = read_trace(trace(AZURE.replace("0,1,1", "0+00:00,1,1")))  # dates of 2024 tell their zone
    assert later == found


def test_mooncake(trace) -> None:
    found = read_trace(trace(MOONCAKE))
    assert [r.arrival_s for r in found] == pytest.approx([0.0, 3.0, 3.0])
    assert found[0].prefix == (0, 1, 2)
    assert found[0].prefix_tokens == 512
    assert found[2].prefix == ()


def test_plain_and_its_options(trace) -> None:
    path = trace("\ufeff" + PLAIN)
    assert [r.arrival_s for r in read_trace(path)] == [0.0, 0.0, 2.0]
    assert [r.arrival_s for r in read_trace(path, speed=2.0)] == [0.0, 0.0, 1.0]
    assert [r.input_tokens for r in read_trace(path, most=2)] == [10, 11]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", "line 1", "missing"),
        ("a,b\n1,2\n", "line 1", "arrival_s"),
        ("TIMESTAMP,ContextTokens\n", "line 1", "GeneratedTokens"),
        ("arrival_s,input_tokens,output_token\n", "line 1", "output_tokens"),
        ("arrival_s,input_tokens,output_tokens\n", "trace.csv", "no requests"),
        (PLAIN.replace("2.5", "0.1"), "line 5", "comes after"),
        (PLAIN.replace("0.5,20", "-0.5,20"), "line 2", "arrival_s"),
        (PLAIN.replace("0.5,20", "nan,20"), "line 2", "arrival_s"),
        (PLAIN.replace("12,", "0,"), "line 5", "input_tokens"),
        (PLAIN.replace(",22", ",1.5"), "line 5", "output_tokens"),
        (PLAIN.replace(",22", ",1e30"), "line 5", "output_tokens"),
        (PLAIN.replace(",22,z", ",22"), "line 5", "cells"),
        (PLAIN.replace("z", '"z'), "line 5", "CSV"),
        (AZURE.replace("2023-11-16 19", "yesterday 19"), "line 4", "TIMESTAMP"),
        (AZURE.replace("2023-11-16 19", "2022-11-16 19"), "line 4", "comes after"),
        (MOONCAKE.replace("1030", "0"), "line 1", "input_length"),
        (MOONCAKE.replace('"output_length": 4', '"output_len": 4'), "line 2", "output_length"),
        (MOONCAKE.replace("[0, 9]", '"0"'), "line 2", "hash_ids"),
        (MOONCAKE.replace("[0, 9]", "[0, {}]"), "line 2", "hash_ids"),
        (MOONCAKE.replace("3100", "50"), "line 2", "comes after"),
        (MOONCAKE.replace("600", "true"), "line 2", "input_length"),
        (MOONCAKE + "[1]\n", "line 5", "JSON object"),
        (MOONCAKE + "{\n", "line 5", "JSON object"),
        (b"arrival_s\xff\n", "trace.csv", "UTF-8"),
    ],
)
def test_a_broken_line_is_named(trace, text: str | bytes, place: str, what: str) -> None:
    with pytest.raises(WorkloadError) as told:
        read_trace(trace(text))
    assert place in told.value.where
    assert what in told.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_trace(tmp_path)


def test_damaged_traces_are_read_or_refused(trace) -> None:
    rng = random.Random(4)
    for round_ in range(240):
        text = bytearray((AZURE, MOONCAKE, PLAIN)[round_ % 3].encode())
        for _ in range(rng.choice((1, 2, 5))):
            place = rng.randrange(len(text))
            text[place : place + rng.randrange(3)] = rng.choice(DAMAGE)
        try:
            found, told = read_trace(trace(bytes(text))), None
        except WorkloadError as error:
            found, told = [], error.message
        assert found or told
