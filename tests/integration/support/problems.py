"""A refusal of the API, as RFC 9457 describes it."""

from typing import Any


def refused(answer: Any) -> tuple[int, str]:
    """A problem as RFC 9457 has it, with our code."""
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= set(problem)
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]
