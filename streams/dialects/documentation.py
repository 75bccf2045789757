"""What the OpenAPI document says of the dialects' responses."""

from typing import Any

from streams.api.openapi import BODY_PROBLEMS, PROBLEMS

REFUSALS = {status: str(one["description"]) for status, one in PROBLEMS.items()} | {
    422: "A value in the request is not valid, or a message has more than text",
}
BODY = {status: str(one["description"]) for status, one in BODY_PROBLEMS.items()} | {
    409: "The messages differ from those that are stored",
    415: "The body is no JSON",
}


def described(statuses: dict[int, str], media_type: str, kind: str) -> dict[int, Any]:
    """These statuses as OpenAPI's responses, each with a body of this kind."""
    content = {media_type: {"schema": {"type": kind}}}
    return {code: {"description": text, "content": content} for code, text in statuses.items()}


def documented(*others: dict[int, str]) -> dict[str, Any]:
    """Ninja's `openapi_extra` for a route with these further statuses."""
    statuses = {status: text for one in (REFUSALS, *others) for status, text in one.items()}
    responses = described(statuses, "text/plain", "string")
    if 200 in responses:  # a schema of a stream would be one of each event
        responses[200]["content"] = {"text/event-stream": {}}
    return {"responses": responses}
