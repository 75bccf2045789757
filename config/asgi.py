"""What the web process answers with: Django, with a lane of its own for streams."""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

plain = get_asgi_application()

from streams.sweep import Sweeper  # noqa: E402  # its models exist once Django is set up

STREAM = re.compile(r"^/api/conversations/[^/]+/events/?$")


class Streams(ASGIHandler):
    """Django for requests that last for hours.

    The stock handler opens a `ThreadSensitiveContext` around each request, which gives its
    synchronous pieces a thread of their own, with a database connection of its own, until the
    response has ended: a thousand open streams would be a thousand idle threads. Without it
    the synchronous pieces of all streams share one thread, so they must be short.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.handle(scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    Sweeper().start()  # of every process that lives: no single one must not die
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


streams = Streams()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI 3: HTTP and lifespan."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http" and STREAM.match(scope["path"]):
        await streams(scope, receive, send)
    else:
        await plain(scope, receive, send)
