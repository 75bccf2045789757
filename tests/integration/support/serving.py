"""A server with the web process's own protocols, for a small application."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from config.connection import HttpConnection


class Server(uvicorn.Server):
    """A server that does not replace the test's signal handlers."""

    def install_signal_handlers(self) -> None: ...


@asynccontextmanager
async def serving(answer: Any, **options: Any) -> AsyncIterator[int]:
    """Run a server with this application and these options of uvicorn. Yields its port."""
    config = uvicorn.Config(
        answer,
        **{"ws": "none"} | options,
        http=HttpConnection,
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    server = Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        await server.startup(sockets=[sock])
        try:
            yield sock.getsockname()[1]
        finally:
            await server.shutdown(sockets=[sock])
