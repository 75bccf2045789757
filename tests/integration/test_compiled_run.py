"""A run's compiled queries and updates do what the ORM does, and a run makes few statements."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Model, Q
from django.db.models.functions import Greatest, Now
from django.test.utils import CaptureQueriesContext

from streams import models
from streams.chat import ask, publisher, stored_ending
from streams.chat.leases import abandoned, held, new_lease, retryable
from streams.models import UNPUBLISHED, Conversation, Message, Run
from tests.integration.support.written_runs import worker_process
from tests.support.visitor import script
from workers.claim_rows import first_active, update_claimed
from workers.prompt import history
from workers.run_attempt import generate
from workers.runtime import Runtime

pytestmark = pytest.mark.django_db(transaction=True)
CLOSE = timedelta(seconds=5)  # between two moments that the database's clock gave one after another


@pytest.fixture
def process(valkey: Any, settings: Any) -> Iterator[Runtime]:
    with worker_process(settings) as running:
        yield running


@pytest.fixture
def runs() -> list[Run]:
    """Runs in all states of the claim, each of a conversation of its own."""
    states: list[dict[str, Any]] = [
        {},
        {"attempt": 1},
        {"attempt": 2, "uncounted_attempts": 2, "started_event_id": 5},
        {"attempt": settings.RUN_ATTEMPTS},
        {"cancel_asked": True},
        {"called_at": Now()},
        {"status": "running", "attempt": 1, "worker": uuid4(), **new_lease()},
        {"status": "running", "attempt": 1, "worker": uuid4(), **new_lease()}
        | {"lease_until": Now() - timedelta(seconds=1)},
        {"status": "running", "attempt": 1, "worker": uuid4(), **new_lease()}
        | {"lease_until": Now() + timedelta(days=1)},
        {"status": "completed", "attempt": 1, "first_token_at": Now()},
    ]
    made = []
    for number, state in enumerate(states):
        talk = Conversation.objects.create(owner="user:1", title="t", model="m", head=number)
        asked = talk.messages.create(role="user", content="?", turn=1)
        run = Run.objects.create(
            conversation=talk, owner="user:1", message=asked, model="m", metadata={"n": number}
        )
        Run.objects.filter(pk=run.pk).update(**state)
        made.append(Run.objects.select_related("conversation", "message").get(pk=run.pk))
    return made


def rows_after(change: Callable[[], Any]) -> tuple[Any, list[dict[str, Any]]]:
    """What the change returns, and all rows after it. Then it is taken back."""
    with transaction.atomic():
        answer = change()
        order = ("pk",)
        rows = [
            row
            for model in (Conversation, Message, Run)
            for row in model._default_manager.order_by(*order).values()
        ]
        transaction.set_rollback(True)
    return answer, rows


def same(one: object, other: object) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        return abs(one - other) < CLOSE
    return one == other and type(one) is type(other)


def assert_same_change(compiled: Callable[[], int], orm: Callable[[], int]) -> int:
    """Both change as many rows, in the same way."""
    (changed, rows), (expected, wanted) = rows_after(compiled), rows_after(orm)
    assert changed == expected
    for row, want in zip(rows, wanted, strict=True):
        assert row.keys() == want.keys()
        assert [name for name in row if not same(row[name], want[name])] == []
    return changed


def values(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


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


def test_the_updates_of_published_events_are_the_orms(runs: list[Run]) -> None:
    run, other = runs[6], runs[0]
    message = run.message_id
    assert_same_change(
        lambda: publisher.RECORD_QUEUED.run(id=run.pk, event=7),
        lambda: Run.objects.filter(pk=run.pk).update(queued_event_id=7),
    )
    assert_same_change(
        lambda: publisher.RECORD_FINAL.run(id=run.pk, event=2**52),
        lambda: Run.objects.filter(pk=run.pk).update(ended_event_id=2**52),
    )
    assert_same_change(
        lambda: publisher.RECORD_MESSAGE.run(id=message, event=8),
        lambda: Message.objects.filter(pk=message).update(event=8),
    )
    started = 0
    for one in (run, other):
        for attempt in (0, 1, 2):
            started += assert_same_change(
                lambda one=one, attempt=attempt: publisher.RECORD_START.run(
                    id=one.pk, attempt=attempt, event=9, tokens=4
                ),
                lambda one=one, attempt=attempt: Run.objects.filter(
                    pk=one.pk, attempt=attempt, status="running"
                ).update(started_event_id=9, input_tokens=4),
            )
    assert started == 1


def test_the_updates_of_the_head_are_the_orms(runs: list[Run]) -> None:
    id = runs[6].conversation_id
    talks = Conversation.objects.filter(pk=id)  # its head is 6
    changed = []
    for head in (5, 6, 7, 2**52):
        changed.append(
            assert_same_change(
                lambda head=head: models.ADVANCE_HEAD.run(conversation=id, head=head),
                lambda head=head: talks.filter(head__lt=head).update(head=head),
            )
        )
        assert_same_change(
            lambda head=head: stored_ending.KEEP_HEAD.run(conversation=id, head=head),
            lambda head=head: talks.update(head=Greatest(F("head"), head)),
        )
    assert changed == [0, 0, 1, 1]


def test_the_update_of_an_ended_run_is_the_orms(runs: list[Run]) -> None:
    stored = 0
    for run in runs:
        for attempt in (run.attempt, run.attempt + 1):
            for first_token_at in (None, run.created_at):
                columns = {
                    "status": "failed",
                    "finish_reason": "",
                    "code": "c",
                    "reason": "r",
                    "input_tokens": 1,
                    "output_tokens": 2,
                    "total_tokens": 3,
                    "estimated": False,
                    "reply_id": run.message_id,
                }
                rows = Run.objects.filter(pk=run.pk, attempt=attempt, status__in=Run.ACTIVE)
                stored += assert_same_change(
                    lambda run=run, attempt=attempt, first=first_token_at, columns=columns: (
                        stored_ending.STORE.run(
                            run=run.pk, attempt=attempt, first_token_at=first, **columns
                        )
                    ),
                    lambda rows=rows, first=first_token_at, columns=columns: rows.update(
                        **columns,
                        ended_at=Now(),
                        worker=None,
                        lease_until=None,
                        lease_length=None,
                        first_token_at=first or F("first_token_at"),
                    ),
                )
    assert stored == 2 * 9


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
