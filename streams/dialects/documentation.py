"""What the OpenAPI document says of the dialects' responses."""

from typing import Any

REFUSALS = {
    400: "The request cannot be read",
    401: "The request has no valid authentication",
    403: "The token lacks a scope, or the CSRF token is missing",
    404: "It does not exist, or another owner has it",
    422: "A value in the request is not valid, or a message has more than text",
    429: "A limit of this owner is reached",
    500: "A fault of the service",
    503: "The service is temporarily unavailable",
}
BODY = {
    408: "The body did not arrive completely",
    409: "The messages differ from those that are stored",
    411: "The body has no Content-Length",
    413: "The body is larger than any request needs",
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
