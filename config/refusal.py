"""Refusals that a connection writes itself, before a request reaches the application."""

from typing import Any

from streams.http.problems import Problem, problem_response

UNREADABLE = Problem(400, "bad_request", "This is not a valid HTTP request.")


def encoded_refusal(problem: Problem) -> bytes:
    """The bytes of the HTTP response that refuses a request. The connection closes after it."""
    response = problem_response(problem)
    fields: dict[str, Any] = {
        **response.headers,
        "Content-Length": len(response.content),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {response.status_code} {response.reason_phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + response.content
