"""``presilicon design``: what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest

from presilicon import chip
from presilicon.chip import Chip

ASKED = ("design", "llama-3.1-8b", "--node", "n5", "--chips", "1", "--max-power-w", "150", "--budget", "8000", "--workers", "1")
KEYS = ("designs_evaluated", "designs_per_s", "chosen", "pareto", "decisions", "shadow_prices", "recommendation", "break_even")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("design")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict:
    """What the first run printed; the other tests read its folder."""
    from presilicon.cli import main

    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("sys.stdout.write", printed.append)
        assert main([*ASKED, "-o", str(folder), "--json"]) == 0
    return json.loads("".join(printed))


def test_the_keys_that_others_script_against(told: dict, folder: Path) -> None:
    assert told["schema"] == "presilicon/design/1"
    assert set(KEYS) <= set(told)
    written = json.loads((folder / "design.json").read_text())
    assert {name: written[name] for name in KEYS} == {name: told[name] for name in KEYS}
    assert told["designs_evaluated"] <= 8000


def test_the_chosen_chip_is_one_that_every_command_takes(told: dict, folder: Path, run) -> None:
    path = folder / told["chosen"]["chip_toml"]
    assert isinstance(chip.load(str(path)), Chip)
    figures, fields = told["chosen"]["figures"], told["chosen"]["fields"]
    estimate = run("estimate", "llama-3.1-8b", "--chip", str(path), "--batch", f"{fields['batch']:.0f}", "--weights", "fp8",
                   "--activations", "fp8", "--kv-cache", "fp8", "--json").json  # fmt: skip
    assert estimate["memory_bytes"] == pytest.approx(figures["memory_bytes"])
    # `estimate` answers a batch at once; the search keeps the system full: its tokens wait for others' prompts besides.
    assert estimate["time_per_output_token_s"] <= figures["time_per_output_token_s"]
    cost = run("cost", str(path), "--json").json
    assert cost["unit_usd"]["value"] == pytest.approx(figures["unit_usd"])
    assert cost["nre_usd"]["value"] == pytest.approx(told["chosen"]["nre_usd"]["value"])
    assert cost["tpp"] == pytest.approx(told["chosen"]["policy"]["tpp"])


def test_the_decisions_lead_to_the_chosen_design(told: dict) -> None:
    for decision in told["decisions"]:
        assert told["chosen"]["fields"][decision["axis"]] == decision["after"]
        assert decision["bottleneck"]
    assert told["decisions"][-1]["figure"] == told["chosen"]["figures"]["usd_per_million_tokens"]
    assert [d["step"] for d in told["decisions"]] == list(range(1, len(told["decisions"]) + 1))


def test_prices_of_more_and_the_nearly_chosen(told: dict) -> None:
    binding = [price for price in told["shadow_prices"] if price["kind"] == "limit"]
    assert any(price["of"] == "power of all chips" for price in binding)
    assert all(price["gain"] >= -1e-9 for price in binding)
    assert all(near["ratio"] >= 1.0 for near in told["near"])
    assert {near["axis"] for near in told["near"]} >= {"memory", "formats"}


def test_the_verdict_carries_both_spreads(told: dict) -> None:
    chosen = told["chosen"]["usd_per_million_tokens"]
    assert chosen["p10"] < chosen["value"] < chosen["p90"]
    bought = [a for a in told["alternatives"] if a["way"] == "buy"]
    costs = [a["usd_per_million_tokens"]["value"] for a in bought]
    assert costs == sorted(costs)
    for a in bought:
        assert a["inside_interval"] == (a["lead"]["p10"] < 1.0 < a["lead"]["p90"])
        even, saving = (
            a["break_even"],
            a["usd_per_million_tokens"]["value"] - told["chosen"]["usd_per_million_tokens_without_nre"]["value"],
        )
        assert (even["chips"] is None) == (saving <= 0)
    assert told["break_even"]["against"] == bought[0]["chip"]
    assert len(told["recommendation"]) == 3
    assert ("Do not build" in told["recommendation"][0]) == bought[0]["inside_interval"]
    assert "no RTL exists" in told["recommendation"][2]
    assert "3A090" in told["recommendation"][2]
    swings = [abs(s["at_high"] - s["at_low"]) for s in told["sensitivity"]]
    assert swings == sorted(swings, reverse=True)


def test_a_second_run_in_the_folder_asks_for_resume(told: dict, folder: Path, refused, run) -> None:
    assert "--resume" in refused(*ASKED, "-o", str(folder))
    again = run(*ASKED, "-o", str(folder), "--resume")
    assert again.code == 0
    assert told["chosen"]["name"] in again.out
    assert max(map(len, again.out.splitlines())) <= 100
    assert "another search" in refused(*ASKED, "-o", str(folder), "--resume", "--tpot-s", "0.1")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--objective", "speed"), "tokens-per-second"),
        (("--node", "n6"), "n5"),
        (("--memory", "HBM9"), "HBM"),
        (("--space", "none.toml"), "cannot be read"),
        (("--build",), "--space template"),
        (("--max-area-mm2", "0"), "above zero"),
        (("--ray", "127.0.0.1:9"), "no Ray cluster answers"),
        (("--workload", "none.toml"), "none.toml"),
    ],
)
def test_what_is_refused(tmp_path: Path, refused, more: tuple[str, ...], said: str) -> None:
    assert said in refused("design", "llama-3.1-8b", "--budget", "400", "--workers", "1", "-o", str(tmp_path / "x"), *more)


def test_limits_that_no_design_holds(tmp_path: Path, run) -> None:
    asked = ("design", "llama-3.1-8b", "--budget", "400", "--workers", "1", "-o", str(tmp_path), "--max-power-w", "3")
    result = run(*asked)
    assert result.code == 2
    assert "power of all chips is" in result.err
    assert "a limit of" in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "design.json").exists()


def test_the_folder_that_cannot_be_made(tmp_path: Path, refused) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused(*ASKED, "-o", str(tmp_path / "file"))
