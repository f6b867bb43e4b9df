"""The application: OpenAI's routes over one engine."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from presilicon import __version__
from presilicon.errors import InputError
from presilicon.serve import metrics, requests, schemas
from presilicon.serve.clock import VirtualClock
from presilicon.serve.connection import RECEIVED
from presilicon.serve.engine import Engine
from presilicon.serve.errors import ApiError
from presilicon.serve.exchange import Answer, Exchange
from presilicon.serve.gate import Application, Gate, abort_of
from presilicon.serve.replies import Reply, StreamedReply, WholeReply
from presilicon.serve.settings import Settings
from presilicon.serve.text import Filler, TextSource

if TYPE_CHECKING:
    from presilicon.replay import Fleet

ABOUT = (
    "OpenAI's API on a chip that does not exist: requests are scheduled as an inference server would on the simulated chip, "
    "and tokens come when that chip would have made them. Unless a response says otherwise its text is filler."
)
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
"""A server-sent event, as a description may have it: ``data`` is a chunk as JSON, or ``[DONE]``."""

CODES = {404: "not_found", 405: "method_not_allowed"}


class Endpoint:
    """One served fleet: its names, its engine and where its text is from; ``asgi`` is what a server runs."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        names: Sequence[str],
        chip: str,
        settings: Settings | None = None,
        context_tokens: int | None = None,
        source: TextSource | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.names, self.chip, self.source = tuple(names), chip, source or Filler()
        self.clock = VirtualClock(self.settings.speedup)
        self.engine = Engine(fleet, self.settings, self.clock)
        deployment = fleet.deployment
        self.created = int(time.time())
        self.memory_tokens = deployment.blocks * deployment.block_tokens
        limits = [n for n in (context_tokens, deployment.max_tokens or None) if n]
        if context_tokens and deployment.max_tokens and context_tokens > deployment.max_tokens:
            message = f"the model's context is {deployment.max_tokens:,} tokens, not {context_tokens:,}"
            raise InputError(message, where="max-model-len")
        self.context_tokens = min([*limits, self.memory_tokens])
        self.app = _app(self)
        self.asgi: Application = Gate(self.app, self.settings, self.clock)

    def card(self, name: str) -> dict[str, Any]:
        """A served name as OpenAI's model object."""
        about = {"id": name, "object": "model", "created": self.created, "owned_by": "presilicon", "root": self.names[0]}
        return {**about, "max_model_len": self.context_tokens, "chip": self.chip}

    def begin(self, kind: Any, body: requests.Sampling, request: Request) -> Response:
        """Schedule the answers to ``body`` and return the reply that will carry them."""
        if body.model not in self.names:
            raise _unknown(body.model, "model")
        prompts = body.prompts()
        count = body.n or 1
        if len(prompts) * count > requests.MOST_CHOICES:
            message = f"{len(prompts)} prompts with {count} answers each are more than {requests.MOST_CHOICES} answers"
            raise ApiError(400, message, code="invalid_value", param="n")
        most = self.settings.stream_buffer * count * len(prompts)
        exchange = Exchange(streaming=bool(body.stream), most=most, abort=abort_of(request.scope))
        answers: list[Answer] = []
        of: list[requests.Prompt] = []
        for prompt in prompts:
            limit = self._limit(body, prompt)
            seed = zlib.crc32(prompt.content) if body.seed is None else body.seed
            ends = max(self.settings.output_tokens, body.min_tokens or 0) if body.limit is None else None
            for _ in range(count):
                index = len(answers)
                answer = Answer(
                    exchange,
                    index,
                    self.source.open(prompt.text, seed=seed, choice=index),
                    prompt_tokens=prompt.tokens,
                    limit=limit,
                    min_tokens=body.min_tokens or 0,
                    ends_after=ends,
                    ignore_eos=bool(body.ignore_eos),
                    stops=body.stops,
                )
                answers.append(answer)
                of.append(prompt)
        name = request.scope["presilicon.request_id"]
        reply = Reply(kind, exchange, self.engine, request_id=name, model=body.model, source=self.source)
        reply.prompt_tokens = sum(prompt.tokens for prompt in prompts)
        self.engine.open(exchange, answers, of, self.clock.arrival(request.scope.get(RECEIVED)))
        for replica in {answer.replica for answer in answers}:
            self.engine.replicas[replica].metrics.observe("request_params_n", count)
            if body.limit is not None:
                self.engine.replicas[replica].metrics.observe("request_params_max_tokens", body.limit)
        if not body.stream:
            return WholeReply(reply)
        options = body.stream_options or requests.StreamOptions()
        always = bool(options.continuous_usage_stats)
        return StreamedReply(reply, usage=bool(options.include_usage) or always, usage_always=always)

    def _limit(self, body: requests.Sampling, prompt: requests.Prompt) -> int:
        """Most tokens of an answer to ``prompt``; raises ``ApiError`` where prompt and answer are longer than the context."""
        room = self.context_tokens - prompt.tokens
        asked = max(body.limit or 1, body.min_tokens or 1)
        if asked > room:
            message = f"the context is {self.context_tokens:,} tokens; the prompt has {prompt.tokens:,}"
            message += f" and {asked:,} are asked for" if body.limit or body.min_tokens else ", which leaves none for an answer"
            raise ApiError(400, message, code="context_length_exceeded", param="max_tokens" if body.limit else None)
        return room if body.limit is None else body.limit

    def metrics(self) -> str:
        """All metrics as text."""
        engine = self.engine
        own = {
            "virtual_time_seconds": ("gauge", "Time of the simulated chip since the start.", self.clock.now()),
            "clock_held_back_seconds_total": ("counter", "Real time that the clock waited for work.", self.clock.held_back_s),
            "energy_joules_total": ("counter", "Energy of all chips in steps.", sum(r.energy_j for r in engine.replicas)),
            "requests_in_flight": ("gauge", "HTTP requests being answered.", float(len(engine.exchanges))),
            "requests_refused_total": ("counter", "Requests over the limit of concurrency.", float(engine.refused)),
        }
        for end, count in engine.ended.items():
            own[f"exchanges_{end.value}_total"] = ("counter", f"Requests that ended early: {end.value}.", float(count))
        return metrics.render([replica.sample() for replica in engine.replicas], model=self.names[0], own=own)


def _unknown(name: str, param: str | None) -> ApiError:
    return ApiError(404, f"the model {name[:100]!r} is not served here", code="model_not_found", param=param)


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schemas.reference(schemas.ErrorReply)}}}


def _responses(model: type[BaseModel] | None, *codes: int, stream: bool = False) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: its own, and its errors."""
    texts = {
        400: "The request cannot be served as it is.",
        401: "No API key, or a wrong one.",
        404: "Not served here.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        429: "More than is served at once.",
        503: "The server is shutting down, or has failed.",
    }
    found: dict[int | str, dict[str, Any]] = {code: _error(texts[code]) for code in (401, *codes)}
    content: dict[str, Any] = {"application/json": {"schema": schemas.reference(model)}} if model else {}
    if stream:
        content["text/event-stream"] = {"schema": EVENT}
    found[200] = {"description": "Done.", "content": content or {"text/plain": {"schema": {"type": "string"}}}}
    return found


def _takes(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schemas.reference(model)}}}}


def _app(endpoint: Endpoint) -> FastAPI:
    """The routes of ``endpoint``."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with endpoint.engine.running():
            yield

    app = FastAPI(
        title="presilicon", version=__version__, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    generation = (400, 404, 408, 413, 415, 429, 503)

    @app.post(
        "/v1/chat/completions",
        responses=_responses(schemas.ChatCompletion, *generation, stream=True),
        openapi_extra=_takes(requests.ChatRequest),
    )
    async def chat_completions(request: Request) -> Response:
        """Answer a chat."""
        return endpoint.begin("chat", await requests.read(request, requests.ChatRequest), request)

    @app.post(
        "/v1/completions",
        responses=_responses(schemas.TextCompletion, *generation, stream=True),
        openapi_extra=_takes(requests.CompletionRequest),
    )
    async def completions(request: Request) -> Response:
        """Continue a text."""
        return endpoint.begin("text", await requests.read(request, requests.CompletionRequest), request)

    @app.get("/v1/models", responses=_responses(schemas.ModelList))
    async def models() -> Response:
        """Every served name."""
        return JSONResponse({"object": "list", "data": [endpoint.card(name) for name in endpoint.names]})

    @app.get("/v1/models/{model:path}", responses=_responses(schemas.ModelCard, 404))
    async def model(model: str) -> Response:
        """One served name."""
        if model not in endpoint.names:
            raise _unknown(model, None)
        return JSONResponse(endpoint.card(model))

    @app.get("/health", responses={**_responses(schemas.Health), 503: {**_responses(schemas.Health)[200]}})
    async def health() -> Response:
        """Whether requests are served."""
        engine = endpoint.engine
        status = "failed" if engine.broken else "draining" if engine.draining else "ok"
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    @app.get("/metrics", responses=_responses(None))
    async def prometheus() -> Response:
        """Prometheus metrics under vLLM's names."""
        return Response(endpoint.metrics(), media_type=metrics.CONTENT_TYPE)

    @app.exception_handler(ApiError)
    async def told(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.response()

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path[:100]} is not served here"
        code = CODES.get(error.status_code, "invalid_request")
        return ApiError(error.status_code, message, code=code, headers=error.headers).response()

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(endpoint, app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
    return app


def _description(endpoint: Endpoint, app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description of this very endpoint: its models and its context are in it."""
    found = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
    parts = found.setdefault("components", {})
    parts["schemas"] = schemas.components()
    for name in (requests.ChatRequest.__name__, requests.CompletionRequest.__name__):
        properties = parts["schemas"][name]["properties"]
        properties["model"]["enum"] = list(endpoint.names)
        for field in ("max_tokens", "max_completion_tokens", "min_tokens"):
            if field in properties:
                properties[field]["anyOf"][0]["maximum"] = endpoint.context_tokens - 1
    if endpoint.settings.api_keys:
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return found
