"""A Pushpin that subscribes to the bridge, and holds of readers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import zmq
import zmq.asyncio
from asgiref.sync import sync_to_async

from streams.models import Conversation
from streams.pushpin.bridge import Bridge
from streams.pushpin.hold import Hold
from tests.integration.support.published_run import VISITOR, PublishedRun

Said = dict[str, str]


class Pushpin:
    """A Pushpin: its subscriptions, and the messages that it receives."""

    def __init__(self, address: str) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.connect(address)

    def want(self, *channels: str) -> None:
        for channel in channels:
            self.socket.subscribe(channel)

    async def hears(self, said: Callable[[Said], bool], *, within: float = 5.0) -> Said:
        async with asyncio.timeout(within):
            while True:
                channel, item = await self.socket.recv_multipart()
                heard = {"channel": channel.decode(), **flat(taken(item[1:])[0])}
                if said(heard):
                    return heard


def flat(item: bytes) -> Said:
    """The fields of a message by name, at any depth."""
    words: Said = {}
    while item:
        name, _, item = taken(item)
        value, kind, item = taken(item)
        words |= flat(value) if kind == b"}" else {name.decode(): value.decode()}
    return words


def taken(item: bytes) -> tuple[bytes, bytes, bytes]:
    """The first value of a row of tnetstrings, its kind, and the rest."""
    length, _, rest = item.partition(b":")
    end = int(length)
    return rest[:end], rest[end : end + 1], rest[end + 1 :]


@asynccontextmanager
async def bridging(folder: Path) -> AsyncIterator[Pushpin]:
    address = f"ipc://{folder}/b"
    running = asyncio.create_task(Bridge(address).run())
    pushpin = Pushpin(address)
    try:
        yield pushpin
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        pushpin.context.destroy(linger=0)


def hold_of(conversation: Conversation, *, minutes: int = 60, until_idle: bool = False) -> Hold:
    return Hold(
        conversation=conversation.id,
        caller=VISITOR,
        until_idle=until_idle,
        ends_at=int(time.time() // 60) + minutes,
        begun=True,
    )


def named(id: int) -> Callable[[Said], bool]:
    return lambda said: said.get("id") == str(id)


def close(said: Said) -> bool:
    return said.get("action") == "close"


async def followed(pushpin: Pushpin, story: PublishedRun, hold: Hold) -> int:
    """Subscribe to all channels of a hold, and publish until a message arrives. Returns its id."""
    pushpin.want(hold.channel, hold.state, hold.aside)
    async with asyncio.timeout(10):
        while True:
            last = await sync_to_async(story.publish_deltas)()
            try:
                await pushpin.hears(named(last), within=0.3)
            except TimeoutError:
                continue
            return last
