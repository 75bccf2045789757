"""A run whose start, deltas and final event a test publishes itself, through the use cases."""

from uuid import uuid4

from asgiref.sync import sync_to_async

from streams.access.authorization import Caller
from streams.chat import ask, finish, publisher
from streams.log.channels import channel_of
from streams.models import Run
from streams.protocol.events import TextDelta
from streams.protocol.parts import text_parts
from tests.support.appends import text_append
from workers.lease import claim

VISITOR = Caller(owner="visitor:a")


class PublishedRun:
    """A run whose events the test publishes itself, delta by delta."""

    def __init__(self) -> None:
        accepted = ask.begin(owner=VISITOR.owner, text="Why?")
        taken = claim(accepted.run, uuid4())
        assert taken
        taken.conversation.refresh_from_db()
        self.first = publisher.publish_start(taken)
        self.run = taken
        self.conversation = taken.conversation
        self.channel = channel_of(self.conversation.id)
        self.index = 0

    def publish_deltas(self, count: int = 1) -> int:
        events = [
            TextDelta(
                run=self.run.id, attempt=1, index=self.index + at, text=f"w{self.index + at} "
            )
            for at in range(count)
        ]
        self.index += count
        *_, last = publisher.append(
            [text_append(self.channel, event, min_head=self.first) for event in events]
        )
        assert isinstance(last, int)
        return last

    @property
    def text(self) -> str:
        return "".join(f"w{at} " for at in range(self.index))

    def complete(self) -> int:
        finish.complete(self.run, text_parts(self.text), finish_reason="stop", usage=None)
        self.run.refresh_from_db()
        assert self.run.ended_event_id
        return self.run.ended_event_id


async def published_run() -> PublishedRun:
    return await sync_to_async(PublishedRun)()


def write_reply(id: str, *pieces: str) -> Run:
    """Claim the run as a worker does, and publish these deltas."""
    taken = claim(Run.objects.get(pk=id).pk, uuid4())
    assert taken
    publisher.publish_start(taken)
    channel = channel_of(taken.conversation_id)
    for index, text in enumerate(pieces):
        delta = TextDelta(run=taken.id, attempt=taken.attempt, index=index, text=text)
        publisher.append([text_append(channel, delta)])
    return taken
