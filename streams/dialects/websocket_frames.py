"""The frames of a WebSocket: the stream's blocks as JSON, a client's requests, their responses.

events of the stream → {"id", "type", "data"}
{"name", "type", "data"} of the client → a request to the HTTP API → accepted or refused
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from django.http import HttpResponse
from ninja.errors import ValidationError
from orjson import Fragment
from pydantic import Field, TypeAdapter
from pydantic import ValidationError as Invalid

from streams.api.errors import problem_of
from streams.api.json import parse_json
from streams.api.schemas import SHORT, Body, EmptyBody
from streams.http.problems import Problem
from streams.protocol.sse import clean, split_blocks

NOT_TEXT = Problem(415, "unsupported_media_type", "Send JSON in text frames.")
NOT_JSON = Problem(400, "bad_json", "The frame cannot be read as JSON.")
TYPES = ("message", "cancel")
UNKNOWN = Problem(
    422, "invalid_request", "A frame is an object whose `type` is `message` or `cancel`."
)


class FrameRefused(Exception):
    """A client's frame cannot be read. `name` is the client's name for it; None if unreadable."""

    def __init__(self, name: str | None, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.name = name
        self.problem = problem


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRequest:
    """The POST to the HTTP API that a client's frame asks for."""

    name: str
    path: str
    body: bytes
    fields: list[tuple[bytes, bytes]]  # header fields


class _Frame(Body):
    name: str = Field(min_length=1, max_length=SHORT)
    idempotency_key: str | None = None


class _Message(_Frame):
    type: Literal["message"]
    data: dict[str, Any]  # the API validates it, as the body of its POST

    def request(self, conversation: str) -> tuple[str, object]:
        return f"/api/conversations/{conversation}/messages/", self.data


class _Cancelled(Body):
    run: UUID


class _Cancel(_Frame):
    type: Literal["cancel"]
    data: _Cancelled

    def request(self, conversation: str) -> tuple[str, object]:
        return f"/api/runs/{self.data.run}/cancel/", EmptyBody().model_dump()


_FRAME: TypeAdapter[_Message | _Cancel] = TypeAdapter(
    Annotated[_Message | _Cancel, Field(discriminator="type")]
)


def read_frame(text: str | None, conversation: str) -> FrameRequest:
    """The request in the frame; `text` is None for a binary frame. Raises `FrameRefused`."""
    if text is None:
        raise FrameRefused(None, NOT_TEXT)
    try:
        values = parse_json(text.encode())
    except Problem as problem:
        raise FrameRefused(None, problem) from None
    except (ValueError, RecursionError):
        raise FrameRefused(None, NOT_JSON) from None
    name = values.get("name") if isinstance(values, dict) else None
    shown = clean(name[:SHORT]) if isinstance(name, str) else None
    if not isinstance(values, dict) or values.get("type") not in TYPES:
        raise FrameRefused(shown, UNKNOWN)
    try:
        frame = _FRAME.validate_python(values)
    except Invalid as invalid:
        faults = invalid.errors(include_url=False, include_context=False, include_input=False)
        errors: list[Any] = [{**fault, "loc": ("frame", *fault["loc"])} for fault in faults]
        raise FrameRefused(shown, problem_of(ValidationError(errors))) from None
    path, data = frame.request(conversation)
    body = json.dumps(data).encode()  # orjson refuses half a surrogate pair
    fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if frame.idempotency_key is not None:
        # The API refuses a key that is not ASCII.
        fields.append((b"idempotency-key", frame.idempotency_key.encode(errors="surrogatepass")))
    return FrameRequest(name=clean(frame.name), path=path, body=body, fields=fields)


def event_frames(piece: bytes) -> Iterator[str]:
    """The frames for a piece of the stream. The `retry` field is a frame of its own."""
    for fields in split_blocks(piece):
        if retry := fields.get(b"retry"):
            yield _frame("retry", {"milliseconds": int(retry)})
        if b"data" in fields:
            id = int(fields[b"id"]) if b"id" in fields else None
            yield _frame(fields[b"event"].decode(), Fragment(fields[b"data"]), id)


def accepted_frame(name: str, response: HttpResponse) -> str:
    """The API has accepted a client's frame."""
    repeated = "Idempotency-Replayed" in response.headers
    data = {"name": name, "repeated": repeated, "response": Fragment(response.content)}
    return _frame("accepted", data)


def refused_frame(name: str | None, response: HttpResponse) -> str:
    """The API has refused a client's frame, or the socket itself. `name` may then be None."""
    is_problem = response.headers.get("Content-Type") == "application/problem+json"
    wait = response.headers.get("Retry-After")
    data = {
        "name": name,
        "retry_after": int(wait) if wait else None,
        "problem": Fragment(response.content) if is_problem else None,  # None: a redirect to HTTPS
    }
    return _frame("refused", data)


def _frame(type: str, data: object, id: int | None = None) -> str:
    return orjson.dumps({"id": id, "type": type, "data": data}).decode()
