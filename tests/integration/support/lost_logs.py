"""Lets a log be lost in mid-run, and finds the faults that a reader would see."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import redis
from django.db.models.functions import Now

from streams.delivery.replay import ReplayPage
from streams.log.channels import channel_of
from streams.log.values import Append
from streams.models import Run
from streams.protocol.events import TextDelta
from tests.support.appends import text_append
from tests.support.replayer import Replayer
from tests.support.sse_blocks import Splitter
from workers.lease import claim


def piece(run: Run, index: int, text: str, *, known: int = 0) -> Append:
    event = TextDelta(run=run.id, attempt=run.attempt, index=index, text=text)
    return text_append(channel_of(run.conversation_id), event, min_head=known)


def fails_over(valkey: "redis.Redis", run: Run) -> Callable[[], None]:
    """Return a function that lets a server take over which has only the log's content of now."""
    names = valkey.keys(f"{{{channel_of(run.conversation_id)}}}*")
    kept: dict[Any, Any] = {name: valkey.dump(name) for name in names}

    def fail_over() -> None:
        valkey.flushall()
        for name, value in kept.items():
            valkey.restore(name, 0, value)
        valkey.hset(f"{{{channel_of(run.conversation_id)}}}:state", "server", uuid4().hex)

    return fail_over


def abandon(run: Run) -> Run:
    """Let the run's worker be dead, and let another worker claim the run."""
    Run.objects.filter(pk=run.pk).update(lease_until=Now() - timedelta(seconds=1))
    taken = claim(run.id, uuid4())
    assert taken
    return taken


def replay_faults(*pages: ReplayPage) -> list[str]:
    """The faults that a reader of these pages finds, and the runs that it regards as active."""
    replayer, faults = Replayer(), []
    for block in Splitter().feed(b"".join(page.joined for page in pages)):
        begins = block.event == "conversation.snapshot"
        faults += replayer.apply_snapshot(block.payload) if begins else replayer.apply(block)
    return faults + [f"{run} goes on" for run in replayer.runs if replayer.is_active(run)]
