"""``presilicon cost``, and the export class in ``match``."""

from pathlib import Path

import pytest

from presilicon import chip

KEYS = ("die_usd", "package_usd", "memory_usd", "unit_usd", "nre_usd", "yield", "area_mm2")


def test_json_has_the_keys_that_others_script_against(run) -> None:
    found = run("cost", "h100", "--volume", "100000", "--json").json
    assert found["schema"] == "presilicon/cost/1"
    for key in KEYS:
        assert found[key]["p10"] <= found[key]["p50"] <= found[key]["p90"], key
    assert found["tpp"] == pytest.approx(15832)
    assert found["performance_density"] == pytest.approx(15832 / 814)
    assert found["policy"]["eccn"] == "3A090.a.1"
    assert set(found["area_mm2"]["blocks"]) == {"matrix", "vector", "sram", "uncore", "memory", "link", "host"}
    assert found["usd_at_volume"]["value"] == next(
        one["usd"]["value"] for one in found["volume_curve"] if one["volume"] == 100_000
    )
    assert found["unit_usd"]["value"] < found["price_usd"]["partner"]["value"] < found["price_usd"]["vendor"]["value"]
    assert {"wafer_usd", "defects_per_cm2", "memory_usd_per_gb"} <= {source["for"] for source in found["sources"]}


def test_the_table_fits_and_tells_what_is_not_published(run) -> None:
    told = run("cost", "rebellions-atom", "--volume", "5000").out
    assert all(len(line) <= 100 for line in told.splitlines())
    assert "modelled" in told
    assert "Not published: clock_hz (taken as 1 GHz)." in told
    assert "one at this volume" in told
    assert "not legal advice" in told


def test_a_template_chip_and_a_file_have_a_cost(run, tmp_path: Path) -> None:
    assert "vector_lanes" in run("cost", "core-16x16").out
    path = tmp_path / "mine.toml"
    path.write_text(chip.load("nvidia-l4").to_toml(), encoding="utf-8")
    assert run("cost", str(path), "--json").json["unit_usd"] == run("cost", "l4", "--json").json["unit_usd"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cost", "h1000"], "did you mean"),
        (["cost", "none.toml"], "none.toml"),
        (["cost", "h100", "--volume", "0"], "--volume"),
        (["cost", "h100", "--volume", "many"], "--volume"),
        (["cost", "etched-sohu"], "needs peak_ops_per_s"),
        (["cost", "google-tpu-v6"], "process_node is not published"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_bad_input(refused, arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


def test_an_unknown_node_in_a_file_is_named(refused, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(chip.load("nvidia-l4").to_toml().replace('"TSMC 4N"', '"TSMC N99"'), encoding="utf-8")
    said = refused("cost", str(path))
    assert "no process node is called 'TSMC N99'" in said
    assert "nvidia-l4" in said


def test_match_tells_the_export_class(run) -> None:
    found = run("match", "resnet50", "--json").json
    policies = {entry["chip"]: entry["policy"] for entry in found["ranking"]}
    assert policies["nvidia-h100-sxm-80gb"]["eccn"] == "3A090.a.1"
    assert policies["nvidia-t4"]["eccn"] == ""
    assert policies["etched-sohu"] is None
