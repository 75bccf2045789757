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

from streams.channels import Caller, cursor_in, still_in
from streams.follow import FORBIDDEN, GONE
from streams.hold import Hold, hold_in
from streams.models import Conversation
from streams.problems import Problem, refusal
from streams.reading import outlook, page_of
from streams.verdicts import Away, Superseded
from streams.wire import retry

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
NEXT_LINK = 600  # seconds until Pushpin asks by itself: only where every bridge has died
ANY = "0"  # the place on a channel where nothing is said
# Its two functions, for streams alone: as a middleware it would look at every request, in a thread.
library = GripMiddleware(lambda request: HttpResponse())


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a reader is told at once, and the place from which it is held; without one, it ends."""

    said: bytes
    place: int | None = None
    held: bool = True


def proxied(request: HttpRequest) -> bool:
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
        ends_at=last_minute(),
        begun=False,
        cursor=cursor,
    )
    answer = unheard(hold, cursor, conversation.head)
    opening = retry(*settings.STREAM_RETRY)
    return _response(request, hold, replace(answer, said=opening + answer.said))


def last_minute() -> int:
    """When a hold that begins now is to end, in minutes since 1970.

    Readers who came together are some five holds and no more: each is asked for, and ended, once.
    """
    step: int = max(1, round(settings.STREAM_LIFE / 600))
    life: float = settings.STREAM_LIFE * random.uniform(0.8, 1.2)
    return (int((time.time() + life) / 60) // step + 1) * step


def go_on(request: HttpRequest) -> HttpResponse:
    """What held readers have not heard yet: Pushpin asks, and names their places."""
    try:
        if not proxied(request):
            raise Problem(403, "grip_signature", "This is for Pushpin.")
        last: dict[str, str] = request.grip.last  # type: ignore[attr-defined]
        hold = next(filter(None, map(hold_in, last)), None)
        if hold is None:
            raise Problem(400, "bad_cursor", "Grip-Last names no hold.")
        place = last.get(hold.channel, "")
        cursor = cursor_in(place, hold.channel) if hold.begun else hold.cursor
    except Problem as problem:
        return refusal(problem)
    except ValueError:
        return refusal(Problem(400, "bad_cursor", "Grip-Last names no place."))
    return _response(request, replace(hold, cursor=cursor), heard_next(hold, cursor))


def heard_next(hold: Hold, cursor: int | None) -> Answer:
    """As `unheard`, for a reader who was let in some time ago and may have been shut out since."""
    found = Conversation.objects.filter(pk=hold.conversation).first()
    if found is None:
        return Answer(said=GONE, held=False)
    if found.owner != hold.caller.owner or not still_in({hold.caller}):
        return Answer(said=FORBIDDEN, held=False)
    return unheard(hold, cursor, found.head)


def unheard(hold: Hold, cursor: int | None, known: int) -> Answer:
    """Everything after the cursor, or a snapshot, and whether there is more to wait for."""
    try:
        answer = _after(hold.conversation, cursor, known)
    except Away:
        return Answer(said=b"")  # the bridge tells when Redis is back
    except Superseded:
        return Answer(said=GONE, held=False)
    place = answer.place
    over = hold.until_idle and place is not None and outlook(hold.conversation, place) == "idle"
    return replace(answer, held=answer.held and not over)


def _after(conversation: UUID, cursor: int | None, known: int) -> Answer:
    said: list[bytes] = []
    while True:
        page = page_of(conversation, cursor, known=known)
        said.append(page.blocks)
        cursor = page.cursor
        if page.last:
            return Answer(said=b"".join(said), place=cursor)


def _response(request: HttpRequest, hold: Hold, answer: Answer) -> HttpResponse:
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
        instruct.set_next_link(reverse("api:next"), timeout=NEXT_LINK)
    answered: HttpResponse = library.process_response(request, response)
    return answered
