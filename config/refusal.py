"""Refusals that a connection writes itself, before a request reaches the application."""

from streams.http.problems import Problem, problem_response

UNREADABLE = Problem(400, "bad_request", "This is not a valid HTTP request.")


def encoded_refusal(problem: Problem) -> bytes:
    """The bytes of the HTTP response that refuses a request. The connection closes after it."""
    response = problem_response(problem)
    response["Content-Length"], response["Connection"] = len(response.content), "close"
    status = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n"
    return status.encode() + response.serialize()
