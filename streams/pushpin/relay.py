"""A conversation that some Pushpin wants: what the bridge has said of it, and to whom."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

from streams.delivery.follower import NEVER
from streams.delivery.hub import ChannelBuffer
from streams.log.channels import channel_of
from streams.pushpin.hold import Hold

LIVELY = 45.0  # seconds of silence that may yet be a loss; below Pushpin's memory of ids, a minute


@dataclass(slots=True)
class Relay:
    """One conversation that some Pushpin wants."""

    conversation: UUID
    feed: ChannelBuffer | None = None
    task: asyncio.Task[None] | None = None
    wanted: bool = False  # its events; holds that await a snapshot do not want them yet
    holds: dict[str, Hold] = field(default_factory=dict)
    last: int | None = None  # the event said last
    frame: bytes = b""  # … and its words, if we said it
    epoch: int = 0  # the subscription after which the log was read
    doubted: bool = False  # a Pushpin may have missed the last event
    said_at: float = field(default_factory=monotonic)
    look_at: float = 0.0
    beat_at: float = NEVER
    idle_at: float = 0.0  # when to ask whether all is said

    @property
    def channel(self) -> str:
        return channel_of(self.conversation)

    @property
    def lively(self) -> bool:
        return monotonic() - self.said_at < LIVELY
