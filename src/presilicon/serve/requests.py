"""What a request's body may hold: OpenAI's and vLLM's fields, with strict types and bounds.

Fields that only shape a real model's choice of words (temperature, penalties) are checked and change nothing: filler has no
distribution to draw from. Fields whose answer would need a real model (log probabilities, forced tool calls, JSON mode) are
refused. Fields that are not known are ignored, as OpenAI-compatible servers do.
"""

from __future__ import annotations

from array import array
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from presilicon.serve.errors import ApiError
from presilicon.serve.text import MESSAGE_TOKENS, REPLY_TOKENS, count_tokens

MOST_CHOICES = 128
"""Answers to one request, as in OpenAI's reference (``n``)."""


def _whole(value: Any) -> Any:
    """JSON tells 3.0 from 3 as little as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _only_false(value: bool) -> bool:
    if value:
        raise PydanticCustomError("not_served", "true is not served here")
    return value


Count = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
Least = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Choices = Annotated[int, Field(ge=1, le=MOST_CHOICES), BeforeValidator(_whole)]
One = Annotated[int, Field(ge=1, le=1), BeforeValidator(_whole)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63), BeforeValidator(_whole)]
TokenId = Annotated[int, Field(ge=0, lt=2**31), BeforeValidator(_whole)]
Never = Annotated[bool, AfterValidator(_only_false), Field(json_schema_extra={"const": False})]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=2**20, fail_fast=True)]
Text = Annotated[str, Field(max_length=2**24)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(_Body):
    """A part of a message; images and audio are not served."""

    type: Literal["text"]
    text: Text


class Function(_Body):
    """What a tool is called and takes."""

    name: str = Field(min_length=1, max_length=256)
    description: str | None = Field(default=None, max_length=65536)
    parameters: dict[str, Any] | None = None


class Tool(_Body):
    """A tool that an answer could call; filler calls none."""

    type: Literal["function"]
    function: Function


class Called(_Body):
    """The call of a function, as an earlier answer made it."""

    name: str = Field(max_length=256)
    arguments: Text


class ToolCall(_Body):
    """A tool call of an earlier answer."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: Called


class Message(_Body):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart] | None = None
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = Field(default=None, max_length=256)

    def text(self) -> str:
        """All that the message puts into the prompt."""
        content = self.content
        parts = [content] if isinstance(content, str) else [part.text for part in content or ()]
        if self.name:
            parts.append(self.name)
        parts += [call.function.name + call.function.arguments for call in self.tool_calls or ()]
        return "".join(parts)


class StreamOptions(_Body):
    """What a stream tells beside the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = Field(default=None, description="Usage in every event (vLLM).")


class ResponseFormat(_Body):
    """Plain text only: filler follows no grammar."""

    type: Literal["text"]


class Sampling(_Body):
    """Fields that both kinds of completion share."""

    model: str = Field(min_length=1, max_length=512)
    max_tokens: Count | None = Field(default=None, description="Most tokens of an answer.")
    min_tokens: Least | None = Field(default=None, description="No end before as many tokens (vLLM).")
    ignore_eos: bool | None = Field(default=None, description="Go on to the limit (vLLM).")
    n: Choices | None = None
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = Field(default=None, description="Without stream they change nothing.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    user: str | None = Field(default=None, max_length=1024)

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer, where the request sets one."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def check(self) -> None:
        """Raise ``ApiError`` where fields that are each right clash."""
        if self.limit is not None and self.min_tokens is not None and self.min_tokens > self.limit:
            message = f"min_tokens is {self.min_tokens}, more than the {self.limit} tokens of max_tokens"
            raise ApiError(400, message, code="invalid_value", param="min_tokens")

    def prompts(self) -> list[Prompt]:
        """The prompts, each of which gets ``n`` answers."""
        raise NotImplementedError


class Prompt:
    """A prompt as text (empty where it came as token ids), its tokens, and its content at four bytes a token."""

    __slots__ = ("content", "text", "tokens")

    def __init__(self, text: str, content: bytes, tokens: int) -> None:
        self.text, self.content, self.tokens = text, content, tokens


class ChatRequest(Sampling):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=16384, fail_fast=True)]
    max_completion_tokens: Count | None = Field(default=None, description="The newer name of max_tokens; it goes first.")
    tools: Annotated[list[Tool], Field(max_length=1024, fail_fast=True)] | None = Field(
        default=None, description="They count as prompt; none is called."
    )
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: Never | None = None
    top_logprobs: None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def prompts(self) -> list[Prompt]:
        """One prompt: the messages in order, each with what a chat template adds."""
        texts = [f"{message.role}\n{message.text()}\n" for message in self.messages]
        tokens = sum(count_tokens(message.text()) + MESSAGE_TOKENS for message in self.messages) + REPLY_TOKENS
        if self.tools:
            texts.insert(0, "".join(tool.model_dump_json(exclude_none=True) for tool in self.tools))
            tokens += count_tokens(texts[0])
        text = "".join(texts)
        return [Prompt(text, text.encode(), tokens)]


class CompletionRequest(Sampling):
    """The body of POST /v1/completions."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MOST_CHOICES, fail_fast=True)]
    ) = Field(description="A text, token ids, or a list of either; each gets n answers.")
    best_of: One | None = None
    echo: Never | None = None
    suffix: None = None
    logprobs: None = None

    def prompts(self) -> list[Prompt]:
        """The prompts in order; token ids count as they are."""
        given = self.prompt
        if isinstance(given, str) or isinstance(given[0], int):
            return [_prompt(given)]
        return [_prompt(one) for one in given]


def _prompt(given: Any) -> Prompt:
    if isinstance(given, str):
        return Prompt(given, given.encode(), max(1, count_tokens(given)))
    return Prompt("", array("I", given).tobytes(), len(given))


RequestT = TypeVar("RequestT", bound=Sampling)


async def read(request: Request, kind: type[RequestT]) -> RequestT:
    """The body of ``request`` as ``kind``; raises ``ApiError`` 400 or 415, with the field and what is wrong with it."""
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json":
        message = f"the body must be JSON, with content-type application/json and not {media[:80]!r}"
        raise ApiError(415, message, code="unsupported_media_type")
    try:
        body = kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise _told(error) from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
    body.check()
    return body


def _told(error: ValidationError) -> ApiError:
    """The first thing that is wrong, as one sentence; of a field that takes several types, what is nearest to right."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {found[0]['msg'].removeprefix('Invalid JSON: ')}", code="invalid_json")
    if not found[0]["loc"]:
        return ApiError(400, "the body must be a JSON object", code="invalid_type")
    name = str(found[0]["loc"][0])
    same = [one for one in found if one["loc"][0] == name]
    first = max(same, key=lambda one: (not one["type"].endswith("_type"), len(one["loc"])))
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in _NAMES) or name
    if first["type"] == "missing":
        return ApiError(400, f"{place} is missing", code="missing_required_parameter", param=name)
    what = first["msg"][:1].lower() + first["msg"][1:]
    code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    return ApiError(400, f"{place}: {what}", code=code, param=name)


_NAMES = {name for one in (ChatRequest, CompletionRequest, Message, TextPart, StreamOptions) for name in one.model_fields}
"""Names of fields; what else stands in pydantic's places names a branch of a union."""
