"""A run's claim, prompt and end read what the ORM reads, and a run makes few statements."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import F, Q
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from streams.chat import ask, stored_ending
from streams.chat.leases import abandoned, held, new_lease, retryable
from streams.models import UNPUBLISHED, Conversation, Message, Run
from tests.integration.support.compiled_statements import (
    assert_same_change,
    runs_in_all_states,
    values,
)
from tests.integration.support.written_runs import worker_process
from tests.support.visitor import script
from workers.claim_rows import first_active, update_claimed
from workers.prompt import history
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def process(valkey: Any, settings: Any) -> Iterator[Runtime]:
    with worker_process(settings) as running:
        yield running


@pytest.fixture
def runs() -> list[Run]:
    return runs_in_all_states()


def test_a_claim_is_the_orms_update(runs: list[Run]) -> None:
    claimed = 0
    for run in runs:
        for attempt in (run.attempt, run.attempt + 1):
            worker = uuid4()
            read = Run.objects.get(pk=run.pk)
            read.attempt = attempt
            free = Q(status=Run.Status.QUEUED) | abandoned()
            rows = Run.objects.filter(free, retryable(), pk=run.pk, attempt=attempt)

            def update(rows: Any = rows, worker: Any = worker) -> int:
                changed: int = rows.filter(cancel_asked=False).update(
                    status=Run.Status.RUNNING,
                    attempt=F("attempt") + 1,
                    worker=worker,
                    started_at=Now(),
                    first_token_at=None,
                    started_event_id=None,
                    **new_lease(),
                )
                return changed

            def claim(read: Run = read, worker: Any = worker) -> int:
                found = update_claimed(read, worker)
                row = Run.objects.get(pk=read.pk)
                assert values(read) == (values(row) if found else values(read))
                return found

            claimed += assert_same_change(claim, update)
    assert claimed == 5


def test_a_claim_reads_the_orms_row(runs: list[Run]) -> None:
    for run in runs:
        found = first_active(run.pk)
        if run.status == "completed":
            assert found is None
            continue
        assert found
        first, is_held = found
        assert values(first) == values(run)
        assert values(first.conversation) == values(run.conversation)
        assert values(first.message) == values(run.message)
        assert is_held is Run.objects.filter(held(), pk=run.pk).exists()
        assert first.follows_unpublished
        assert not first.get_deferred_fields() | first.message.get_deferred_fields()
    assert first_active(uuid4()) is None


def test_a_run_follows_unpublished_events_of_itself_and_of_other_runs(runs: list[Run]) -> None:
    run = runs[0]

    def follows() -> bool:
        found = first_active(run.pk)
        assert found
        return found[0].follows_unpublished

    Run.objects.filter(pk=run.pk).update(queued_event_id=3)
    assert not follows()
    message = run.conversation.messages.create(role="user", content="?", turn=2)
    later = Run.objects.create(
        conversation=run.conversation, owner=run.owner, message=message, model="m"
    )
    assert follows()
    Run.objects.filter(pk=later.pk).update(status="cancelled")
    assert follows()
    Run.objects.filter(pk=later.pk).update(ended_event_id=9)
    assert not follows()


def test_the_rest_after_a_run_is_the_orms_count(runs: list[Run]) -> None:
    Run.objects.filter(pk=runs[1].pk).update(dispatched_at=Now(), queued_event_id=2)
    Run.objects.filter(pk=runs[2].pk).update(ended_event_id=3)
    Run.objects.filter(pk=runs[3].pk).update(owner="user:2")
    for run in runs:
        run.refresh_from_db()
        row = stored_ending.REST.row(run=run.pk, conversation=run.conversation_id, owner=run.owner)
        assert row == (
            Run.objects.filter(UNPUBLISHED, pk=run.pk).exclude(queued_event_id=None).count(),
            Run.objects.filter(UNPUBLISHED, conversation=run.conversation_id).count(),
            Run.active().filter(owner=run.owner, dispatched_at=None).count(),
        )


def test_the_messages_of_a_prompt_are_the_orms(runs: list[Run]) -> None:
    talk = runs[0].conversation
    talk.messages.create(role="system", content="Be brief.", turn=0)
    for turn in (1, 2, 3):
        if turn > 1:
            talk.messages.create(role="user", content=f"{turn}?", turn=turn)
        for status, parts in (("completed", None), ("failed", [1]), ("failed", None), ("", None)):
            reply = talk.messages.create(
                role="assistant", content=f"{turn} {status}", turn=turn, parts=parts
            )
            if status:
                Run.objects.create(
                    conversation=talk,
                    owner=talk.owner,
                    message=runs[0].message,
                    model="m",
                    status=status,
                    reply=reply,
                )
    for turn in (1, 2, 3, 4):
        replies = Message.objects.filter(role="assistant", turn__lt=turn).exclude(
            written_by__status="failed", parts=None
        )
        others = Message.objects.filter(role__in=("system", "user"), turn__lte=turn)
        expected = [
            (
                *(message.role, message.turn),
                message.written_by.status if hasattr(message, "written_by") else None,
                *(message.pk, message.content, message.parts is not None),
            )
            for message in (replies | others)
            .filter(conversation=talk)
            .order_by("-turn", "-created_at", "-id")
        ]
        assert history.MESSAGES.rows(conversation=talk.pk, turn=turn) == expected
        assert len(expected) == (2, 6, 10, 13)[turn - 1]


@pytest.mark.parametrize("turn", [1, 2])
def test_a_run_makes_fourteen_statements(process: Runtime, turn: int) -> None:
    """Those of the thread that writes it, without `BEGIN` and `COMMIT`."""
    for _ in range(turn):
        talk = Conversation.objects.first()
        text = script(tokens=3)
        queued = ask.ask(talk, text) if talk else ask.begin(owner="user:1", text=text)
        with CaptureQueriesContext(connection) as asked:
            generate(queued.run, process)
    assert Run.objects.get(pk=queued.run).status == "completed"
    texts = [query["sql"] for query in asked.captured_queries]
    made = [text for text in texts if not re.match("BEGIN|COMMIT|PRAGMA", text)]
    owners_lock = connection.vendor == "postgresql"
    assert len(made) == 14 + owners_lock, "\n".join(made)
