"""A search that stops is resumed and ends as it would have; a store that is not its own is refused in a sentence."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from design.problems import small
from presilicon import design
from presilicon.design import Archive
from presilicon.errors import InputError

BUDGET = 900


def searched(folder: Path, **options):
    archive = Archive(small())
    *_, last = design.search(small(), folder=folder, budget=BUDGET, workers=1, archive=archive, **options)
    return archive, last


def stopped(folder: Path, snapshots: int) -> None:
    """A search that its caller leaves after a few blocks."""
    running = design.search(small(), folder=folder, budget=BUDGET, workers=1)
    for _ in range(snapshots):
        next(running)
    running.close()


@pytest.mark.parametrize("at", [1, 4])
def test_a_stopped_search_ends_as_an_undisturbed_one(tmp_path: Path, at: int) -> None:
    whole, last = searched(tmp_path / "whole")
    stopped(tmp_path / "parts", at)
    archive, again = searched(tmp_path / "parts", resume=True)
    assert np.array_equal(archive.designs, whole.designs)
    assert np.array_equal(archive.figures, whole.figures)
    assert again.best == last.best
    assert again.front == last.front


def test_every_design_is_in_the_store(tmp_path: Path) -> None:
    import duckdb

    archive, last = searched(tmp_path)
    told = duckdb.sql(f"SELECT count(*), min(usd_per_million_tokens) FROM '{tmp_path}/designs/*.parquet' WHERE violation = 0")
    assert told.fetchall()[0] == (last.feasible, last.best.figures["usd_per_million_tokens"])
    assert archive.evaluated == sum(
        duckdb.sql(f"SELECT count(*) FROM '{path}'").fetchall()[0][0] for path in (tmp_path / "designs").glob("*.parquet")
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "store.json").write_text((f / "store.json").read_text()[:40]), "no whole JSON"),
        (lambda f: edited(f, version="0.0.1"), "version 0.0.1"),
        (lambda f: edited(f, search="0" * 16), "another search"),
        (lambda f: edited(f, seed=7), "seed 7"),
        (lambda f: (f / "000000.parquet").write_bytes((f / "000000.parquet").read_bytes()[:500]), "not whole"),
        (lambda f: (f / "000000.parquet").write_bytes(b""), "not whole"),
        (lambda f: (f / "000001.parquet").replace(f / "000000.parquet"), "another search"),
    ],
    ids=["half a manifest", "version", "search", "seed", "half a block", "empty block", "other block"],
)
def test_a_spoilt_store_is_refused(tmp_path: Path, spoil, said: str) -> None:
    stopped(tmp_path, 3)
    spoil(tmp_path / "designs")
    with pytest.raises(InputError, match=said):
        searched(tmp_path, resume=True)


def edited(folder: Path, **values) -> None:
    told = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(told | values))


def test_a_folder_that_holds_a_search_is_not_overwritten(tmp_path: Path) -> None:
    stopped(tmp_path, 2)
    with pytest.raises(InputError, match="holds a search already"):
        searched(tmp_path)


RUN = "import sys; from presilicon.cli import main; sys.exit(main())"
ASKED = ["design", "llama-3.1-8b", "--node", "n5", "--chips", "1", "--budget", "6000", "--workers", "1", "--json"]


def told(folder: Path, *more: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *ASKED, "-o", str(folder), *more], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    return {key: value for key, value in found.items() if key not in ("seconds", "designs_per_s", "command")}


def test_a_killed_search_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = told(tmp_path / "whole")
    undisturbed.pop("files")
    moments = random.Random(2026)
    more: list[str] = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *ASKED, "-o", str(tmp_path / "killed"), *more],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and not list((tmp_path / "killed").glob("designs/*.parquet")):
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        more = ["--resume"]
    resumed = told(tmp_path / "killed", "--resume")
    resumed.pop("files")
    assert resumed == undisturbed


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [sys.executable, "-c", RUN, *ASKED, "-o", str(tmp_path)], capture_output=True, text=True, preexec_fn=limited
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "designs").glob("*.part"))
    assert os.listdir(tmp_path) == ["designs"]
