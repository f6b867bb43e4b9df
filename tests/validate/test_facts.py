import random
import re
from pathlib import Path

import numpy as np
import pytest

from presilicon.errors import FactsError
from presilicon.validate import facts

GEMM = "chip,dtype,m,n,k,latency_s\nh100,bf16,1,32,64,2.5e-06\nh100,fp8,128,4096,4096,1e-05\n"
ATTENTION = (
    "chip,phase,batch_size,query_tokens,kv_tokens,num_heads,num_key_value_heads,head_dim,window_size,attn_dtype,"
    "kv_cache_dtype,latency_s\nh100,decode,8,1,1024,32,8,128,0,bfloat16,fp8,1.2e-05\n"
)
COLLECTIVE = "chip,collective,chips,message_bytes,latency_s\nh100,all_reduce,4,65536,2e-05\n"
SERVING = (
    "chip,model,precision,input_tokens,output_tokens,total_concurrency,gpus,tensor_parallel,data_parallel,expert_parallel,"
    "ttft_s,tpot_s\nh100,gpt-oss-120b,fp4,1024,1024,4,1,1,1,1,0.1,0.01\n"
)
MLPERF = (
    "round,accelerator,total_accelerators,benchmark,scenario,unit,value,inferred,power_tuned\n"
    "v5.0,NVIDIA L4,1,resnet50,Offline,samples/s,13000,0,0\n"
)
TABLES = {"gemm": GEMM, "attention": ATTENTION, "collective": COLLECTIVE, "serving": SERVING, "mlperf": MLPERF}


def test_a_table_is_told_by_its_header_whatever_the_order_and_the_columns_beside():
    for kind, text in TABLES.items():
        assert facts.parse(text, "t.csv").kind == kind
    power = "power_w,latency_s,k,n,m,dtype,chip,framework\n500,1e-3,64,32,1,bf16,h100,mine\n"
    table = facts.parse(power, "t.csv")
    assert table.kind == "power"
    assert table["framework"].tolist() == ["mine"]


def test_columns_are_arrays_with_the_lines_they_come_from():
    table = facts.parse(GEMM.replace("\nh100,fp8", "\n\nh100,fp8"), "t.csv")
    assert len(table) == 2
    assert table.lines.tolist() == [2, 4]
    assert table["m"].tolist() == [1.0, 128.0]
    assert table.take(np.array([False, True]))["dtype"].tolist() == ["fp8"]
    assert table.row(0)["latency_s"] == 2.5e-6


def test_formats_have_one_name():
    assert facts.parse(ATTENTION, "t.csv")["attn_dtype"].tolist() == ["bf16"]
    assert facts.parse(GEMM.replace("fp8", "FP4"), "t.csv")["dtype"].tolist() == ["bf16", "nvfp4"]
    assert facts.parse(SERVING, "t.csv")["precision"].tolist() == ["fp4"]  # what fp4 is depends on the model


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        (GEMM.replace("1e-05", "0"), 3, "latency_s"),
        (GEMM.replace("1e-05", "-1e-05"), 3, "latency_s"),
        (GEMM.replace("1e-05", "nan"), 3, "latency_s"),
        (GEMM.replace("1e-05", "inf"), 3, "latency_s"),
        (GEMM.replace("1e-05", "fast"), 3, "latency_s"),
        (GEMM.replace("1e-05", ""), 3, "latency_s"),
        (GEMM.replace(",128,", ",128.5,"), 3, "m"),
        (GEMM.replace(",128,", ",1e30,"), 3, "m"),
        (GEMM.replace(",128,", f",{10**400},"), 3, "m"),
        (GEMM.replace(",128,", ",1_28,"), 3, "m"),
        (GEMM.replace("fp8", "fp9"), 3, "dtype"),
        (GEMM.replace("h100,fp8", ",fp8"), 3, "chip"),
        (GEMM.replace("latency_s", "latency"), 1, "latency_s"),
        (GEMM.replace(",m,", ",n,"), 1, "n"),
        (ATTENTION.replace("32,8,128", "32,7,128"), 2, "num_key_value_heads"),
        (ATTENTION.replace("8,1,1024", "8,2048,1024"), 2, "query_tokens"),
        (ATTENTION.replace("decode", "encode"), 2, "phase"),
        (COLLECTIVE.replace("all_reduce", "reduce_all"), 2, "collective"),
        (MLPERF.replace("13000", "0"), 2, "value"),
        (MLPERF.replace("0,0\n", "0,2\n"), 2, "power_tuned"),
    ],
)
def test_a_broken_cell_is_named_by_file_line_and_column(text: str, line: int, column: str):
    with pytest.raises(FactsError) as error:
        facts.parse(text, "mine.csv")
    assert error.value.where == f"mine.csv, line {line}, column {column}"
    assert error.value.hint
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (GEMM.split("\n")[0].encode(), "no rows"),
        (b"a,b,c\n1,2,3\n", "of no known table"),
        (GEMM.encode() + b"h100,bf16,1,1,1\n", "5 cells, the header has 6"),
        (GEMM.encode() + b"h\xff00,bf16,1,1,1,1e-6\n", "is not UTF-8"),
        (GEMM.encode() + b'"h100,bf16,1,1,1,1e-6\n', "not a CSV row"),
        (GEMM.encode() + b"h100,bf16,1,1,1,1\x00e-6\n", "is not seconds"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, data: bytes, message: str):
    path = tmp_path / "mine.csv"
    path.write_bytes(data)
    with pytest.raises(FactsError, match=re.escape(message)) as error:
        facts.read(path)
    assert str(path) in error.value.where


def test_a_byte_order_mark_and_carriage_returns_are_no_fault(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbf" + GEMM.replace("\n", "\r\n").encode())
    assert len(facts.read(path)) == 2


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(FactsError, match="cannot be read"):
            facts.read(path)


def test_the_folder_is_the_given_one_or_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(facts.VARIABLE, str(tmp_path))
    assert facts.folder() == tmp_path
    assert facts.folder(tmp_path.parent) == tmp_path.parent
    monkeypatch.setenv(facts.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(FactsError, match="no such folder"):
        facts.folder()


def test_a_folder_gives_its_known_tables_and_mlperf_is_always_there(tmp_path: Path):
    (tmp_path / "kernels_gemm.csv").write_text(GEMM)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "own.csv").write_text(COLLECTIVE)
    found = facts.tables((), tmp_path)
    assert [table.kind for table in found] == ["gemm", "collective", "mlperf"]
    assert len(found[-1]) == 597
    (tmp_path / "kernels_power.csv").write_text(GEMM)
    with pytest.raises(FactsError, match="power_w is missing"):
        facts.tables((), tmp_path)


def _damaged(text: str, chance: random.Random) -> bytes:
    data = bytearray(text.encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(6):
            case 0:
                del data[at : at + chance.randint(1, 9)]
            case 1:
                data[at] = chance.randrange(256)
            case 2:
                data[at:at] = chance.choice([b",", b'"', b"\n", b"nan", b"-", b"1e400", b"\x00", b"\xff", b"\r", "é".encode()])
            case 3:
                data = data[:at]
            case 4:
                data += data[at:]
            case _:
                cells = bytes(data).split(b",")
                chance.shuffle(cells)
                data = bytearray(b",".join(cells))
        if not data:
            break
    return bytes(data)


def test_damaged_tables_are_read_or_refused_in_one_sentence(tmp_path: Path):
    chance = random.Random(7)
    path, refused, sentences = tmp_path / "damaged.csv", 0, set()
    for count in range(1500):
        path.write_bytes(_damaged(list(TABLES.values())[count % len(TABLES)], chance))
        try:
            table = facts.read(path)
        except FactsError as error:
            refused += 1
            sentences.add(error.message)
        else:
            assert all(np.all(np.isfinite(c)) for c in table.columns.values() if c.dtype == np.float64)
    assert refused > 500
    assert all(text and "\n" not in text for text in sentences)
