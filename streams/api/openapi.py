"""The parts of the OpenAPI document that do not follow from the operations' types.

The views declare their problem responses and headers with `READ`, `WRITE`, `POST` and `START`, as
Ninja's `openapi_extra`. `complete` adds everything that is not an operation of Ninja: the event
stream, the health checks and the security schemes.
"""

from typing import Any

from django.conf import settings

from streams.api.schemas import Problem
from streams.log.channels import PREFIX
from streams.protocol.parts import KINDS

Document = dict[str, Any]

HEADERS: dict[str, Document] = {
    "Location": {
        "description": "The conversation's URL",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Idempotency-Replayed": {
        "description": "The Idempotency-Key was used before, and this is the first answer again",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {
        "description": "The run ended within the time of `Prefer: wait`",
        "schema": {"type": "string", "enum": ["wait"]},
    },
    "Retry-After": {
        "description": "Seconds after which to repeat the request",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate: RFC 6750 §3",
        "schema": {"type": "string"},
    },
}


def _headers(*names: str) -> Document:
    return {"headers": {name: HEADERS[name] for name in names}}


def _problem(description: str, *headers: str) -> Document:
    schema = {"$ref": "#/components/schemas/Problem"}
    problem = {
        "description": description,
        "content": {"application/problem+json": {"schema": schema}},
    }
    return problem | (_headers(*headers) if headers else {})


PROBLEMS = {
    400: _problem("The request cannot be read, or a header or cursor is malformed"),
    401: _problem("The request has no valid authentication", "WWW-Authenticate"),
    403: _problem("The token lacks a scope, or the CSRF token is missing"),
    404: _problem("It does not exist, or another owner has it: the response is the same"),
    422: _problem("A value in the request is not valid: see `code` and `errors`"),
    429: _problem("A limit of this owner is reached: see Retry-After", "Retry-After"),
    500: _problem("A fault of the service"),
    503: _problem("The service is temporarily unavailable: see Retry-After", "Retry-After"),
}
BODY_PROBLEMS = {
    408: _problem("The body did not arrive completely"),
    411: _problem("The body has no Content-Length"),
    413: _problem("The body is larger than any request needs"),
    415: _problem("The body is not application/json"),
}
BUSY = {409: _problem("`conversation_busy`, or `not_last_turn`")}
PREFER = {
    "in": "header",
    "name": "Prefer",
    "required": False,
    "description": "`wait=<seconds>` (RFC 7240), at most 60: 200 if the run ends in that time.",
    "schema": {"type": "string"},
    "example": "wait=10",
}

READ: Document = {"responses": PROBLEMS}
WRITE: Document = {"responses": PROBLEMS | BODY_PROBLEMS}
POST: Document = {"responses": WRITE["responses"] | BUSY | {200: _headers("Idempotency-Replayed")}}
START: Document = {  # for a request that starts a run, whose end the caller may wait for
    "parameters": [PREFER],
    "responses": POST["responses"]
    | {
        200: _headers("Idempotency-Replayed", "Location", "Preference-Applied"),
        202: _headers("Idempotency-Replayed", "Location"),
    },
}

LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last received event id, alone or after the channel's name. If it is"
    " absent or empty, a snapshot comes first.",
    "schema": {"type": "string", "pattern": f"^({PREFIX}[0-9a-f-]{{36}}:)?[0-9]+$"},
}
STREAM: Document = {
    "operationId": "events",
    "tags": ["conversations"],
    "summary": "Follow a conversation, live",
    "description": "Server-Sent Events: the events after the cursor, then new ones as they occur.",
    "parameters": [
        {
            "name": "conversation",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
        },
        LAST_EVENT_ID,
        LAST_EVENT_ID | {"name": "lastEventId", "in": "query"},
        {
            "name": "until",
            "in": "query",
            "required": False,
            "description": "`idle`: the response ends once no run is queued or running."
            " An empty value is ignored.",
            "schema": {"type": "string", "enum": ["idle"]},
        },
        {
            "name": "token",
            "in": "query",
            "required": False,
            "description": "A signed token (docs/security.md): an EventSource can send no header.",
            "schema": {"type": "string"},
        },
    ],
    "responses": {
        200: {
            "description": "The stream; it ends at once if the service cannot begin it: reconnect",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "No event is left to receive: do not reconnect"},
    }
    | PROBLEMS,
}
SOCKET: Document = {
    "operationId": "socket",
    "tags": ["conversations"],
    "summary": "Follow a conversation and send messages, over a WebSocket",
    "description": "Frames are JSON. A refusal is a frame with the problem, and a close with 4000"
    " and the status: docs/dialects.md.",
    "parameters": STREAM["parameters"],
    "responses": {
        101: {"description": "The WebSocket"},
        426: _problem("The request does not ask for a WebSocket"),
    }
    | PROBLEMS,
}
READY: Document = {
    "type": "object",
    "required": ["status", "database", "redis"],
    "properties": {
        "status": {"enum": ["ok", "degraded"]},
        "database": {"enum": ["ok", "read-only", "away"]},
        "redis": {"enum": ["ok", "away"]},
    },
}


def complete(document: Document) -> Document:
    """Add the definitions of this module to the document, in place. Returns the document."""
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"), Problem=problem)
    _complete_parts(schemas)
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "Unsafe calls also carry X-CSRFToken: the csrftoken cookie's value.",
        },
    }
    document["security"] = [{"token": []}, {"session": []}]
    if settings.ALLOW_ANONYMOUS:
        document["security"].append({})
    if "websocket" in settings.DIALECTS:
        document["paths"]["/api/conversations/{conversation}/socket/"] = {"get": SOCKET}
    document["paths"] |= {
        "/api/conversations/{conversation}/events/": {"get": STREAM},
        "/health/live": {"get": _health("live", "The process answers")},
        "/health/ready": {"get": _health("ready", "The database can be written", READY)},
    }
    return document


def _complete_parts(schemas: Document) -> None:
    """Add the `type` that tells the kinds of parts apart. It is no field of the dataclasses."""
    places = {type: f"#/components/schemas/{kind.__name__}" for type, kind in KINDS.items()}
    schemas["Part"] = {
        "oneOf": [{"$ref": place} for place in places.values()],
        "discriminator": {"propertyName": "type", "mapping": places},
    }
    for type, kind in KINDS.items():
        schema = schemas[kind.__name__]
        schema["properties"] = {"type": {"type": "string", "const": type}, **schema["properties"]}
        schema["required"] = ["type", *schema["required"]]
    for holder in ("MessageView", "LiveRun", "RunStatus"):
        schemas[holder]["properties"]["parts"]["items"] = {"$ref": "#/components/schemas/Part"}


def _health(name: str, summary: str, schema: Document | None = None) -> Document:
    content = {"application/json": {"schema": schema or {"type": "object"}}}
    responses = {200: {"description": "Yes", "content": content}}
    if schema:
        responses[503] = {"description": "No", "content": content}
    return {
        "operationId": name,
        "tags": ["platform"],
        "summary": summary,
        "security": [],
        "responses": responses,
    }
