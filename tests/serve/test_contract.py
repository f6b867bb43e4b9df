"""schemathesis over the OpenAPI description of a running endpoint: no answer that the description does not allow."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LEAST_CASES = 2000
CHAT = "/v1/chat/completions"


def test_the_endpoint_keeps_to_its_description(serve, tmp_path: Path) -> None:
    live = serve(api_keys=("key",), speedup=1e6, context_tokens=24, output_tokens=8)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{live.url}/openapi.json",
        "-H", "Authorization: Bearer key", "--checks", "all", "--exclude-checks", "positive_data_acceptance",
        "--phases", "coverage,fuzzing", "--continue-on-failure", "--seed", "1", "--no-color",
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "contract_checks", "PYTHONPATH": str(HERE)}
    cases, runs = 0, []
    for name, paths in (("chat", ["-n", "120", "--include-path", CHAT]), ("rest", ["-n", "640", "--exclude-path", CHAT])):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "out").open("w") as out:
            runs.append(
                (subprocess.Popen([*command, *paths], stdout=out, stderr=out, cwd=folder, env=environment), folder / "out")
            )
    for run, out in runs:
        code, said = run.wait(150), out.read_text()
        assert code == 0, said[-4000:]
        generated = re.search(r"(\d+) generated, \1 passed", said)
        assert generated, said[-1000:]
        cases += int(generated[1])
    assert cases >= LEAST_CASES
    assert live.metric("vllm:generation_tokens_total") > 1000  # the cases reached the engine
    live.wait_for("vllm:kv_cache_usage_perc", 0)
    assert live.client.get("/health").json() == {"status": "ok"}
    print(f"{cases} cases")
