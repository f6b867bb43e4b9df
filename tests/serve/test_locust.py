"""Locust as a client, with the file that benchmarks/serve holds for users."""

import csv
import os
import subprocess
import sys
from pathlib import Path

LOCUSTFILE = Path(__file__).resolve().parents[2] / "benchmarks" / "serve" / "locustfile.py"


def test_locust(serve, tmp_path: Path) -> None:
    live = serve(speedup=20.0)
    command = [
        str(Path(sys.executable).with_name("locust")),
        "-f",
        str(LOCUSTFILE),
        "--headless",
        "--csv",
        "run",
        "-H",
        live.url,
    ]
    done = subprocess.run(
        [*command, "-u", "20", "-r", "20", "-t", "3s", "--stop-timeout", "5"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        env=os.environ | {"LOCUST_TOKENS": "30"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["Name"]: row for row in csv.DictReader((tmp_path / "run_stats.csv").read_text().splitlines())}
    for name in ("whole", "stream", "first token"):
        assert int(rows[name]["Request Count"]) > 5
        assert int(rows[name]["Failure Count"]) == 0
    live.wait_for("vllm:kv_cache_usage_perc", 0)
