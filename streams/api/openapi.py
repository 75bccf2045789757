"""What the OpenAPI document says beyond what Ninja reads off the operations.

Refusals, the headers that are ours to read, who may call, the stream and the platform's calls.
"""

from typing import Any

from django.conf import settings

from streams.api.idempotency import KEY
from streams.api.schemas import Problem as ProblemSchema
from streams.log.channels import PREFIX
from streams.models import Run

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
    400: "It cannot be read, or a header or cursor is malformed",
    401: "Nobody we know is asking",
    403: "The token's scope, or the CSRF token, is missing",
    404: "Absent, or somebody else's: the two look the same",
    422: "It is understood, but something in it is wrong: see `code` and `errors`",
    429: "More than one owner may have: see Retry-After",
    500: "Our mistake",
    503: "The database is away: see Retry-After",
}
REFUSED_BODIES = {
    408: "The rest of the body did not come",
    411: "The body's size is not announced",
    413: "The body is larger than any request needs",
    415: "The body is not application/json",
}
BUSY = {409: "`conversation_busy`, or `not_last_turn`"}

IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "The same key and body give the first answer again, for 24 hours.",
    "schema": {"type": "string", "pattern": KEY},
}
PREFER = {
    "in": "header",
    "name": "Prefer",
    "required": False,
    "description": "`wait=<seconds>` (RFC 7240), 60 at most: 200 with the whole reply, in time.",
    "schema": {"type": "string"},
    "example": "wait=10",
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last event id heard, bare or after the channel's name. Without it, or"
    " empty, a snapshot comes first.",
    "schema": {"type": "string", "pattern": f"^({PREFIX}[0-9a-f-]{{36}}:)?[0-9]+$"},
}
HEADERS: dict[str, Document] = {
    "Location": {
        "description": "The conversation's URL",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Idempotency-Replayed": {
        "description": "The Idempotency-Key was answered before, and this is the first answer",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {
        "description": "The run ended while it was waited for",
        "schema": {"type": "string", "enum": ["wait"]},
    },
    "Retry-After": {
        "description": "Seconds after which to ask again",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to say who asks: RFC 6750 §3",
        "schema": {"type": "string"},
    },
}
REFUSALS_TELL = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
STREAM: Document = {
    "operationId": "events",
    "tags": ["conversations"],
    "summary": "Follow a conversation, live",
    "description": "Server-Sent Events: what came after the cursor, then everything as it is said.",
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
            "description": "`idle`: the response ends once nothing is queued or running."
            " Empty, it does not count.",
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
            "description": "The stream; one that ends at once, while the service cannot begin it",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        "204": {"description": "Nothing is left to hear: do not come back"},
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
    """The document, with what every operation can answer besides its success."""
    paths, components = document["paths"], document["components"]
    components["securitySchemes"] = SCHEMES
    problem = ProblemSchema.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"].update(problem.pop("$defs", {}))
    components["schemas"]["Problem"] = problem
    for name, statuses in {"RunStatus": Run.Status.values, "LiveRun": Run.ACTIVE}.items():
        components["schemas"][name]["properties"]["status"]["enum"] = list(statuses)
    for path, methods in paths.items():
        for method, operation in methods.items():
            _complete(operation, method, path)
    stream = STREAM | {"responses": dict(STREAM["responses"]), "security": _security()}
    _refuse(stream, REFUSALS)
    paths["/api/conversations/{conversation}/events/"] = {"get": stream}
    paths["/health/live"] = {"get": _platform("live", "The process answers")}
    paths["/health/ready"] = {"get": _platform("ready", "The database can be written", READY)}
    return document


def _security() -> list[Document]:
    known: list[Document] = [{"token": []}, {"session": []}]
    return [*known, {}] if settings.ALLOW_ANONYMOUS else known


def _complete(operation: Document, method: str, path: str) -> None:
    operation["security"] = _security()
    refused = dict(REFUSALS)
    if method in ("post", "patch"):
        refused |= REFUSED_BODIES
    if method == "post":
        operation["parameters"].append(IDEMPOTENCY_KEY)
        _tell(operation, "Idempotency-Replayed")
        refused |= BUSY
    if 202 in operation["responses"]:
        operation["parameters"].append(PREFER)
        _tell(operation, "Location")
        operation["responses"][200]["headers"]["Preference-Applied"] = HEADERS["Preference-Applied"]
    _refuse(operation, refused)


def _tell(operation: Document, name: str) -> None:
    """With each success: nothing else is among the responses yet."""
    for response in operation["responses"].values():
        response.setdefault("headers", {})[name] = HEADERS[name]


def _refuse(operation: Document, refused: dict[int, str]) -> None:
    for status, why in refused.items():
        response: Document = {"description": why, "content": PROBLEM}
        if told := REFUSALS_TELL.get(status):
            response["headers"] = {told: HEADERS[told]}
        operation["responses"][str(status)] = response


def _platform(name: str, summary: str, schema: Document | None = None) -> Document:
    content = {"application/json": {"schema": schema or {"type": "object"}}}
    responses = {"200": {"description": "Yes", "content": content}}
    if schema:
        responses["503"] = {"description": "No", "content": content}
    return {"operationId": name, "tags": ["platform"], "summary": summary, "responses": responses}
