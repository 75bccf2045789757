"""A snapshot agrees with the events after its cursor (docs/design.md §3.3, rule 5)."""

from typing import Any
from uuid import uuid4

import pytest
import redis

from streams.chat import ask, finish, publisher
from streams.chat.snapshot import snapshot
from streams.log.channel_log import ChannelLog
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Conversation, Run
from streams.protocol.events import LiveRun
from streams.protocol.parts import text_parts
from tests.integration.support.killed_processes import (
    ASKED,
    append_deltas,
    killed_at,
    queued_run,
    raise_log_unavailable,
    started,
)
from workers.lease import claim

pytestmark = pytest.mark.django_db


@pytest.mark.usefixtures("valkey")
class TestSnapshot:
    """Rule 5."""

    def live(self, run: Run, text: str, attempt: int = 1) -> tuple[LiveRun, ...]:
        return (
            LiveRun(
                id=run.id,
                status="running",
                attempt=attempt,
                message=run.message_id,
                text=text,
                reasoning="",
                parts=text_parts(text),
            ),
        )

    def test_it_has_a_message_that_is_published_but_not_recorded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, Conversation, "advance_head"):
            queued_run()
        run = Run.objects.get()
        now = snapshot(run.conversation)
        assert [message.id for message in now.messages] == [run.message_id]
        assert [live.id for live in now.runs] == [run.id]

    def test_it_has_an_attempt_when_its_start_is_published(self, valkey: "redis.Redis") -> None:
        run = queued_run()
        taken = claim(run.id, uuid4())
        assert taken
        valkey.flushall()
        live = LiveRun(
            id=run.id,
            status="queued",
            attempt=0,
            message=run.message_id,
            text="",
            reasoning="",
            parts=(),
        )
        assert snapshot(run.conversation).runs == (live,)
        publisher.publish_start(taken)
        valkey.flushall()
        run.conversation.refresh_from_db()
        assert [now.attempt for now in snapshot(run.conversation).runs] == [1]

    def test_it_leaves_an_unpublished_message_to_later_events(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with killed_at(monkeypatch, ask, "publish_pending"):
            queued_run()
        run = Run.objects.get()
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_once", raise_log_unavailable)
            now = snapshot(run.conversation)
        assert (now.messages, now.runs) == ((), ())
        publisher.publish_pending(run.conversation)
        page = log_of(run.conversation_id).read_after(now.cursor or 0)
        assert isinstance(page, Page)
        assert [type for _, type, _ in page.entries] == ASKED

    def test_it_has_a_run_as_active_until_its_final_event_is_published(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        with killed_at(monkeypatch, ChannelLog, "append_final"):
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        with monkeypatch.context() as patch:
            patch.setattr(ChannelLog, "append_final", raise_log_unavailable)
            now = snapshot(run.conversation)
        assert now.runs == self.live(run, "So.")
        assert [message.role for message in now.messages] == ["user"]

    @pytest.mark.parametrize("step", ["advance_head", "release_run"])
    def test_it_has_a_final_event_that_is_published_but_not_recorded(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        with killed_at(monkeypatch, Conversation if step == "advance_head" else ChannelLog, step):
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        now = snapshot(run.conversation)
        assert now.runs == ()
        assert [message.content for message in now.messages] == ["Why?", "So."]

    def test_it_leaves_a_final_event_between_its_two_reads_to_later_events(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        look = ChannelLog.state

        def look_and_then_it_ends(*args: Any, **kwargs: Any) -> Any:
            seen = look(*args, **kwargs)
            monkeypatch.setattr(ChannelLog, "state", look)
            finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
            return seen

        monkeypatch.setattr(ChannelLog, "state", look_and_then_it_ends)
        now = snapshot(run.conversation)
        assert now.runs == self.live(run, "So.")
        assert [message.role for message in now.messages] == ["user"]

    def test_without_the_log_the_database_decides(self, valkey: "redis.Redis") -> None:
        run = started(queued_run())
        append_deltas(run, "So.")
        finish.complete(run, text_parts("So."), finish_reason="stop", usage=None)
        valkey.flushall()
        run.conversation.refresh_from_db()
        now = snapshot(run.conversation)
        assert [message.content for message in now.messages] == ["Why?", "So."]
        assert now.runs == ()
        assert now.cursor is not None
        assert now.cursor >= run.conversation.head

    def test_its_messages_are_in_order_of_turns_and_not_of_time(self) -> None:
        first = started(queued_run("One?"))
        ask.ask(first.conversation, "Two?", when_busy="queue")
        finish.complete(first, text_parts("One."), finish_reason="stop", usage=None)
        now = snapshot(first.conversation)
        assert [message.content for message in now.messages] == ["One?", "One.", "Two?"]
