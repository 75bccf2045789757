"""Kills a process between two steps of a use case, and continues with another process's sweep."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import F
from django.db.models.functions import Now

from streams.chat import ask, publisher, sweep
from streams.log.channels import channel_of
from streams.log.errors import LogUnavailable
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Run
from streams.protocol.events import TextDelta
from tests.support.appends import text_append
from workers.lease import claim

ASKED = ["message.created", "run.queued"]  # the events of an accepted message


class ProcessKilled(BaseException):
    """The process was killed."""


@contextmanager
def killed_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, *, after: bool = False
) -> Iterator[None]:
    """Let the process die before this step, or with `after` right after it."""
    real: Callable[..., Any] = getattr(owner, step)

    def die(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise ProcessKilled

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, die)
        with pytest.raises(ProcessKilled):
            yield


def raise_log_unavailable(*_: Any, **__: Any) -> None:
    raise LogUnavailable


def queued_run(text: str = "Why?") -> Run:
    accepted = ask.begin(owner="visitor:a", text=text)
    return Run.objects.select_related("conversation", "message").get(pk=accepted.run)


def started(run: Run) -> Run:
    taken = claim(run.id, uuid4())
    assert taken
    taken.conversation.refresh_from_db()
    publisher.publish_start(taken)
    return taken


def append_deltas(run: Run, *texts: str, index: int = 0) -> list[int | Exception]:
    channel = channel_of(run.conversation_id)
    events = [
        TextDelta(run=run.id, attempt=run.attempt, index=index + at, text=text)
        for at, text in enumerate(texts)
    ]
    return publisher.append([text_append(channel, event) for event in events])


def published_types(conversation: UUID) -> list[str]:
    page = log_of(conversation).read_after(0)
    assert isinstance(page, Page)
    assert [id for id, _, _ in page.entries] == list(
        range(page.head - len(page.entries) + 1, page.head + 1)
    )
    return [type for _, type, _ in page.entries]


def sweep_by_another_process() -> None:
    """The sweep of another process, some seconds later."""
    Run.objects.update(created_at=Now() - timedelta(seconds=9))
    Run.objects.exclude(ended_at=None).update(ended_at=F("ended_at") - timedelta(seconds=9))
    sweep.sweep()
