"""The event stream over HTTP: authenticates the reader, reads the cursor, opens the stream."""

import logging
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from streams.access.authentication import caller_of, signed_caller
from streams.access.authorization import Caller, readable_conversation
from streams.api.errors import error_response
from streams.delivery.open_streams import OpenStream, StreamLimit, open_streams
from streams.delivery.replay import Pending, pending
from streams.http.event_stream import HEADERS, EventStreamResponse, stream_head
from streams.http.problems import TOO_MANY_STREAMS, Problem
from streams.http.unavailable import retry_later
from streams.log.channels import channel_of, parse_cursor
from streams.log.errors import LogUnavailable
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Conversation
from streams.pushpin import views

logger = logging.getLogger(__name__)
ALLOWED = "GET, HEAD, OPTIONS"


@csrf_exempt  # it changes nothing, and a POST gets 405
def events(request: HttpRequest, conversation: UUID) -> HttpResponseBase:
    """The conversation's events after the cursor. A refusal is a problem response, not a stream.

    A temporary fault is answered with 200 and a `retry` field, because an EventSource never
    reconnects after any other status.
    """
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers={"Allow": ALLOWED})
    try:
        if request.method not in ("GET", "HEAD"):
            raise Problem(
                405, "method_not_allowed", "Read it with GET.", headers={"Allow": ALLOWED}
            )
        caller = reader_of(request)
        found = readable_conversation(caller, conversation)
        return _answer(request, caller, found, cursor_of(request, channel_of(found.id)))
    except Exception as error:
        refusal = error_response(request, error)
        temporary = request.method == "GET" and refusal.status_code >= 500
        return retry_later() if temporary else refusal


def reader_of(request: HttpRequest) -> Caller:
    """The caller, by `?token=` if that is given, otherwise by `caller_of`. Raises `Problem`."""
    token = request.GET.get("token", "")  # an EventSource cannot send an Authorization header
    return signed_caller(request, token) if token else caller_of(request)


def _answer(
    request: HttpRequest, caller: Caller, conversation: Conversation, cursor: int | None
) -> HttpResponseBase:
    until_idle = until_idle_of(request)
    if until_idle and cursor is not None and is_idle(conversation, cursor):
        return HttpResponse(status=204, headers=HEADERS)
    if request.method == "HEAD":
        return stream_head(HEADERS)
    if views.is_proxied(request):
        return views.begin(request, caller, conversation, cursor, until_idle=until_idle)
    stream = open_stream(caller, conversation, cursor, until_idle=until_idle)
    return EventStreamResponse(stream, headers=HEADERS)


def open_stream(
    caller: Caller, conversation: Conversation, cursor: int | None, *, until_idle: bool
) -> OpenStream:
    """A new stream, which the caller must close. Raises `Problem` at the owner's limit."""
    try:
        stream = open_streams().admit(caller, conversation, cursor, until_idle=until_idle)
    except StreamLimit:
        raise TOO_MANY_STREAMS from None
    logger.info("a stream of conversation %s opens after %s", conversation.id, cursor)
    return stream


def cursor_of(request: HttpRequest, channel: str) -> int | None:
    """The id of the last event that the reader has received, or None for a new reader.

    The header overrides the query, because an EventSource that reconnects sends both.
    Raises `Problem`.
    """
    text = request.headers.get("Last-Event-ID") or next(
        filter(None, reversed(request.GET.getlist("lastEventId"))), ""
    )
    if not text:
        return None
    try:
        return parse_cursor(text, channel)
    except ValueError:
        detail = "A cursor is an event's id, or this channel's name, a colon, and the id."
        raise Problem(400, "bad_cursor", detail) from None


def until_idle_of(request: HttpRequest) -> bool:
    """Whether the caller wants the stream to end when no run is active. Raises `Problem`."""
    until = request.GET.get("until", "")
    if until not in ("", "idle"):
        raise Problem(400, "bad_request", "`until` can only be `idle`.")
    return until == "idle"


def is_idle(conversation: Conversation, cursor: int) -> bool:
    """Whether the reader has all events and no run is active, so no event will follow by itself."""
    try:
        page = log_of(conversation.id, conversation.head).read_after(cursor, count=1)
    except LogUnavailable:
        return False
    caught_up = isinstance(page, Page) and not page.entries
    return caught_up and pending(conversation.id, cursor) is Pending.IDLE
