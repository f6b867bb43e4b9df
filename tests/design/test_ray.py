"""Two raylets on loopback, one of whose workers is killed in mid run, give what one process gives."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, os, signal, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import numpy as np
from ray.cluster_utils import Cluster
from design.problems import small
from presilicon import design
from presilicon.design import Archive
import ray

def main():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    problem, spread, here = small(), Archive(small()), Archive(small())
    killed = nodes = 0
    for number, _ in enumerate(design.search(problem, budget=900, seed=3, ray=cluster.address, archive=spread)):
        if number == 3:
            nodes = sum(node["Alive"] for node in ray.nodes())
            killed = ray.get(ray.remote(lambda: os.getpid()).remote())
            os.kill(killed, signal.SIGKILL)
    cluster.shutdown()
    for _ in design.search(problem, budget=900, seed=3, workers=1, archive=here):
        pass
    same = np.array_equal(spread.designs, here.designs) and np.array_equal(spread.figures, here.figures)
    print(json.dumps({"nodes": nodes, "killed": killed, "same": same, "evaluated": here.evaluated}))

if __name__ == "__main__":
    main()
"""


def test_a_cluster_that_loses_a_worker_gives_the_same_result(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(SCRIPT)
    tests = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": tests, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nodes"] == 2
    assert found["killed"] > 0
    assert found["same"]
    assert found["evaluated"] > 500
