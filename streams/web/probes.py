"""The platform's probes are answered whatever `Host` they are asked by.

A pod is asked by its address, and a container from inside by a name of its own. Where ALLOWED_HOSTS
names only the public host, Django would refuse these with 400, and the platform would restart a
process that is well. The answers hold no link and no address, so no `Host` can be misused in them.
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
    """Django middleware: stands before the first that reads the `Host`, and after security's."""

    def answered(request: HttpRequest) -> HttpResponseBase:
        probe = PROBES.get(request.path_info)
        return probe(request) if probe else get_response(request)

    return answered
