"""Middleware that answers the platform's probes for any `Host` header.

The platform requests a probe by a pod's address or by a container's name. If ALLOWED_HOSTS names
only the public host, Django would refuse these with 400, and the platform would restart a healthy
process. The responses contain no link and no address, so a forged `Host` has no effect.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from streams.web.health import live, metrics, ready

PROBES: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/health/live": live,
    "/health/ready": ready,
    "/metrics": metrics,
}


def answer_probes(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Place this middleware after SecurityMiddleware, and before all that read the `Host`."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        probe = PROBES.get(request.path_info)
        return probe(request) if probe else get_response(request)

    return middleware
