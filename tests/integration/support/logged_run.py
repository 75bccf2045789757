"""One run on one channel of a log: a test calls each of the log's methods directly."""

from collections.abc import Callable
from uuid import uuid4

import redis

from streams.chat import final_events
from streams.chat.message_view import stored_parts
from streams.log.channel_log import ChannelLog
from streams.log.event_log import EventLog
from streams.log.servers import Servers
from streams.log.values import Append, OnUnverified, Page, Watermark
from streams.models import Message, Run
from streams.protocol.events import (
    Ending,
    RunCompleted,
    RunQueued,
    RunStarted,
    TextDelta,
    TextSnapshot,
    Usage,
)
from streams.protocol.parts import Part, text_of, text_parts
from tests.support.appends import text_append

CLOCK = 1_800_000_000_000_000  # microseconds
USAGE = Usage(input_tokens=1, output_tokens=2, total_tokens=3, estimated=False)


class Clock:
    """A clock that moves only by assignment."""

    def __init__(self) -> None:
        self.now = CLOCK

    def __call__(self) -> int:
        return self.now


class LoggedRun:
    """One run on one channel, appended delta by delta."""

    def __init__(self, valkey: "redis.Redis", clock: Callable[[], int] | None = None) -> None:
        self.log = EventLog(Servers(valkey, clock or Clock()))
        self.channel = f"conversation-{uuid4()}"
        self.run = uuid4()
        self.message = uuid4()

    def at(self, min_head: int = 0) -> ChannelLog:
        """The log, for a caller that knows the events up to this id."""
        return self.log.channel(self.channel, min_head)

    def queue(self, min_head: int = 0) -> int:
        event = RunQueued(run=self.run, message=self.message)
        (id,) = self.at(min_head).append_once(event, run=self.run)
        return id

    def start(self, attempt: int = 1, min_head: int = 0, abandoned: bool = False) -> int:
        event = RunStarted(run=self.run, attempt=attempt, model="m")
        return self.at(min_head).append_start(event, abandoned=abandoned)

    def delta(self, index: int, text: str = "", attempt: int = 1, min_head: int = 0) -> Append:
        event = TextDelta(run=self.run, attempt=attempt, index=index, text=text or f"w{index} ")
        return text_append(self.channel, event, min_head=min_head)

    def append(self, *deltas: Append) -> list[int | str]:
        answers = self.log.append(deltas)
        return [a if isinstance(a, int) else type(a).__name__ for a in answers]

    def whole(self, text: str, *, attempt: int, index: int) -> TextSnapshot:
        parts = text_parts(text)
        return TextSnapshot(run=self.run, attempt=attempt, index=index, text=text, parts=parts)

    def append_final(self, text: str, min_head: int = 0, event: Ending | None = None) -> int:
        """Append the final event, after the events that readers still need for this text."""
        return self.append_final_of(text_parts(text), min_head, event)

    def append_final_of(
        self, parts: tuple[Part, ...], min_head: int = 0, event: Ending | None = None
    ) -> int:
        ending = event or RunCompleted(
            run=self.run, attempt=1, reply=uuid4(), finish_reason="stop", usage=USAGE
        )
        log = self.at(min_head)
        reply = Message(content=text_of(parts), parts=stored_parts(parts)) if parts else None
        row = Run(id=self.run, attempt=ending.attempt, model="m", reply=reply)
        sealed = log.seal(self.run, ending.attempt, ended=True)
        before = final_events.missing_events(row, sealed)
        return log.append_final(ending, *before, token=sealed.token)

    def sealed(
        self, attempt: int, on_unverified: OnUnverified = OnUnverified.IGNORE
    ) -> tuple[int | None, str]:
        """Seal the reply. Returns the attempt whose text the log holds, and the text."""
        sealed = self.at().seal(self.run, attempt, on_unverified=on_unverified)
        assert sealed.known
        return sealed.attempt, text_of(sealed.parts)

    def verify(self, head: int, attempt: int = 1) -> None:
        reach = Watermark(channel=self.channel, run=self.run, attempt=attempt, head=head)
        self.log.verify([reach])

    def types(self, cursor: int) -> list[str]:
        page = self.at().read_after(cursor)
        assert isinstance(page, Page)
        return [type for _, type, _ in page.entries]
