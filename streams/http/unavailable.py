"""What is answered while no web process can: it is away, ends too soon, or finds no database.

To an EventSource any status but 200 is final, so a stream's reader is told in-band to come back,
as by every stream whose web process ends; whoever asks for anything else is told the problem.
"""

import re

from django.conf import settings
from django.http import HttpResponse

from streams.http.problems import Problem, problem_response
from streams.protocol.events import Heartbeat
from streams.protocol.sse import encode_frame, retry_field

STREAM = re.compile(r"^/api/conversations/[^/]+/events/?$")


def unavailable_response(method: str, path: str, page: str, problem: Problem) -> HttpResponse:
    """The answer to this request, which came from a page of this origin, or from none: ""."""
    answer = retry_later() if method == "GET" and STREAM.match(path) else problem_response(problem)
    # A stream whose length is not known is taken for one that Pushpin was not told to hold.
    answer["Content-Length"] = str(len(answer.content))
    if page in settings.CORS_ALLOWED_ORIGINS:
        answer["Access-Control-Allow-Origin"], answer["Vary"] = page, "origin"
        answer["Access-Control-Allow-Credentials"] = "true"
    return answer


def retry_later() -> HttpResponse:
    """The answer to a stream's reader: nothing yet, and when to ask again."""
    said = retry_field(*settings.STREAM_RETRY) + encode_frame(Heartbeat(head=None))
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return HttpResponse(said, content_type="text/event-stream", headers=headers)
