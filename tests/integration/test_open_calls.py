"""An ending closes each open call before it."""

from typing import Any

import pytest
import redis

from streams.chat import finish, publisher
from streams.chat.final_events import close_calls
from streams.chat.message_view import parts_of
from streams.chat.run_status import run_status
from streams.log.channels import channel_of
from streams.log.event_log import log_of
from streams.log.values import Page
from streams.models import Run
from streams.protocol.events import RunCancelled
from streams.protocol.parts import TextPart, ToolCallPart, ToolResultPart, text_parts
from tests.integration.support.killed_processes import queued_run, started
from tests.integration.support.logged_run import USAGE, LoggedRun
from tests.integration.support.part_writer import CALL, RESULT, Writer, reply_in


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda run, parts: finish.finish_cancelled(run, parts), "cancelled"),
        (lambda run, parts: finish.fail(run, parts, code="agent_error", reason="No."), "failed"),
        (lambda run, parts: finish.fail(run, parts, code="worker_lost", reason="-"), "worker_lost"),
        (lambda run, parts: finish.fail_after_call(run, parts), "worker_lost"),
        (
            lambda run, parts: finish.complete(run, parts, finish_reason="stop", usage=None),
            "failed",
        ),
    ],
)
def test_whatever_ends_a_run_each_open_call_is_closed_first(
    valkey: "redis.Redis", end: Any, error: str
) -> None:
    run = started(queued_run())
    other = ToolCallPart(call="c2", name="search", input={})
    writer = Writer(channel_of(run.conversation_id), run.id)
    pieces = [TextPart(text="Let me see. "), CALL, other]
    publisher.append([writer.append_of(piece) for piece in pieces])
    end(run, writer.reply.parts)
    closed = (
        *writer.reply.parts,
        ToolResultPart(call="c1", error=error),
        ToolResultPart(call="c2", error=error),
    )
    run = Run.objects.select_related("reply", "conversation").get(pk=run.pk)
    assert run.reply
    assert (run.reply.content, parts_of(run.reply)) == ("Let me see. ", closed)
    assert run_status(run).parts == closed
    page = log_of(run.conversation_id).read_after(0)
    assert isinstance(page, Page)
    types = [type for _, type, _ in page.entries]
    assert types[-3:-1] == ["tool.returned", "tool.returned"]
    assert "text.snapshot" not in types
    assert reply_in(log_of(run.conversation_id), run.id).parts == closed


def test_a_closed_call_is_not_closed_again() -> None:
    parts = (CALL, RESULT)
    assert close_calls(parts, status="failed") == parts
    assert close_calls(text_parts("So"), status="cancelled") == text_parts("So")


def test_a_cancel_of_a_silent_run_has_no_parts(valkey: "redis.Redis") -> None:
    logged = LoggedRun(valkey)
    logged.queue()
    event = RunCancelled(run=logged.run, attempt=0, reply=None, usage=USAGE)
    logged.append_final("", event=event)
    assert logged.types(0) == ["run.queued", "run.cancelled"]
