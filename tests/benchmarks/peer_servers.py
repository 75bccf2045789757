"""The peers of the benchmarks: a web process each, and its publisher."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cost import ELSE, MEASURED, pin
from tests.benchmarks.nchan import NCHAN, nchan_process
from tests.benchmarks.readers import Place, Reader
from tests.support.databases import migrated
from tests.support.ports import HOST, essentials, free_port, listens
from tests.support.process import Process
from tests.support.procfile import CHECKOUT
from tests.support.stack import Stack
from tests.support.valkey import Valkey
from tests.support.waiting import until

OURS, BARE = "ours", "bare ASGI"
REDIS_STORAGE, DATABASE_STORAGE = "library, Redis storage", "library, database storage"
LIBRARY = {REDIS_STORAGE: "RedisStorage", DATABASE_STORAGE: "DjangoModelStorage"}
TRIP = 64  # events at most in one trip to Redis, where a peer can send several
UNBOUND = dict.fromkeys(("MAX_STREAMS", "MAX_LIVE_RUNS", "MAX_RUNS_PER_MINUTE"), "1000000")


@dataclass(eq=False)
class PeerServer:
    """A contestant's web process, its channels, and its mouth."""

    name: str
    port: int
    web: Process
    valkey: Valkey
    places: list[Place]
    mouth: asyncio.subprocess.Process

    def readers(self, count: int, *, timed: int = 100) -> list[Reader]:
        """`count` readers, evenly on all channels; about `timed` of them measure the delay."""
        every = max(1, count // max(1, timed))
        return [
            Reader(self.port, self.places[n % len(self.places)], timing=n % every == 0)
            for n in range(count)
        ]

    async def say(
        self, events: int, *, rate: float = 0, trip: int = TRIP, within: float = 120
    ) -> float:
        """Have events said, in turn on all channels; when that began (monotonic seconds)."""
        assert self.mouth.stdin
        assert self.mouth.stdout
        self.mouth.stdin.write(json.dumps({"events": events, "rate": rate, "trip": trip}).encode())
        self.mouth.stdin.write(b"\n")
        return float(await asyncio.wait_for(self.mouth.stdout.readline(), within))


@asynccontextmanager
async def peer_server(name: str, place: Path, *, channels: int) -> AsyncIterator[PeerServer]:
    """A peer that is ready, with empty channels."""
    place = place / f"{name.replace(' ', '-').replace(',', '')}-{free_port()}"
    place.mkdir()
    if name == OURS:
        with migrated(place) as database:
            async with Stack(place / "stack", database, workers=0, also=UNBOUND) as stack:
                mouth = await _mouth("ours", channels, dict(stack.web.environment))
                yield await _ready(name, stack.ports["web0"], stack.web, stack.valkey, mouth)
                await _silence(mouth)
        return
    valkey = Valkey(place, place / "valkey.log")
    port = free_port()
    environment = {**essentials(), "DATA_DIR": str(place), "REDIS_PORT": str(valkey.port)}
    if name in LIBRARY:
        settings = "tests.benchmarks.peers.library.settings"
        environment |= {"LIBRARY_STORAGE": LIBRARY[name], "DJANGO_SETTINGS_MODULE": settings}
        application, kind = "tests.benchmarks.peers.library.asgi", "library"
    elif name == NCHAN:
        application, kind = "", "nchan"
        environment["NCHAN_PORT"] = str(port)
    else:
        application, kind = "tests.benchmarks.peers.bare", "bare"
    if application:
        web = asgi(f"{application}:application", port, environment, place)
    else:
        web = nchan_process(port, place)
    valkey.start()
    try:
        await valkey.answers()
        if name in LIBRARY:
            await _run("django", "migrate", "--verbosity", "0", environment=environment)
        web.start()
        await until(lambda: listens(port), within=60, what=f"{name} listening")
        mouth = await _mouth(kind, channels, environment)
        yield await _ready(name, port, web, valkey, mouth)
        await _silence(mouth)
    finally:
        web.kill()
        await valkey.client.aclose()
        valkey.kill()


def asgi(application: str, port: int, environment: dict[str, str], place: Path) -> Process:
    """The application under uvicorn, on the same loop and parser as ours."""
    options = ["--host", HOST, "--port", str(port), "--log-level", "error", "--backlog", "4096"]
    options += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--lifespan", "off"]
    return Process(
        "peer",
        [sys.executable, "-m", "uvicorn", application, *options],
        environment=environment,
        directory=CHECKOUT,
        log=place / "peer.log",
    )


async def _ready(
    name: str, port: int, web: Process, valkey: Valkey, mouth: asyncio.subprocess.Process
) -> PeerServer:
    assert mouth.stdout
    places = json.loads(await asyncio.wait_for(mouth.stdout.readline(), 120))
    pin(MEASURED, web.pid)
    pin(ELSE, valkey.pid, mouth.pid)
    return PeerServer(name, port, web, valkey, [Place(**place) for place in places], mouth)


async def _mouth(
    kind: str, channels: int, environment: dict[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.publisher", kind, str(channels)),
        cwd=CHECKOUT,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )


async def _silence(mouth: asyncio.subprocess.Process) -> None:
    assert mouth.stdin
    mouth.stdin.close()
    await asyncio.wait_for(mouth.wait(), 20)


async def _run(module: str, *words: str, environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *words, cwd=CHECKOUT, env=environment
    )
    if await asyncio.wait_for(process.wait(), 60):
        raise RuntimeError(f"{module} {words} failed")
