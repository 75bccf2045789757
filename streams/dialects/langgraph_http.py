"""The HTTP code that LangGraph's routes share: authentication, refusals, documentation."""

from typing import Any

from django.http import HttpRequest

from streams.access.authentication import token_caller
from streams.access.authorization import Caller
from streams.api.authentication import Authentication, require_json
from streams.dialects.documentation import BODY, REFUSALS, described
from streams.dialects.position import Position
from streams.http.problems import Problem

API_KEY = "x-api-key"
LAST_EVENT_ID = "Last-Event-ID"
EVERYTHING = "-1"  # asks for the stream from its beginning
DIGITS = 16  # of the largest position
OWN = {
    400: "The request or its Last-Event-ID cannot be read",
    401: "The request has no valid authentication: `x-api-key`, a Bearer token, or a session",
    409: "A reply is being written, the thread exists, or its history differs",
    422: "A value in the request is not valid, or is not offered",
    505: "A stream was asked for over HTTP/1.0",
}


def documented(ok: str | None, media_type: str = "application/json") -> dict[str, Any]:
    """Ninja's `openapi_extra` for a route. `ok` describes its 200; None if it has no 200."""
    refusals = described(REFUSALS | BODY | OWN, "application/json", "object")
    kind = "string" if media_type.startswith("text/") else "object"
    return {"responses": (described({200: ok}, media_type, kind) if ok else {}) | refusals}


class ApiKeyAuthentication(Authentication):
    """Authentication that also takes a token as `x-api-key`, as LangGraph's SDKs send it."""

    def __call__(self, request: HttpRequest) -> Caller:
        token = request.headers.get(API_KEY, "").strip()
        if not token:
            return super().__call__(request)
        require_json(request, self.media_types)
        return token_caller(request, token)


def position_of(request: HttpRequest) -> Position | None:
    """The reader's position; None if the reader has nothing yet. Raises `Problem`."""
    sent = request.headers.get(LAST_EVENT_ID, "")
    if sent in ("", EVERYTHING):
        return None
    try:
        if not (sent.isascii() and sent.isdigit() and len(sent) <= DIGITS):
            raise ValueError
        return Position.of(int(sent))
    except ValueError:
        detail = f"{LAST_EVENT_ID} is the id of an event of this stream, or {EVERYTHING}."
        raise Problem(400, "bad_cursor", detail) from None
