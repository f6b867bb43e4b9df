"""Failures of a request, as OpenAI's clients know them: a status code and an object with message, type, param and code."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping

from fastapi.responses import Response

SERVER_ERROR = "server_error"
"""``type`` of an error that the client did not cause."""


class ApiError(Exception):
    """A request that cannot be served: what the client is told.

    ``message`` is one sentence, ``param`` the field it concerns, ``code`` a word that programs can compare.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.kind = status, message, code, param, kind
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error object as JSON."""
        return error_body(self.message, kind=self.kind, param=self.param, code=self.code)

    def response(self) -> Response:
        """The whole answer."""
        return Response(self.body(), self.status, self.headers, "application/json")


def error_body(message: str, *, kind: str, code: str, param: str | None = None) -> bytes:
    """OpenAI's error object as JSON, in ASCII."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def unauthorized(given: bool) -> ApiError:
    """No key, or a wrong one."""
    message = "the API key is not one of this server's" if given else "no API key was given: send Authorization: Bearer KEY"
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def too_large(limit_bytes: int) -> ApiError:
    """A body over the limit."""
    return ApiError(413, f"the body is larger than {limit_bytes:,} bytes", code="request_too_large")


def busy(message: str) -> ApiError:
    """More than is served at once; the client may come again."""
    return ApiError(429, message, code="rate_limit_exceeded", kind="rate_limit_error", headers={"retry-after": "1"})


def draining() -> ApiError:
    """The server is being stopped."""
    message = "the server is shutting down"
    return ApiError(503, message, code="server_shutting_down", kind=SERVER_ERROR, headers={"retry-after": "5"})


def internal() -> ApiError:
    """A fault of ours; what it was stands in the server's log."""
    return ApiError(500, "a fault in presilicon; the server's log says what", code="internal_error", kind=SERVER_ERROR)


def log_fault(what: str, error: BaseException | None) -> None:
    """One line in the server's log for an error that no request should cause; PRESILICON_DEBUG adds where it came from."""
    trace = error if os.environ.get("PRESILICON_DEBUG") else None
    logging.getLogger("presilicon.serve").error("presilicon: %s: %s: %s", what, type(error).__name__, error, exc_info=trace)
