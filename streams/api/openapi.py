"""Completes the OpenAPI document that Ninja generates from the operations.

It adds the error responses, the headers, the security schemes, the event stream and the health
checks.
"""

from typing import Any

from django.conf import settings

from streams.api.idempotency import KEY
from streams.api.schemas import Problem as ProblemSchema
from streams.log.channels import PREFIX
from streams.models import Run
from streams.protocol.parts import KINDS

Document = dict[str, Any]

SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": settings.SESSION_COOKIE_NAME,
        "description": "Unsafe calls also carry X-CSRFToken: the csrftoken cookie's value.",
    },
}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
REFUSALS = {
    400: "The request cannot be read, or a header or cursor is malformed",
    401: "The request has no valid authentication",
    403: "The token lacks a scope, or the CSRF token is missing",
    404: "It does not exist, or another owner has it: the response is the same",
    422: "A value in the request is not valid: see `code` and `errors`",
    429: "A limit of this owner is reached: see Retry-After",
    500: "A fault of the service",
    503: "The service is temporarily unavailable: see Retry-After",
}
REFUSED_BODIES = {
    408: "The body did not arrive completely",
    411: "The body has no Content-Length",
    413: "The body is larger than any request needs",
    415: "The body is not application/json",
}
BUSY = {409: "`conversation_busy`, or `not_last_turn`"}

IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "A repeated key and body get the first answer again, for 24 hours.",
    "schema": {"type": "string", "pattern": KEY},
}
PREFER = {
    "in": "header",
    "name": "Prefer",
    "required": False,
    "description": "`wait=<seconds>` (RFC 7240), at most 60: 200 with the whole reply, in time.",
    "schema": {"type": "string"},
    "example": "wait=10",
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last received event id, alone or after the channel's name. If it is"
    " absent or empty, a snapshot comes first.",
    "schema": {"type": "string", "pattern": f"^({PREFIX}[0-9a-f-]{{36}}:)?[0-9]+$"},
}
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
REFUSAL_HEADERS = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
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
        "200": {
            "description": "The stream; it ends at once if the service cannot begin it: reconnect",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        "204": {"description": "No event is left to receive: do not reconnect"},
    },
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
    """The document, completed by what this module defines. It is changed in place."""
    paths, components = document["paths"], document["components"]
    components["securitySchemes"] = SCHEMES
    problem = ProblemSchema.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"].update(problem.pop("$defs", {}))
    components["schemas"]["Problem"] = problem
    for name, statuses in {"RunStatus": Run.Status.values, "LiveRun": Run.ACTIVE}.items():
        components["schemas"][name]["properties"]["status"]["enum"] = list(statuses)
    _complete_parts(components["schemas"])
    for path, methods in paths.items():
        for method, operation in methods.items():
            _complete(operation, method, path)
    stream = STREAM | {"responses": dict(STREAM["responses"]), "security": _security()}
    _refuse(stream, REFUSALS)
    paths["/api/conversations/{conversation}/events/"] = {"get": stream}
    paths["/health/live"] = {"get": _platform("live", "The process answers")}
    paths["/health/ready"] = {"get": _platform("ready", "The database can be written", READY)}
    return document


def _complete_parts(schemas: Document) -> None:
    """Tell the kinds of parts apart by their `type`, which is not a field of the dataclasses."""
    places = {type: f"#/components/schemas/{kind.__name__}" for type, kind in KINDS.items()}
    schemas["Part"] = {
        "oneOf": [{"$ref": place} for place in places.values()],
        "discriminator": {"propertyName": "type", "mapping": places},
    }
    for type, kind in KINDS.items():
        schema = schemas[kind.__name__]
        schema["properties"] = {"type": {"type": "string", "const": type}, **schema["properties"]}
        schema["required"] = ["type", *schema["required"]]
    for holder in ("MessageView", "LiveRun"):
        schemas[holder]["properties"]["parts"]["items"] = {"$ref": "#/components/schemas/Part"}


def _security() -> list[Document]:
    schemes: list[Document] = [{"token": []}, {"session": []}]
    return [*schemes, {}] if settings.ALLOW_ANONYMOUS else schemes


def _complete(operation: Document, method: str, path: str) -> None:
    operation["security"] = _security()
    refused = dict(REFUSALS)
    if method in ("post", "patch"):
        refused |= REFUSED_BODIES
    if method == "post":
        operation["parameters"].append(IDEMPOTENCY_KEY)
        _add_header(operation, "Idempotency-Replayed")
        refused |= BUSY
    if 202 in operation["responses"]:
        operation["parameters"].append(PREFER)
        _add_header(operation, "Location")
        operation["responses"][200]["headers"]["Preference-Applied"] = HEADERS["Preference-Applied"]
    _refuse(operation, refused)


def _add_header(operation: Document, name: str) -> None:
    """Add the header to all success responses. Call it before `_refuse` adds the others."""
    for response in operation["responses"].values():
        response.setdefault("headers", {})[name] = HEADERS[name]


def _refuse(operation: Document, refused: dict[int, str]) -> None:
    for status, why in refused.items():
        response: Document = {"description": why, "content": PROBLEM}
        if header := REFUSAL_HEADERS.get(status):
            response["headers"] = {header: HEADERS[header]}
        operation["responses"][str(status)] = response


def _platform(name: str, summary: str, schema: Document | None = None) -> Document:
    content = {"application/json": {"schema": schema or {"type": "object"}}}
    responses = {"200": {"description": "Yes", "content": content}}
    if schema:
        responses["503"] = {"description": "No", "content": content}
    return {"operationId": name, "tags": ["platform"], "summary": summary, "responses": responses}
