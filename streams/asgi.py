"""The ASGI side of the app: which threads answer which request, draining, and the sweeper.

`wrap` makes the application that a server such as uvicorn runs. Import this module after
`django.setup()` or `get_asgi_application()`, because it needs the models.
"""

import asyncio
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from django.conf import settings

from streams.api.prefer_wait import wait_for_run
from streams.chat.sweep import Sweeper
from streams.delivery.open_streams import open_streams
from streams.dialects.websocket import serve_socket
from streams.http.lock_wait import bound_lock_waits
from streams.http.request import Receive, Scope, Send
from streams.http.request_limits import SOCKET
from streams.http.threaded_handler import ThreadedHandler

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
LIVE, READY = "/health/live", "/health/ready"
OWN = re.compile(r"^/(api/|health/|metrics$)")
# Paths outside of /api/, and the dialects that have them.
DIALECTS = (
    (re.compile("^/v1/"), {"chat-completions", "responses"}),
    (re.compile("^/(threads|runs)(/|$)"), {"langgraph"}),
    (re.compile("^/ag-ui(/|$)"), {"ag-ui"}),
)
STREAM = re.compile(r"^/api/(conversations/[^/]+/(events|socket)|streams/next(/[^/]+)?)/?$")
SAFE = ("GET", "HEAD", "OPTIONS")
WAITING = 512  # requests that may wait for a thread of the write pool
READING = 8  # database connections of the pool that writes never hold


def wrap(application: Application | None = None) -> "StreamsApplication":
    """Return an ASGI application that answers the app's URLs, and passes the rest on.

    `application` gets every other path. Without one, the threads of the app answer all HTTP
    requests, and further WebSockets are refused.
    """
    bound_lock_waits()
    return StreamsApplication(application)


class StreamsApplication:
    """ASGI 3. Streams, reads, writes and probes have a thread pool each.

    Opening a stream waits only for the database, so more threads would only wait for each other.
    Any other request may wait for a Redis that does not answer. A request that writes may also wait
    for a database lock.
    """

    def __init__(self, others: Application | None) -> None:
        self.others = others
        self.streams = ThreadedHandler("stream", threads=4)
        self.reads = ThreadedHandler("request", threads=64)
        self.writes = ThreadedHandler(
            "write", threads=writing_threads(), waiting=WAITING, complete=wait_for_run
        )
        # The liveness probe must not wait, because a supervisor restarts a process that is silent.
        self.live = ThreadedHandler("live", threads=1)
        self.ready = ThreadedHandler("ready", threads=2)  # its probe waits for a bounded time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http" and (not self.others or self._owns(scope["path"])):
            await self.handler_of(scope["method"], scope["path"])(scope, receive, send)
        elif scope["type"] == "websocket" and opens_socket(scope["path"]):
            await serve_socket(self.handler_of, scope, receive, send)
        elif self.others:
            await self.others(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    def _owns(self, path: str) -> bool:
        served = (place for place, names in DIALECTS if names & set(settings.DIALECTS))
        return any(place.match(path) for place in (OWN, *served))

    def handler_of(self, method: str, path: str) -> ThreadedHandler:
        """Return the handler whose threads answer this request."""
        if path in (LIVE, READY):
            return self.live if path == LIVE else self.ready
        if method not in SAFE:
            return self.writes
        return self.streams if STREAM.match(path) else self.reads


def opens_socket(path: str) -> bool:
    """Whether the app serves a WebSocket at this path."""
    return "websocket" in settings.DIALECTS and bool(SOCKET.match(path))


def writing_threads(most: int = 64) -> int:
    """Return the number of write threads, so that the pool keeps `READING` for other threads."""
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    return max(1, min(most, pool["max_size"] - READING)) if pool else most


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's lifespan events. The sweeper starts before the first of them."""
    # Create the instance now. Otherwise two threads could create one each, and one is never
    # drained.
    open_streams()
    Sweeper().start()  # in each web process, so that the sweep depends on no single process
    with drain_at_signals():
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


@contextmanager
def drain_at_signals() -> Iterator[None]:
    """Ask the streams' readers to reconnect at SIGTERM or SIGINT, after the server's own handler.

    A server tells the application of its shutdown only after all responses have ended, and streams
    do not end by themselves. Only the main thread receives signals.
    """
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def drain(number: int, frame: FrameType | None) -> None:
        # The server's own handler is first: it closes the listeners, and then the readers reach
        # another process.
        server = handlers[signal.Signals(number)]
        assert callable(server)
        server(number, frame)
        loop.call_soon_threadsafe(open_streams().drain)

    chained = [number for number, handler in handlers.items() if callable(handler)]
    if threading.current_thread() is not threading.main_thread():
        chained = []
    for number in chained:
        signal.signal(number, drain)
    try:
        yield
    finally:
        for number in chained:
            signal.signal(number, handlers[number])
