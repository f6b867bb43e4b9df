"""Reports: one file, small, without a script or another host, and every figure of it the JSON's."""

from __future__ import annotations

import json
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from presilicon.cli import main
from presilicon.errors import InputError
from presilicon.view.design_report import design_document, read_design
from presilicon.view.document import Document, datum, html, pictures_of, shown
from presilicon.view.trace_report import read_trace_events
from presilicon.view.validation_report import read_rows

MOST_BYTES = 2e6


class Data(HTMLParser):
    """Every <data> element: its key, its exact value and its text; and every tag and address."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self._open: tuple[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "data":
            self._open = (given["data-key"] or "", given["value"] or "")

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found.append((*self._open, data))
            self._open = None


def at(found: Any, key: str) -> Any:
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


def checked(text: str, found: dict[str, Any]) -> int:
    """How many figures of a page are those of the JSON; all of them must be."""
    data = Data()
    data.feed(text)
    assert "script" not in data.tags
    assert not data.addresses
    assert len(text.encode()) < MOST_BYTES
    for key, value, told in data.found:
        assert float(value) == at(found, key), key
        units = ("", "/s", "s", "J", "W", "B", "USD", "mm2", "%", "Hz", "B/s", "years")
        assert told in {shown(float(value), unit) for unit in units}, key
    return len(data.found)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "out"
    command = f"replay llama-3.1-8b --chip h100 --rate 5 --requests 300 --ttft-s 0.5 --tpot-s 0.02 -o {folder}"
    assert main(command.split()) == 0
    return folder


def test_figures_of_a_replay_are_those_of_its_json(replayed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", str(replayed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "presilicon/report/1"
    assert len(told["summary"]) == 5
    found = json.loads((replayed / "report.json").read_text())
    text = (replayed / "report.html").read_text()
    assert checked(text, found) >= 18
    assert "presilicon replay llama-3.1-8b --chip h100 --rate 5 --requests 300 --ttft-s 0.5 --tpot-s 0.02</pre>" in text
    assert text.count("<svg") == 5


def test_pictures_are_written_as_files(replayed: Path, tmp_path: Path) -> None:
    assert main(["report", str(replayed), "-o", str(tmp_path / "r.html"), "--pictures", str(tmp_path / "pictures")]) == 0
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names >= {"time-to-first-token.svg", "requests.svg", "tokens.svg"}


def test_without_a_browser_nothing_is_half_written(
    replayed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRESILICON_BROWSER", "no-such-browser")
    assert main(["report", str(replayed), "-o", str(tmp_path / "r.html"), "--pdf"]) == 2
    assert "no-such-browser, which was not found" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"r.html"}


def test_pdf(replayed: Path, tmp_path: Path) -> None:
    assert main(["report", str(replayed), "-o", str(tmp_path / "r.html"), "--pdf"]) == 0
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "it holds no results"),
        ({"report.json": "{"}, "not a JSON file"),
        ({"report.json": "[]"}, "not an object"),
        ({"report.json": "{}"}, "cannot be read"),
        ({"report.json": "{}", "requests.csv": "id\n", "timeline.csv": "start_s\n"}, "not the results of a replay"),
        ({"design.json": "{}"}, "not the results of a search"),
    ],
)
def test_folders_that_hold_no_results(
    files: dict[str, str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.fixture
def designed(tmp_path: Path) -> Path:
    """What `design llama-3.1-8b --max-power-w 150 --node n5 --budget 20000` wrote, some of its rows."""
    (tmp_path / "design.json").write_text((Path(__file__).parent / "design.json").read_text())
    return tmp_path


def test_figures_of_a_search_are_those_of_its_json(designed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(designed)]) == 0
    found = json.loads((designed / "design.json").read_text())
    text = (designed / "report.html").read_text()
    assert checked(text, found) > 60
    for sentence in found["recommendation"]:
        assert escape(sentence) in text
    document = read_design(designed, made_by="presilicon")
    assert len(document.summary) == 5
    assert {"floorplan", "cost-and-energy", "cost-and-latency", "where-the-time-goes"} <= set(pictures_of(document))


def test_names_of_others_are_text_in_a_report(designed: Path) -> None:
    text = (designed / "design.json").read_text()
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    found = json.loads(text.replace("Llama-3.1-8B", hostile).replace("HBM", hostile))
    found["chosen"]["name"] = found["alternatives"][0]["chip"] = hostile
    checked(html(design_document(found, made_by=hostile)), found)
    assert "<img" not in html(design_document(found, made_by=hostile))


def test_rows_of_a_validation(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    head = "table,line,chip,format,benchmark,measured,predicted,ape,held_back,skipped\n"
    path.write_text(head + "".join(f"mlperf,{i},chip-{i % 3},int8,resnet50,{100 + i},{110 + i},0.1,1,\n" for i in range(50))
                    + "mlperf,60,chip-9,int8,x,5,,,0,no figure\n")  # fmt: skip
    document = read_rows(path, made_by="presilicon")
    assert "50 rows of 1 tables, 3 chips" in document.summary[0]
    assert "1 rows were not predicted" in document.summary[4]
    checked(html(document), {})
    for content in ("", "a,b\n1,2\n", head, head + "gemm,1,c,f,,x,1,,1,\n"):
        path.write_text(content)
        with pytest.raises(InputError):
            read_rows(path, made_by="presilicon")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    assert main(["check", "gemm:16x32x16", "--chip", "core-4x4", "--no-rtl", "--trace", str(path)]) == 0
    return path


def test_a_trace_of_the_simulator(trace: Path, tmp_path: Path) -> None:
    document: Document = read_trace_events(trace, made_by="presilicon")
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    assert f"{len(events):,} instructions" in document.summary[1]
    text = html(document)
    assert text.count("<title>") >= len(events)
    assert 'type="radio"' in text
    for content in ("{}", '{"traceEvents": []}', '{"traceEvents": [{"ph": "X"}]}', "no"):
        path = tmp_path / "broken.json"
        path.write_text(content)
        with pytest.raises(InputError):
            read_trace_events(path, made_by="presilicon")


def test_figures_carry_their_exact_value() -> None:
    assert datum(0.0123456, "s", "a.b") == '<data value="0.0123456" data-key="a.b">12.3 ms</data>'
    assert datum(None, "s", "a") == "-"
    assert datum(float("nan"), "s", "a") == "-"
    assert [shown(v, u) for v, u in ((1234.5, "USD"), (0.0123, "USD"), (814.2, "mm2"), (0.256, "%"), (12000.0, ""))] == [
        "1,234 USD", "0.0123 USD", "814 mm2", "25.6 %", "12,000",
    ]  # fmt: skip
