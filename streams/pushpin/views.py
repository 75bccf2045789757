"""The HTTP responses to Pushpin: the events so far, and the instruction to hold the connection.

Pushpin holds the connection and delivers what the bridge publishes. When it has missed an event, it
requests the next link, which is one URL for all holds. Pushpin merges simultaneous requests whose
URL and `Grip-Last` are equal, so the response may depend on nothing else.

The GRIP library's own view is not used. It puts channel, reader and cursor into the URL's query,
which Pushpin does not compare, so one reader could receive another's events.
"""

import random
import time
from dataclasses import dataclass, replace
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_grip import GripMiddleware
from gripcontrol import Channel

from streams.access.authorization import Caller, active_callers
from streams.delivery.follower import FORBIDDEN, GONE
from streams.delivery.replay import pending, read_page
from streams.http.problems import Problem, problem_response
from streams.log.channels import parse_cursor
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Conversation
from streams.protocol.sse import retry_field
from streams.pushpin.hold import Hold, parse_hold

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
NEXT_LINK = 600  # seconds until Pushpin requests the next link by itself, in case no bridge runs
ANY = "0"  # the `prev-id` on a channel to which nothing is published
# Called for streams only. As a middleware it would process every request, in a thread.
library = GripMiddleware(lambda request: HttpResponse())


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldResponse:
    """What Pushpin sends at once, and whether and from where it then holds the connection.

    `said` is the frames. `place` is the last event id, or None if none was read.
    """

    said: bytes
    place: int | None = None
    held: bool = True


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
    answer = first_page(hold, cursor, conversation.head)
    retry = retry_field(*settings.STREAM_RETRY)
    return _response(request, hold, replace(answer, said=retry + answer.said))


def hold_deadline() -> int:
    """When a hold that begins now ends, in minutes since 1970.

    The time is rounded, so readers that come at the same time share about five holds.
    """
    step: int = max(1, round(settings.STREAM_MAX_AGE / 600))
    max_age: float = settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)
    return (int((time.time() + max_age) / 60) // step + 1) * step


def next_link(request: HttpRequest) -> HttpResponse:
    """The response to Pushpin's next-link request: the events after the id in `Grip-Last`."""
    try:
        if not is_proxied(request):
            raise Problem(403, "grip_signature", "Only Pushpin may request this.")
        last: dict[str, str] = request.grip.last  # type: ignore[attr-defined]
        hold = next(filter(None, map(parse_hold, last)), None)
        if hold is None:
            raise Problem(400, "bad_cursor", "Grip-Last names no hold.")
        place = last.get(hold.channel, "")
        cursor = parse_cursor(place, hold.channel) if hold.begun else hold.cursor
    except Problem as problem:
        return problem_response(problem)
    except ValueError:
        return problem_response(Problem(400, "bad_cursor", "Grip-Last names no event id."))
    return _response(request, replace(hold, cursor=cursor), next_page(hold, cursor))


def next_page(hold: Hold, cursor: int | None) -> HoldResponse:
    """As `first_page`, after a check that the hold's caller may still read."""
    found = Conversation.objects.filter(pk=hold.conversation).first()
    if found is None:
        return HoldResponse(said=GONE, held=False)
    if found.owner != hold.caller.owner or not active_callers({hold.caller}):
        return HoldResponse(said=FORBIDDEN, held=False)
    return first_page(hold, cursor, found.head)


def first_page(hold: Hold, cursor: int | None, min_head: int) -> HoldResponse:
    """All events after the cursor, or a snapshot, and whether to hold the connection.

    `min_head` is the conversation's recorded head.
    """
    try:
        answer = _read_all(hold.conversation, cursor, min_head)
    except LogUnavailable:
        return HoldResponse(said=b"")  # the bridge sends a hint when Redis is back
    except Superseded:
        return HoldResponse(said=GONE, held=False)
    place = answer.place
    is_idle = hold.until_idle and place is not None and pending(hold.conversation, place) == "idle"
    return replace(answer, held=answer.held and not is_idle)


def _read_all(conversation: UUID, cursor: int | None, min_head: int) -> HoldResponse:
    frames: list[bytes] = []
    while True:
        page = read_page(conversation, cursor, min_head=min_head)
        frames.append(page.frames)
        cursor = page.cursor
        if page.last:
            return HoldResponse(said=b"".join(frames), place=cursor)


def _response(request: HttpRequest, hold: Hold, answer: HoldResponse) -> HttpResponse:
    response = HttpResponse(answer.said, content_type="text/event-stream", headers=HEADERS)
    if answer.held:
        begun = answer.place is not None
        hold = replace(hold, begun=begun, cursor=None if begun else hold.cursor)
        instruct = request.grip.start_instruct()  # type: ignore[attr-defined]
        instruct.set_hold_stream()
        if hold.begun:
            # No `build-id` filter: the frames contain their ids, and with the filter Pushpin
            # refuses to begin a hold with more than 100,000 bytes.
            instruct.add_channel(Channel(hold.channel, prev_id=str(answer.place)))
        instruct.add_channel(Channel(hold.state, prev_id=ANY))
        instruct.add_channel(hold.aside)
        instruct.set_next_link(reverse("unspool:next"), timeout=NEXT_LINK)
    answered: HttpResponse = library.process_response(request, response)
    return answered
