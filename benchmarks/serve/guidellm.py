"""GuideLLM against an endpoint at a concurrency of 16: its TTFT and inter-token latency beside the scheduler's own.

    python benchmarks/serve/guidellm.py --guidellm PATH/TO/guidellm --tokenizer DIR [--model M --chip C -- serve's options]

GuideLLM brings torch and transformers, so it lives in an environment of its own; ``--tokenizer`` is a directory with a
Hugging Face tokenizer, which GuideLLM needs to write its prompts (any will do: the endpoint counts for itself). Prints one
JSON object; exit code 1 where a mean is further than 10 % from the scheduler's.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

MAIN = "import sys; from presilicon.cli import main; sys.exit(main())"
SUM = re.compile(r"^vllm:(\w+)_(sum|count)\{.*\} (\S+)$", re.MULTILINE)


def scheduler_means(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        found = {(name, kind): float(value) for name, kind, value in SUM.findall(answer.read().decode())}
    names = ("time_to_first_token_seconds", "request_time_per_output_token_seconds")
    return {name: found[name, "sum"] / found[name, "count"] for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guidellm", default="guidellm")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--model", default="llama-3.1-70b")
    parser.add_argument("--chip", default="l40s")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--prompt-tokens", type=int, default=4096)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("serve", nargs="*", help="options of presilicon serve, after --")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-c",
        MAIN,
        "serve",
        options.model,
        "--chip",
        options.chip,
        "--port",
        "0",
        "--json",
        *options.serve,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            lines = [server.stdout.readline()]
            while lines[-1].strip() != "}":
                lines.append(server.stdout.readline())
            url = json.loads("".join(lines))["url"].removesuffix("/v1")
            found = measure(options, url)
        finally:
            server.terminate()
    print(json.dumps(found, indent=2))
    return int(any(abs(found[name]["ratio"] - 1) > 0.1 for name in ("ttft_s", "tpot_s")))


def measure(options: argparse.Namespace, url: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guidellm.json"
        lengths = f"prompt_tokens={options.prompt_tokens},output_tokens={options.output_tokens}"
        run = [
            options.guidellm, "run", "--disable-console",
            "--backend", f"kind=openai_http,target={url},model={options.model}",
            "--profile", "kind=concurrent,streams=16",
            "--constraint", f"kind=max_duration,seconds={options.seconds}",
            "--tokenizer", f"kind=hf_auto,model={options.tokenizer}",
            "--data", f"kind=synthetic_text,{lengths}",
            "--output", f"kind=json,path={path}",
        ]  # fmt: skip
        subprocess.run(run, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=sys.stderr)
        benchmark = json.loads(path.read_text())["benchmarks"][0]
    metrics, own = benchmark["metrics"], scheduler_means(url)
    theirs = {name: metrics[name]["successful"]["mean"] / 1e3 for name in ("time_to_first_token_ms", "inter_token_latency_ms")}
    pairs = (
        ("ttft_s", "time_to_first_token_ms", "time_to_first_token_seconds"),
        ("tpot_s", "inter_token_latency_ms", "request_time_per_output_token_seconds"),
    )
    return {
        "requests": metrics["request_totals"],
        **{name: {"guidellm": theirs[a], "scheduler": own[b], "ratio": theirs[a] / own[b]} for name, a, b in pairs},
    }


if __name__ == "__main__":
    sys.exit(main())
