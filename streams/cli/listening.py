"""Hearing a conversation over as many connections as it takes: each event once, in order."""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx
from httpx_sse import EventSource, SSEError

from streams.cli.backoff import Patience
from streams.cli.client import CROWDED, Client, Refused, retry_after
from streams.protocol.events import EVENTS, Event, Snapshot, StreamError, StreamReset
from streams.protocol.sse import decode


@dataclass(kw_only=True, slots=True)
class Listening:
    """`cursor` is the last event that was heard; None for one who has heard nothing."""

    client: Client
    conversation: UUID
    cursor: int | None
    until_idle: bool
    retry: float = 0.0  # seconds that the service wants us to stay away, once a connection ends

    def events(self) -> Generator[Event | Snapshot, None, None]:
        """What is said from the cursor on; ends once nothing is left to hear, if until idle.

        Raises `Refused` where the conversation may not be heard, or not any more; `Unreachable`.
        """
        patience = Patience(self.client.tell)
        while True:
            least = 0.0
            try:
                with self.client.stream(
                    self.conversation, self.cursor, until_idle=self.until_idle
                ) as source:
                    status = source.response.status_code
                    if status == 204:
                        patience.answered()
                        return
                    if status in CROWDED:
                        least = retry_after(source.response)
                    else:
                        yield from self._heard(source, patience)
            except httpx.TransportError:
                pass  # nothing is lost: the cursor says where to go on
            except SSEError:
                raise Refused("What answers there is no event stream.") from None
            patience.pause(max(least, self.retry))

    def _heard(self, source: EventSource, patience: Patience) -> Iterator[Event | Snapshot]:
        for sse in source.iter_sse():
            patience.answered()
            if sse.retry is not None:
                self.retry = sse.retry / 1000
            match sse.event:
                case StreamReset.type:
                    self.cursor = None  # if the connection ends here, the snapshot must come again
                    self.client.tell("the log was lost: this is the text as it is now")
                case StreamError.type:
                    raise Refused(json.loads(sse.data)["text"])
                case type if type in EVENTS or type == Snapshot.type:
                    self.cursor = int(sse.id)
                    yield decode(type, sse.data)
                case _:
                    pass  # a heartbeat, or something that later versions say: a sign of life
