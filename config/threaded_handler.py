"""A lane: Django behind a few threads, so that requests of one kind wait for their own alone."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import Any, TypeVar, cast

from asgiref.sync import sync_to_async
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import set_script_prefix

from config.lock_wait import in_request
from config.request import Receive, Request, Scope, Send, receive_in_time, wants_body
from streams.api.prefer_wait import wait_for_run
from streams.http.problems import Problem, problem_response
from streams.http.unavailable import unavailable_response

T = TypeVar("T")
REQUEST_TIMEOUT = Problem(
    408,
    "request_timeout",
    "The rest of the request did not come.",
    headers={"Connection": "close"},
)
CUT_OFF = Problem(
    503,
    "unavailable",
    "This process ends, and may have done what you asked. Ask again with the same Idempotency-Key.",
    headers={"Retry-After": "1"},
)
OVERLOADED = Problem(
    503,
    "unavailable",
    "Too many requests wait for the database. Nothing was done: try again in a few seconds.",
    headers={"Retry-After": "5"},
)
TURN = 5.0  # seconds that a request waits for a thread, in a lane where the wait is bounded


class ThreadedHandler(ASGIHandler):
    """Django, with all that a request asks of it done at once, in one of a few threads.

    The stock handler takes every synchronous middleware to a thread and back, some twenty times a
    request. The thread is the request's own until its response has ended, and so is a database
    connection: a thousand open streams would be a thousand idle threads.
    """

    request_class = Request

    def __init__(self, name: str, *, threads: int, waiting: int | None = None) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._most = None if waiting is None else threads + waiting  # requests in here at once
        self._inside = 0
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request, response = await self._answered(scope, receive)
        except RequestAborted:
            return
        except TimeoutError:
            await self.send_response(problem_response(REQUEST_TIMEOUT), send)
            return
        except Overloaded:
            await self.send_response(refused_early(scope, OVERLOADED), send)
            return
        except asyncio.CancelledError:
            # The process ends, and can wait no longer. uvicorn would say 500.
            await self.send_response(refused_early(scope, CUT_OFF), send)
            return
        if isinstance(response, StreamingHttpResponse):
            try:
                await run_while_connected(self.send_response(response, send), receive)
            finally:
                response.close()
            return
        if response.status_code == 202:
            with suppress(asyncio.CancelledError):  # the process ends: accepted it is
                await run_while_connected(wait_for_run(request, response), receive)
        await self.send_response(response, send)

    async def _answered(
        self, scope: Scope, receive: Receive
    ) -> tuple[Request, HttpResponse | StreamingHttpResponse]:
        body = await self.read_body(receive_in_time(receive)) if wants_body(scope) else BytesIO()
        made = cast("tuple[Request, HttpResponse | None]", self.create_request(scope, body))
        request, refused = made
        return request, refused or await self._in_thread(request)

    async def _in_thread(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        if self._most is None:
            return await self._submit(self._answer, request)
        if self._inside >= self._most:
            request.close()
            raise Overloaded
        turn = Turn()
        answering = asyncio.ensure_future(self._submit(self._answer_unless_late, request, turn))
        self._inside += 1
        answering.add_done_callback(self._leave)
        try:
            await asyncio.wait({answering}, timeout=TURN)
        except asyncio.CancelledError:
            turn.take()
            answering.cancel()
            raise
        if not answering.done() and turn.take():
            raise Overloaded
        return await answering

    async def _submit(self, answer: Callable[..., T], *given: object) -> T:
        in_thread = sync_to_async(answer, thread_sensitive=False, executor=self._threads)
        return await in_thread(*given)

    def _leave(self, _: object) -> None:
        self._inside -= 1

    def _answer_unless_late(
        self, request: Request, turn: "Turn"
    ) -> HttpResponse | StreamingHttpResponse:
        if turn.take():
            return self._answer(request)
        request.close()
        return HttpResponse()  # to a caller that was refused before the thread was free

    def _answer(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        in_request.set(True)
        set_script_prefix(get_script_prefix(request.scope))
        signals.request_started.send(sender=self.__class__, scope=request.scope)
        try:
            response = cast("HttpResponse | StreamingHttpResponse", self.get_response(request))
            if isinstance(response, StreamingHttpResponse) and not response.is_async:
                return read_whole(response)
            if response.status_code == 204:  # it has no body to speak of: RFC 9110 §8.6
                del response["Content-Length"], response["Content-Type"]
            return response
        finally:
            request.close()
            request.drop_body()
            # This thread's connections are free, however long the response lasts.
            signals.request_finished.send(sender=self.__class__)


class Overloaded(Exception):
    """Too many requests wait for a thread, or this one has waited too long. It has not begun."""


class Turn:
    """A request's turn, which either its thread takes or the caller that waits no longer."""

    def __init__(self) -> None:
        self._free = [True]

    def take(self) -> bool:
        """Whether the turn was still free. From any thread."""
        try:
            return self._free.pop()  # one step, so that only one of two gets it
        except IndexError:
            return False


def refused_early(scope: Scope, problem: Problem) -> HttpResponse:
    """The answer to a request that no view answers."""
    page = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
    return unavailable_response(scope["method"], scope["path"], page, problem)


async def run_while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do it, but no longer than whoever asked for it is there."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait for his leaving. What comes before is a body that nobody wanted."""
    while (await receive())["type"] != "http.disconnect":
        pass


def read_whole(response: StreamingHttpResponse) -> HttpResponse:
    """A file's response, with the file in it."""
    read = HttpResponse(b"".join(response), status=response.status_code)
    read.headers, read.cookies = response.headers, response.cookies
    response.close()
    return read
