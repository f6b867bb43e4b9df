"""Chips that multiply int8 only: work without a MAC does not ask for another format."""

import json

import pytest

from presilicon.cli import main


@pytest.mark.parametrize("chip", ["furiosaai-warboy", "core-16x16"])
def test_network_on_int8_only(chip: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "resnet50", "--chip", chip, "--weights", "int8", "--activations", "int8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["energy_j"] > 0
