"""The code that all URLs of the APIs share: HEAD, 404 and 405 refusals, and `Cache-Control`."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, resolve
from django.views.decorators.csrf import csrf_exempt

from streams.http.problems import Problem, not_found, problem_response
from streams.http.refusals import refusal

View = Callable[..., HttpResponse]
UNSLASHED = Problem(
    404, "not_found", "There is nothing here: the paths of this API end with a slash."
)


def is_head(request: HttpRequest) -> bool:
    """Whether the client has sent HEAD. The view gets such a request as a GET."""
    return bool(request.META.get("REQUEST_METHOD") == "HEAD")


def wrapped(
    address: URLPattern, refuse: Callable[[Problem], HttpResponse] = problem_response
) -> URLPattern:
    """The same URL pattern, with its view wrapped. `refuse` writes the refusal of a method."""
    view = csrf_exempt(_wrap(address.callback, refuse))  # `caller_of` checks CSRF for sessions only
    return URLPattern(address.pattern, view, address.default_args, address.name)


@csrf_exempt
def not_found_view(request: HttpRequest) -> HttpResponse:
    """The 404 for unknown paths of all APIs. It says if only the final slash is missing."""
    path = request.path_info
    is_unslashed = path[-1] != "/" and resolve(f"{path}/").func is not not_found_view
    return refusal(request.path, UNSLASHED if is_unslashed else not_found())


def _wrap(view: View, refuse: Callable[[Problem], HttpResponse]) -> View:
    def wrapper(request: HttpRequest, **path_args: Any) -> HttpResponse:
        if request.method == "HEAD":
            request.method = "GET"  # the server leaves the body out: RFC 9110 §9.3.2
        response = view(request, **path_args)
        if response.status_code == 405:
            allowed = ", ".join(sorted(response.headers["Allow"].split(", ")))
            detail = f"Here there is only: {allowed}."
            return refuse(Problem(405, "method_not_allowed", detail, headers={"Allow": allowed}))
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return wrapper
