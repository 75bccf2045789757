"""Refusals of the dialects whose clients show a response's whole body as the error's message."""

from typing import Any

from streams.http.refusals import text_refusal

refuse = text_refusal
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
    415: "The body is not JSON",
}


def documented(*others: dict[int, str]) -> dict[str, Any]:
    """Ninja's `openapi_extra` for a route with these further statuses."""
    statuses = {**REFUSALS, **{status: text for one in others for status, text in one.items()}}
    return {
        "responses": {
            status: {
                "description": text,
                # A stream has no schema, because it would have to describe each event.
                "content": {"text/event-stream": {}}
                if status == 200
                else {"text/plain": {"schema": {"type": "string"}}},
            }
            for status, text in statuses.items()
        }
    }
