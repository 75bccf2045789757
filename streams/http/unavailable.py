"""The response when no web process can answer, because it is away, stops, or has no database.

An EventSource reconnects only after a status of 200. So a stream's reader gets a 200 response that
asks it to reconnect. All other requests are refused, in the form of their wire.
"""

import re

from django.conf import settings
from django.http import HttpResponse

from streams.http.event_stream import HEADERS
from streams.http.problems import Problem
from streams.http.refusals import refusal
from streams.protocol.sse import encode_frame, retry_field
from streams.protocol.stream_frames import Heartbeat

STREAM = re.compile(r"^/api/conversations/[^/]+/events/?$")


def unavailable_response(method: str, path: str, origin: str, problem: Problem) -> HttpResponse:
    """The response to this request. `origin` is its `Origin` header, or "" without one."""
    is_stream = method == "GET" and STREAM.match(path)
    response = retry_later() if is_stream else refusal(path, problem)
    # Without a length, the proxy would take this for a stream that Pushpin was not told to hold.
    response["Content-Length"] = str(len(response.content))
    if origin in settings.CORS_ALLOWED_ORIGINS:
        response["Access-Control-Allow-Origin"], response["Vary"] = origin, "origin"
        response["Access-Control-Allow-Credentials"] = "true"
    return response


def retry_later() -> HttpResponse:
    """A stream that ends at once: a `retry` field and a heartbeat with no head."""
    body = retry_field(*settings.STREAM_RETRY) + encode_frame(Heartbeat(head=None))
    return HttpResponse(body, content_type="text/event-stream", headers=HEADERS)
