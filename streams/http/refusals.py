"""The form of a refusal. It depends on the path, because a client reads only its vendor's form.

Each view knows its form. This module is for a request that no view has answered, because its body
did not arrive, no thread was free, the process stops, or Django refused it before routing.
"""

from collections.abc import Callable, Mapping
from re import compile

import orjson
from django.http import HttpResponse

from streams.http.problems import Problem, errors_of, problem_response, refused
from streams.protocol.sse import clean

Refuse = Callable[[Problem], HttpResponse]
API = ("/api/", "/v1/", "/threads", "/runs", "/ag-ui")  # the paths whose clients are programs
OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def refusal(path: str, problem: Problem) -> HttpResponse:
    """The refusal of a request to this path."""
    for paths, refuse in FORMS:
        if paths.match(path):
            return refuse(problem)
    return problem_response(problem)


def text_refusal(problem: Problem) -> HttpResponse:
    """A refusal as plain text, because the clients show the whole body as their error's message."""
    return refused(problem, clean(problem.detail), "text/plain; charset=utf-8")


def openai_refusal(problem: Problem) -> HttpResponse:
    """A refusal in OpenAI's form. A header keeps the SDKs from repeating a request after a 409."""
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    error = {
        "message": problem.detail,
        "type": OPENAI_TYPES.get(problem.status, kind),
        "param": problem.errors[0]["field"] if problem.errors else None,
        "code": problem.code,
    }
    lasting = {"x-should-retry": "false"} if problem.status == 409 else {}
    return openai_error(problem.status, error, {**lasting, **problem.headers})


def openai_error(
    status: int, error: Mapping[str, str | None], headers: Mapping[str, str]
) -> HttpResponse:
    """An error in OpenAI's form. It may quote the request, so its text is made encodable."""
    encodable = {name: clean(text) if text else text for name, text in error.items()}
    return HttpResponse(
        orjson.dumps({"error": encodable}),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )


def detail_refusal(problem: Problem) -> HttpResponse:
    """A refusal in LangGraph's form. Its SDKs show either its `detail` or the whole body."""
    body = {"detail": clean(problem.detail), "code": problem.code, **errors_of(problem)}
    return refused(problem, orjson.dumps(body), "application/json")


FORMS = (
    (compile("/v1(/|$)"), openai_refusal),
    (compile("/(api/chat|ag-ui)(/|$)"), text_refusal),
    (compile("/(threads|runs)(/|$)"), detail_refusal),
)
