"""The scripted model, with the moment of sending at the beginning of every piece of text.

    python -m tests.benchmarks.stamping_model --port 0 --ready-file PATH

does the same as tests.support.openai_server, and adds `@<µs>@` by the machine's monotonic clock.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import uvloop
from typing_extensions import override

from tests.support.openai_wire import Connection, Model

TEXT = b'"content": "w'  # how tests/support/script.py begins each of its pieces


class Stamped(Connection):
    """One connection. It reads the clock as late as possible."""

    @override  # if the base class renames the method, this is an error
    async def send_line(self, line: bytes, dripping: float) -> None:
        stamp = b'"content": "@%d@w' % (time.monotonic_ns() // 1000)
        await super().send_line(line.replace(TEXT, stamp, 1), dripping)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    wishes = parser.parse_args()
    model = Model()
    server = await asyncio.get_running_loop().create_server(
        lambda: Stamped(model), "127.0.0.1", wishes.port, backlog=512
    )
    if wishes.ready_file:
        port = server.sockets[0].getsockname()[1]
        wishes.ready_file.write_text(f"http://127.0.0.1:{port}/v1\n")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
