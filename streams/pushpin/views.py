"""The HTTP responses to Pushpin: the events so far, and the instruction to hold the connection.

Pushpin holds the connection and delivers the items that the bridge publishes. When it has missed an
event, it requests the next link, which is one URL for all holds. A response has at most about
`PAGE_BYTES` of events. If the log holds more, the response begins no hold, and its next link names
the next page. Pushpin requests this page once the reader has read the response. Pushpin merges
simultaneous requests whose path and `Grip-Last` are equal, so the response depends on nothing else.

The GRIP library's own view is not used. It puts channel, reader and cursor into the URL's query,
which Pushpin does not compare, so one reader could receive another's events.
"""

import random
import time
from dataclasses import dataclass, replace

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_grip import GripMiddleware
from gripcontrol import Channel

from streams.access.authorization import Caller, Refusal, check_readers
from streams.delivery.replay import Pending, pending, read_page
from streams.delivery.stream_end import StreamEnd, closing_frames
from streams.http.event_stream import HEADERS
from streams.http.problems import Problem, problem_response
from streams.log.channels import parse_cursor
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Conversation
from streams.protocol.sse import retry_field
from streams.pushpin.hold import Hold, parse_hold

NEXT_LINK = 600  # seconds until Pushpin requests the next link by itself, in case no bridge runs
# The same after the pages of a long replay. Pushpin subscribes only after the last page, so it did
# not receive an event that was published between the pages.
NEXT_LINK_SOON = 1
PAGE_BYTES = 1024 * 1024  # once a response has this size, no more of the log is read
ANY = "0"  # the `prev-id` on a channel to which nothing is published
# Called for streams only. As a middleware it would process every request, in a thread.
library = GripMiddleware(lambda request: HttpResponse())


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldResponse:
    """The frames that Pushpin sends at once, and its next step: to end, the next page, or a hold.

    `cursor` is the id of the last event in or before the frames; None if the log was not read.
    """

    frames: bytes = b""
    cursor: int | None = None
    more: bool = False  # whether the log holds more events, which the next page begins with
    end: StreamEnd | None = None


def is_proxied(request: HttpRequest) -> bool:
    """Whether the request came through Pushpin. Raises `Problem` if its signature is wrong."""
    if not settings.GRIP_URL or "Grip-Sig" not in request.headers:
        return False
    library.process_request(request)
    if not request.grip.signed:  # type: ignore[attr-defined]
        raise Problem(403, "grip_signature", "The `Grip-Sig` header is not valid here.")
    return True


def begin(
    request: HttpRequest,
    caller: Caller,
    conversation: Conversation,
    cursor: int | None,
    *,
    until_idle: bool,
) -> HttpResponse:
    """The response that opens a stream: the events after the cursor, then a hold."""
    hold = Hold(
        conversation=conversation.id,
        caller=caller,
        until_idle=until_idle,
        ends_at=hold_deadline(),
        begun=False,
        cursor=cursor,
    )
    page = read_pages(hold, cursor, conversation.head)
    retry = retry_field(*settings.STREAM_RETRY)
    return _response(request, hold, replace(page, frames=retry + page.frames))


def hold_deadline() -> int:
    """When a hold that begins now ends, in minutes since 1970.

    The time is rounded, so readers that come at the same time share about five holds.
    """
    step: int = max(1, round(settings.STREAM_MAX_AGE / 600))
    max_age: float = settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)
    return (int((time.time() + max_age) / 60) // step + 1) * step


def next_link(request: HttpRequest, name: str = "") -> HttpResponse:
    """The response to Pushpin's next-link request: the events after the id in `Grip-Last`.

    Between the pages of a long replay, `name` in the path is the hold, which has the cursor.
    """
    try:
        if not is_proxied(request):
            raise Problem(403, "grip_signature", "Only Pushpin may request this.")
        hold, cursor = _hold_of(name, request.grip.last)  # type: ignore[attr-defined]
    except Problem as problem:
        return problem_response(problem)
    except ValueError:
        return problem_response(Problem(400, "bad_cursor", "Grip-Last names no event id."))
    page = next_page(hold, cursor)
    timeout = NEXT_LINK_SOON if name else NEXT_LINK
    return _response(request, replace(hold, cursor=cursor), page, timeout=timeout)


def _hold_of(name: str, last: dict[str, str]) -> tuple[Hold, int | None]:
    """The hold and its cursor. Raises `Problem`, and `ValueError` for a malformed event id."""
    hold = next(filter(None, map(parse_hold, [name] if name else last)), None)
    if hold is None:
        raise Problem(400, "bad_cursor", "Grip-Last names no hold.")
    if not hold.begun:
        return hold, hold.cursor
    return hold, parse_cursor(last.get(hold.channel, ""), hold.channel)


def next_page(hold: Hold, cursor: int | None) -> HoldResponse:
    """Like `read_pages`, after a check that the hold's caller may still read."""
    reader = (hold.caller, hold.conversation)
    found = check_readers([reader])[reader]
    if isinstance(found, Refusal):
        return HoldResponse(end=StreamEnd(found))
    return read_pages(hold, cursor, found.head)


def read_pages(hold: Hold, cursor: int | None, min_head: int) -> HoldResponse:
    """The next events after the cursor, or a snapshot, and Pushpin's next step.

    `min_head` is the conversation's recorded head. A snapshot and a single event may be longer
    than `PAGE_BYTES`, and the page of the log that exceeds it is included.
    """
    frames: list[bytes] = []
    size, last = 0, False
    try:
        while not last and size < PAGE_BYTES:
            page = read_page(hold.conversation, cursor, min_head=min_head)
            frames += page.frames
            size += sum(map(len, page.frames))
            cursor, last = page.cursor, page.last
    except LogUnavailable:
        if not frames:
            return HoldResponse()  # the bridge sends a hint when Redis is back
    except Superseded:
        return HoldResponse(end=StreamEnd.GONE)
    done = HoldResponse(frames=b"".join(frames), cursor=cursor, more=not last)
    if last and hold.until_idle and cursor is not None:
        is_idle = pending(hold.conversation, cursor) is Pending.IDLE
        return replace(done, end=StreamEnd.IDLE) if is_idle else done
    return done


def _response(
    request: HttpRequest, hold: Hold, page: HoldResponse, *, timeout: int = NEXT_LINK
) -> HttpResponse:
    content = page.frames + (closing_frames(page.end) if page.end else b"")
    response = HttpResponse(content, content_type="text/event-stream", headers=HEADERS)
    if page.end:
        return response
    if page.more:
        name = replace(hold, begun=False, cursor=page.cursor).state
        # Written here, because the library sends a link only together with a channel.
        response["Grip-Link"] = f"<{reverse('unspool:next-page', args=[name])}>; rel=next"
        return response
    begun = page.cursor is not None
    hold = replace(hold, begun=begun, cursor=None if begun else hold.cursor)
    instruct = request.grip.start_instruct()  # type: ignore[attr-defined]
    instruct.set_hold_stream()
    if begun:
        # No `build-id` filter: the frames contain their ids, and with the filter Pushpin
        # refuses to begin a hold with more than 100,000 bytes.
        instruct.add_channel(Channel(hold.channel, prev_id=str(page.cursor)))
    instruct.add_channel(Channel(hold.state, prev_id=ANY))
    instruct.add_channel(hold.aside)
    instruct.set_next_link(reverse("unspool:next"), timeout=timeout)
    answered: HttpResponse = library.process_response(request, response)
    return answered
