"""A search over a Ray cluster of two hosts: two network namespaces with a link of their own; as root.

    sudo .venv/bin/python benchmarks/ray_namespaces.py

Each namespace runs a raylet of one processor; the search runs in the first. Exit code 1 where its designs are not those of the
same search in one process, or where the second host had no part in the cluster.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("presilicon-a", "presilicon-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 6399
BIN = Path(sys.executable).parent
SEARCH = ["design", "llama-3.1-8b", "--node", "n5", "--chips", "1", "--budget", "6000", "--json"]
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return done.stdout


def inside(number: int, *command: str, check: bool = True) -> str:
    return run("ip", "netns", "exec", NAMES[number], *command, check=check)


@contextlib.contextmanager
def hosts():
    """Two namespaces joined by a pair of virtual interfaces; gone afterwards, with what runs in them."""
    try:
        for name in NAMES:
            run("ip", "netns", "add", name)
        run("ip", "link", "add", "veth-a", "netns", NAMES[0], "type", "veth", "peer", "name", "veth-b", "netns", NAMES[1])
        for number, interface in enumerate(("veth-a", "veth-b")):
            inside(number, "ip", "addr", "add", f"{ADDRESSES[number]}/24", "dev", interface)
            inside(number, "ip", "link", "set", interface, "up")
            inside(number, "ip", "link", "set", "lo", "up")
        yield
    finally:
        for number, name in enumerate(NAMES):
            for process in run("ip", "netns", "pids", name, check=False).split():
                run("kill", process, check=False)
            inside(number, str(BIN / "ray"), "stop", "--force", check=False)
            run("ip", "netns", "del", name, check=False)


def designs(folder: Path) -> list[tuple[object, ...]]:
    import duckdb

    return duckdb.sql(f"SELECT * FROM '{folder}/designs/*.parquet' ORDER BY ALL").fetchall()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ray-") as given, hosts():
        work = Path(given)
        ray = str(BIN / "ray")
        head = ["start", "--head", f"--node-ip-address={ADDRESSES[0]}", f"--port={PORT}", "--num-cpus=1"]
        inside(0, ray, *head, "--include-dashboard=false", f"--temp-dir={work / 'ray'}")
        inside(1, ray, "start", f"--address={ADDRESSES[0]}:{PORT}", f"--node-ip-address={ADDRESSES[1]}", "--num-cpus=1")
        count = "import ray, json; ray.init(address='auto'); print(json.dumps([n['NodeManagerAddress'] for n in ray.nodes()]))"
        nodes = json.loads(inside(0, sys.executable, "-c", count).splitlines()[-1])
        command = str(BIN / "presilicon")
        inside(0, command, *SEARCH, "--ray", f"{ADDRESSES[0]}:{PORT}", "-o", str(work / "spread"))
        run(command, *SEARCH, "--workers", "1", "-o", str(work / "here"))
        same = designs(work / "spread") == designs(work / "here")
        print(f"{len(nodes)} hosts ({', '.join(sorted(nodes))}); {len(designs(work / 'here')):,} designs, the same: {same}")
        return 0 if same and set(nodes) == set(ADDRESSES) else 1


if __name__ == "__main__":
    sys.exit(main())
