"""The stream over HTTP: who is asking, from which cursor, and then everything as it is said."""

import re
from typing import Literal
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django_eventstream.utils import parse_last_event_id

from streams.channels import channel_of
from streams.follow import in_thread, outlook
from streams.followers import followers
from streams.log import NUMBER, Away, Page
from streams.models import Conversation
from streams.publish import the_log

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
METHODS = "GET, HEAD, OPTIONS"


class BadCursor(Exception):
    """Neither an id nor the library's `<channel>:<id>` for this channel."""


def cursor_of(request: HttpRequest, channel: str) -> int | None:
    """The last event id that the reader has heard; None for one who has heard nothing.

    The header counts before the query: an EventSource that comes back sends both.
    """
    named = request.headers.get("Last-Event-ID") or next(
        filter(None, reversed(request.GET.getlist("lastEventId"))), ""
    )
    if not named:
        return None
    if ":" in named:
        try:
            named = parse_last_event_id(named)[channel]
        except (KeyError, ValueError):
            raise BadCursor from None
    if not re.fullmatch("[0-9]+", named):
        raise BadCursor
    return int(named) if len(named) <= 16 else NUMBER


async def answer(
    request: HttpRequest, conversation: Conversation, caller
) -> HttpResponseBase: ...
