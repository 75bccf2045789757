"""Peers that stream directly from the model to the client, which is the least cost of a reply."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cost import MEASURED, pin
from tests.benchmarks.peer_servers import asgi
from tests.benchmarks.readers import Place, Reader
from tests.benchmarks.service import Service
from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.process import Process
from tests.support.visitor import script
from tests.support.waiting import until

PEERS = Path(__file__).with_name("peers")
DJANGO, FASTAPI, RESUMABLE = "StreamingHttpResponse", "FastAPI, sse-starlette", "resumable-stream"
APPLICATIONS = {DJANGO: "streaming", FASTAPI: "direct"}
INSTALL = ("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")


@dataclass(frozen=True)
class Streamer:
    """A peer that listens at `port`. A POST to any path begins a reply with this id."""

    name: str
    port: int
    web: Process

    def asks(self, id: str, **wishes: object) -> Reader:
        """A reader whose own request starts the reply."""
        body = json.dumps({"message": script(**wishes)}).encode()
        return Reader(self.port, Place(path=f"/{id}", headers={}, body=body), timing=True)

    def comes_back(self, id: str) -> Reader:
        """A reader of a reply that has already started."""
        return Reader(self.port, Place(path=f"/{id}", headers={}), timing=True)


@asynccontextmanager
async def streamer(name: str, home: Service, place: Path) -> AsyncIterator[Streamer]:
    """Run the peer with the model of `home`, and with its Redis if the peer uses one."""
    port = free_port()
    place = place / f"streamer-{port}"
    place.mkdir()
    environment = {
        **essentials(),
        "OPENAI_BASE_URL": home.stack.worker.environment["OPENAI_BASE_URL"],
        "REDIS_URL": home.stack.worker.environment["REDIS_URL"],
        "PORT": str(port),
    }
    if name == RESUMABLE:
        web = await _resumable(environment, place)
    else:
        application = f"tests.benchmarks.peers.{APPLICATIONS[name]}:application"
        web = asgi(application, port, environment, place)
    web.start()
    try:
        await until(lambda: listens(port), within=60, what=f"{name} listening")
        pin(MEASURED, web.pid)
        yield Streamer(name, port, web)
    finally:
        web.kill()


async def _resumable(environment: dict[str, str], place: Path) -> Process:
    for file in ("package.json", "package-lock.json", "server.mjs"):
        shutil.copy(PEERS / "resumable" / file, place)
    install = await asyncio.create_subprocess_exec(*INSTALL, cwd=place, env=dict(os.environ))
    if await asyncio.wait_for(install.wait(), 120):
        raise RuntimeError("npm could not install the peer")
    return Process(
        "resumable",
        ["node", "server.mjs"],
        environment={**environment, "HOST": HOST},
        directory=place,
        log=place / "peer.log",
    )
