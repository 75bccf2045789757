"""The stream behind Pushpin: what was said so far, and the order to hold the connection.

Pushpin keeps the connection and passes on what the bridge says. Whenever it has missed something
it asks for what comes next, at one address for all: requests that are under way at the same time
are shared by address and Grip-Last alone, so nothing else may decide what is answered.

The library's own GRIP view puts channel, reader and cursor into the address's query, which is not
compared, and so hands one reader's events to another.
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
NEXT_LINK = 600  # seconds until Pushpin asks by itself: only where every bridge has died
ANY = "0"  # the place on a channel where nothing is said
# Its two functions, for streams alone: as a middleware it would look at every request, in a thread.
library = GripMiddleware(lambda request: HttpResponse())


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldResponse:
    """What a reader is told at once, and the place from which it is held; without one, it ends."""

    said: bytes
    place: int | None = None
    held: bool = True


def is_proxied(request: HttpRequest) -> bool:
    """Whether Pushpin asks, which can hold the connection. Raises `Problem`."""
    if not settings.GRIP_URL or "Grip-Sig" not in request.headers:
        return False
    library.process_request(request)
    if not request.grip.signed:  # type: ignore[attr-defined]
        raise Problem(403, "grip_signature", "Pushpin's signature is not good here.")
    return True


def begin(
    request: HttpRequest,
    caller: Caller,
    conversation: Conversation,
    cursor: int | None,
    *,
    until_idle: bool,
) -> HttpResponse:
    """A new stream's beginning: all that its reader has not heard, and then it is held."""
    hold = Hold(
        conversation=conversation.id,
        caller=caller,
        until_idle=until_idle,
        ends_at=hold_deadline(),
        begun=False,
        cursor=cursor,
    )
    answer = first_page(hold, cursor, conversation.head)
    opening = retry_field(*settings.STREAM_RETRY)
    return _response(request, hold, replace(answer, said=opening + answer.said))


def hold_deadline() -> int:
    """When a hold that begins now is to end, in minutes since 1970.

    Readers who came together are some five holds and no more: each is asked for, and ended, once.
    """
    step: int = max(1, round(settings.STREAM_MAX_AGE / 600))
    life: float = settings.STREAM_MAX_AGE * random.uniform(0.8, 1.2)
    return (int((time.time() + life) / 60) // step + 1) * step


def next_link(request: HttpRequest) -> HttpResponse:
    """What held readers have not heard yet: Pushpin asks, and names their places."""
    try:
        if not is_proxied(request):
            raise Problem(403, "grip_signature", "This is for Pushpin.")
        last: dict[str, str] = request.grip.last  # type: ignore[attr-defined]
        hold = next(filter(None, map(parse_hold, last)), None)
        if hold is None:
            raise Problem(400, "bad_cursor", "Grip-Last names no hold.")
        place = last.get(hold.channel, "")
        cursor = parse_cursor(place, hold.channel) if hold.begun else hold.cursor
    except Problem as problem:
        return problem_response(problem)
    except ValueError:
        return problem_response(Problem(400, "bad_cursor", "Grip-Last names no place."))
    return _response(request, replace(hold, cursor=cursor), next_page(hold, cursor))


def next_page(hold: Hold, cursor: int | None) -> HoldResponse:
    """As `unheard`, for a reader who was let in some time ago and may have been shut out since."""
    found = Conversation.objects.filter(pk=hold.conversation).first()
    if found is None:
        return HoldResponse(said=GONE, held=False)
    if found.owner != hold.caller.owner or not active_callers({hold.caller}):
        return HoldResponse(said=FORBIDDEN, held=False)
    return first_page(hold, cursor, found.head)


def first_page(hold: Hold, cursor: int | None, known: int) -> HoldResponse:
    """Everything after the cursor, or a snapshot, and whether there is more to wait for."""
    try:
        answer = _after(hold.conversation, cursor, known)
    except LogUnavailable:
        return HoldResponse(said=b"")  # the bridge tells when Redis is back
    except Superseded:
        return HoldResponse(said=GONE, held=False)
    place = answer.place
    over = hold.until_idle and place is not None and pending(hold.conversation, place) == "idle"
    return replace(answer, held=answer.held and not over)


def _after(conversation: UUID, cursor: int | None, known: int) -> HoldResponse:
    said: list[bytes] = []
    while True:
        page = read_page(conversation, cursor, min_head=known)
        said.append(page.frames)
        cursor = page.cursor
        if page.last:
            return HoldResponse(said=b"".join(said), place=cursor)


def _response(request: HttpRequest, hold: Hold, answer: HoldResponse) -> HttpResponse:
    response = HttpResponse(answer.said, content_type="text/event-stream", headers=HEADERS)
    if answer.held:
        begun = answer.place is not None
        hold = replace(hold, begun=begun, cursor=None if begun else hold.cursor)
        instruct = request.grip.start_instruct()  # type: ignore[attr-defined]
        instruct.set_hold_stream()
        if hold.begun:
            # No `build-id` filter: our frames bring their ids, and with it Pushpin refuses to
            # begin a hold with more than 100,000 bytes.
            instruct.add_channel(Channel(hold.channel, prev_id=str(answer.place)))
        instruct.add_channel(Channel(hold.state, prev_id=ANY))
        instruct.add_channel(hold.aside)
        instruct.set_next_link(reverse("unspool:next"), timeout=NEXT_LINK)
    answered: HttpResponse = library.process_response(request, response)
    return answered
