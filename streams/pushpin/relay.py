"""The state of one conversation in the bridge: its last published event, its holds, its timers."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

from streams.delivery.follower import NEVER
from streams.delivery.hub import ChannelBuffer
from streams.log.channels import channel_of
from streams.pushpin.hold import Hold

RECENT = 45.0  # seconds; less than the minute in which Pushpin drops a repeated id


@dataclass(slots=True)
class Relay:
    """One conversation that some Pushpin wants to receive."""

    conversation: UUID
    buffer: ChannelBuffer | None = None
    task: asyncio.Task[None] | None = None
    wanted: bool = False  # whether for its events: holds that await a snapshot want none yet
    holds: dict[str, Hold] = field(default_factory=dict)
    last: int | None = None  # the id of the event published last
    frame: bytes = b""  # … and its frame; empty if this bridge has not published that event
    subscription: int = 0  # the subscription in which the log was last read to its end
    maybe_missed: bool = False  # a Pushpin may have missed the last event
    published_at: float = field(default_factory=monotonic)
    check_at: float = 0.0  # when to read the log
    heartbeat_at: float = NEVER
    idle_at: float = 0.0  # when to check whether no run is pending

    @property
    def channel(self) -> str:
        return channel_of(self.conversation)

    @property
    def recently_published(self) -> bool:
        """Whether the last event is so new that its loss may still be unnoticed."""
        return monotonic() - self.published_at < RECENT
