"""Locust users who chat with an endpoint, streamed and whole; the time to the first token is an entry of its own.

locust -f benchmarks/serve/locustfile.py --headless -u 50 -r 50 -t 60s -H http://127.0.0.1:8000

The model is the first that ``/v1/models`` lists; LOCUST_TOKENS sets the tokens of an answer.
"""

import os
import time

from locust import HttpUser, between, task

TOKENS = int(os.environ.get("LOCUST_TOKENS", "50"))


class Chat(HttpUser):
    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        self.model = self.client.get("/v1/models").json()["data"][0]["id"]

    def body(self, **more: object) -> dict[str, object]:
        message = [{"role": "user", "content": "Tell me about chips that do not exist. " * 20}]
        return {"model": self.model, "messages": message, "max_tokens": TOKENS} | more

    @task
    def whole(self) -> None:
        with self.client.post("/v1/chat/completions", json=self.body(), name="whole", catch_response=True) as answer:
            if answer.json()["usage"]["completion_tokens"] != TOKENS:
                answer.failure("tokens were lost")

    @task(3)
    def streamed(self) -> None:
        begin, tokens = time.perf_counter(), 0
        with self.client.post(
            "/v1/chat/completions", json=self.body(stream=True), name="stream", stream=True, catch_response=True
        ) as answer:
            for line in answer.iter_lines():
                if b'"delta":{"content":' in line:
                    tokens += 1
                    if tokens == 1:
                        first_ms = (time.perf_counter() - begin) * 1e3
                        self.environment.events.request.fire(
                            request_type="SSE", name="first token", response_time=first_ms, response_length=0, exception=None
                        )
            if tokens != TOKENS:
                answer.failure(f"{tokens} tokens, not {TOKENS}")
