"""A check that schemathesis loads: what the description allows is served, but for what no description can say.

It stands for schemathesis' own ``positive_data_acceptance``, which cannot know that a prompt and ``max_tokens`` must fit the
context together, that ``min_tokens`` is at most ``max_tokens``, and that prompts times ``n`` is bounded.
"""

import schemathesis
from schemathesis import GenerationMode

ACROSS_FIELDS = {("context_length_exceeded", "max_tokens"), ("context_length_exceeded", None), ("invalid_value", "min_tokens")}
ACROSS_FIELDS |= {("invalid_value", "n")}


@schemathesis.check
def described_data_is_served(ctx, response, case) -> None:
    meta = case.meta
    if meta is None or meta.generation.mode is not GenerationMode.POSITIVE or case.operation.method.upper() != "POST":
        return
    if response.status_code == 400:
        error = response.json()["error"]
        assert (error["code"], error["param"]) in ACROSS_FIELDS, error
    else:
        assert response.status_code in (200, 401), response.text
