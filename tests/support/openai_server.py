"""A model server that streams scripted replies over OpenAI's wire.

POST /v1/chat/completions streams the reply that the last user message scripts
(tests/support/script.py). GET /stats counts requests, open connections and replies that are being
streamed, and has the times at which a client closed a connection in mid-stream (in seconds since
the epoch). GET /last is the body of the last request. POST /release with a message as JSON lets
replies to it go on that wait at `hold_at`.

    python -m tests.support.openai_server --port 0 --ready-file PATH

writes the base URL to PATH as soon as it listens.
"""

import argparse
import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvloop

from tests.support.openai_wire import Connection, Model
from tests.support.script import expected, pieces

__all__ = ["expected", "listen", "pieces", "serving"]


async def listen(model: Model, port: int = 0) -> tuple[asyncio.Server, str]:
    """A server on 127.0.0.1, and the base URL to give to a client."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(model), "127.0.0.1", port, backlog=512)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@dataclass(frozen=True)
class Running:
    """A server that listens at `url`."""

    url: str

    def stats(self) -> dict[str, Any]:
        return self._page("/stats")

    def last(self) -> dict[str, Any]:
        """The last request; empty before the first one."""
        return self._page("/last")

    def _page(self, path: str) -> dict[str, Any]:
        return dict(httpx.get(self.url.removesuffix("/v1") + path, trust_env=False).json() or {})


@contextmanager
def serving(*, closes: bool = False) -> Iterator[Running]:
    """A server in a thread of its own, for tests with or without a loop.

    With `closes`, it closes each connection after its response, because some clients never do.
    """
    ready: list[str] = []
    listening, over = threading.Event(), threading.Event()

    async def serve() -> None:
        model = Model(closes=closes)
        server, url = await listen(model)
        ready.append(url)
        listening.set()
        await asyncio.to_thread(over.wait)
        server.close()
        for transport in model.transports:
            transport.abort()  # its client may not have closed it yet
        while model.transports:
            await asyncio.sleep(0)

    thread = threading.Thread(target=uvloop.run, args=[serve()], name="openai_server")
    thread.start()
    try:
        assert listening.wait(5)
        yield Running(ready[0])
    finally:
        over.set()
        thread.join(5)


async def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model over OpenAI's wire.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    wishes = parser.parse_args()
    server, url = await listen(Model(), wishes.port)
    if wishes.ready_file:
        draft = wishes.ready_file.with_suffix(".draft")
        draft.write_text(url + "\n")
        draft.rename(wishes.ready_file)  # so that no process reads half of the file
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
