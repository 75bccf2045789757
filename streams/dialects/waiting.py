"""Responses that last as long as a run: its stream, or one body when it has ended.

If a client that waits for a reply closes its connection, the run ends soon after
(`streams.chat.waiting_reader`). If the connection closes because the server stops, the run goes on.
"""

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from django.db import DatabaseError, close_old_connections
from django.http import HttpResponse

from streams.api.authentication import ApiRequest
from streams.api.errors import forget_frames, logged_problem
from streams.api.prefer_wait import endings
from streams.api.routing import is_head
from streams.chat.reply_state import ReplyState, reply_state
from streams.chat.waiting_reader import bind, leave
from streams.delivery.open_streams import open_streams
from streams.delivery.threads import in_thread, threads
from streams.dialects.http import Answer, stream_run
from streams.dialects.wire import Wire
from streams.http.pending_response import PendingResponse
from streams.http.problems import Problem, not_found
from streams.http.refusals import Refuse
from streams.models import Run

STOPPING = Problem(
    503,
    "unavailable",
    "The server is stopping. Repeat the request: it joins the reply that is being written.",
    headers={"Retry-After": "1"},
)
logger = logging.getLogger(__name__)
Body = Callable[[ReplyState], HttpResponse]


def stream_waiting(
    request: ApiRequest,
    wire_of: Callable[[Run], Wire],
    run: UUID,
    *,
    headers: dict[str, str] | None = None,
) -> Answer:
    """The response that streams the run, which ends if the client leaves. Raises `Problem`.

    A HEAD request does not wait for the run.
    """
    on_close = None if is_head(request) else _on_close(run)
    state = reply_state(run)
    try:
        wire = wire_of(state.run)
        return stream_run(request, wire, state, headers=headers, on_close=on_close)
    except Problem:  # the run ends, unless the client repeats the request
        if on_close:
            on_close(True)
        raise


def wait_for_reply(
    request: ApiRequest, run: UUID, body: Body, refuse: Refuse, *, bound: bool = True
) -> PendingResponse:
    """A response that waits for the end of the run. `body` then makes its content.

    With `bound`, the run ends if the client leaves.
    """
    on_close = _on_close(run) if bound else None
    waiting = True

    async def complete(response: PendingResponse) -> None:
        nonlocal waiting
        try:
            answer = await _answer(run, body)
        except Exception as error:
            answer = refuse(logged_problem(request, error))
            forget_frames(error)
        waiting = False
        response.replace(answer)

    def close() -> None:
        if on_close:
            on_close(waiting)

    return PendingResponse(refuse(STOPPING), complete, close)


async def _answer(run: UUID, body: Body) -> HttpResponse:
    if await endings(asyncio.get_running_loop()).report_of(run) is None:
        raise STOPPING if open_streams().draining else not_found()
    return await in_thread(lambda: body(reply_state(run)))


def _on_close(run: UUID) -> Callable[[bool], None]:
    """Return the function to call when the response ends. Its argument: whether the client left."""
    reader = bind(run)

    def close(left: bool) -> None:
        if left and not open_streams().draining:
            threads(None).submit(_leave, run, reader)

    return close


def _leave(run: UUID, reader: UUID) -> None:
    try:
        leave(run, reader)
    except DatabaseError:
        logger.warning("run %s goes on, though its client has left", run, exc_info=True)
    finally:
        close_old_connections()
