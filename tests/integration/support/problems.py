"""A refusal of the API, as RFC 9457 describes it."""

from typing import Any


def refused(answer: Any) -> tuple[int, str]:
    """Check the form of RFC 9457. Returns the status and the service's own code."""
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(problem)
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]
