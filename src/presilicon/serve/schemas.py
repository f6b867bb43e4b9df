"""What answers look like, for the OpenAPI description; answers themselves are put together without these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from presilicon.serve.requests import ChatRequest, CompletionRequest


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """OpenAI's error object."""

    error: ErrorDetail


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Timing(BaseModel):
    """The scheduler's own figures of one answer, in s of the chip's time."""

    index: int
    arrival_s: float
    time_to_first_token_s: float
    time_per_output_token_s: float | None
    end_to_end_s: float
    replica: int


class About(BaseModel):
    """What was simulated: where the text is from, and the timing of each answer."""

    text: str
    note: str | None = None
    timing: list[Timing]


class AssistantMessage(BaseModel):
    """The message of an answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One answer of a chat."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]


class TextChoice(BaseModel):
    """One answer of a completion."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"]


class _Completion(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    presilicon: About


class ChatCompletion(_Completion):
    """The answer to POST /v1/chat/completions."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(_Completion):
    """The answer to POST /v1/completions."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class ModelCard(BaseModel):
    """One served name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["presilicon"]
    root: str
    max_model_len: int | None
    chip: str


class ModelList(BaseModel):
    """All served names."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    """Whether requests are served."""

    status: Literal["ok", "draining", "failed"]


SHOWN: tuple[type[BaseModel], ...] = (
    ChatRequest, CompletionRequest, ErrorReply, ChatCompletion, TextCompletion, ModelCard, ModelList, Health,
)  # fmt: skip
"""Every object that the description names."""


def components() -> dict[str, Any]:
    """JSON schemas of all objects by name."""
    from pydantic.json_schema import models_json_schema

    _, found = models_json_schema([(one, "validation") for one in SHOWN], ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A reference to the schema of ``model``."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}
