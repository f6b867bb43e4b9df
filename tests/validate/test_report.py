import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_calibrate import write
from test_fit import gemm_table, measured_by

from presilicon.validate.page import markdown
from presilicon.validate.report import ValidationReport, validate

KEYS = {"table", "rows", "skipped", "median_ape", "p90_ape", "spearman", "by_chip", "roofline", "leave_one_out", "constants"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ValidationReport:
    path = tmp_path_factory.mktemp("facts")
    one = write(path / "one.csv", measured_by({"launch_s": 2e-6}))
    two = write(path / "two.csv", gemm_table("nvidia-l4"))
    return validate([one, two, write(path / "three.csv", gemm_table("mystery"))], leave_one_out=False)


def finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def test_the_keys_that_others_script_against_are_there(report: ValidationReport):
    tables = json.loads(json.dumps(report.to_json()))["tables"]
    assert [t["table"] for t in tables] == ["gemm"] * 3
    assert all(set(t) >= KEYS for t in tables)
    assert finite(tables)
    assert tables[2]["skipped"] == [{"reason": "the chip is not in the library", "rows": tables[2]["rows"]}]


def test_rows_of_a_chip_that_no_fit_saw_are_all_scored(report: ValidationReport):
    assert report.tables[0].scored < report.tables[0].rows
    assert report.tables[1].scored == report.tables[1].rows


def test_every_row_is_written_with_its_figures(report: ValidationReport):
    rows = list(csv.DictReader(io.StringIO(report.rows_csv())))
    assert len(rows) == sum(len(found.table) for found in report.found)
    first = rows[0]
    assert first["table"] == "gemm"
    assert (first["m"], first["n"], first["line"]) == ("1", "32", "2")
    assert float(first["ape"]) == pytest.approx(abs(float(first["predicted"]) / float(first["measured"]) - 1), abs=1e-4)
    assert rows[-1]["skipped"]
    assert rows[-1]["predicted"] == ""


def test_the_page_is_the_same_for_the_same_tables(report: ValidationReport):
    page = markdown(report)
    assert page == markdown(report)
    assert "nan" not in page
    assert "## gemm" in page
    assert str(Path(report.tables[0].path).parent) not in page


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("chip,dtype,m,n,k,latency_s", [f"{c},{d},{s},{s},{s},{t}" for c in ("h100", "l4", "groq-lpu-v1", "x.toml")
         for d in ("bf16", "fp8", "int4", "mxfp4", "nvfp4", "fp32", "int32", "int8") for s in (1, 10**12)
         for t in (1e-12, 1e9)]),
        ("chip,collective,chips,message_bytes,latency_s", [f"h100,{k},{n},{s},1e-5" for k in ("all_reduce", "alltoall")
         for n in (1, 2, 10**12) for s in (1, 10**12)]),
        ("chip,phase,batch_size,query_tokens,kv_tokens,num_heads,num_key_value_heads,head_dim,window_size,attn_dtype,"
         "kv_cache_dtype,latency_s", [f"{c},{p},{b},1,{kv},{h},1,{d},{w},{a},fp8,1e-5" for c in ("h100", "l4", "groq-lpu-v1")
         for p in ("prefill", "decode") for b in (1, 10**12) for kv in (1, 10**12) for h in (1, 10**6) for d in (1, 10**6)
         for w in (0, 1, 10**12) for a in ("bf16", "fp8", "fp32", "int4")]),
        ("chip,dtype,m,n,k,latency_s,power_w", [f"{c},fp8,{s},{s},{s},{t},1e9" for c in ("h200", "groq-lpu-v1")
         for s in (1, 10**12) for t in (1e-12, 1e9)]),
    ],
)  # fmt: skip
def test_the_ends_of_what_a_table_may_hold_are_predicted_or_skipped(tmp_path: Path, header: str, rows: list[str]):
    path = tmp_path / "ends.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    found = validate([path])
    assert finite(found.to_json())
    assert "nan" not in markdown(found)
    assert found.rows_csv()
