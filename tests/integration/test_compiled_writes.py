"""Compiled updates and inserts change the rows as the ORM does."""

from copy import copy
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import F, Model
from django.db.models.functions import Greatest, Now

from streams import models
from streams.chat import new_rows, publisher, stored_ending
from streams.compiled_query import CompiledInsert
from streams.models import Conversation, Message, Run
from tests.integration.support.compiled_statements import assert_same_change, runs_in_all_states

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runs() -> list[Run]:
    return runs_in_all_states()


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


def test_an_inserted_row_is_the_orms(runs: list[Run]) -> None:
    def conversation(**also: Any) -> Conversation:
        return Conversation(id=uuid4(), owner="user:3", title="\u00e9", model="m", **also)

    def message(**also: Any) -> Message:
        run = runs[0]
        return Message(
            id=uuid4(),
            conversation=run.conversation,
            role="assistant",
            **{"content": "So.", "turn": 1, "reply_to_id": run.message_id, **also},
        )

    def run(**also: Any) -> Run:
        asked = runs[0]
        return Run(
            id=uuid4(),
            conversation=asked.conversation,
            owner=asked.owner,
            **{"message": asked.message, "model": "m", **also},
        )

    cases: list[tuple[CompiledInsert, Model]] = [
        (new_rows.CONVERSATIONS, conversation()),
        (new_rows.CONVERSATIONS, conversation(dialect="responses", client_id="c", hidden=True)),
        (new_rows.MESSAGES, message()),
        (new_rows.MESSAGES, message(parts=[{"type": "data", "data": 1e300}], event=2**52)),
        (new_rows.RUNS, run()),
        (new_rows.RUNS, run(dispatched_at=Now(), metadata={"a": [1.5, None]}, client_id="r")),
        (new_rows.RUNS, run(metadata={})),
    ]
    for inserts, row in cases * 2:

        def compiled(inserts: CompiledInsert = inserts, row: Any = row) -> int:
            made = copy(row)
            made._state = copy(row._state)
            inserts.insert(made)
            stored = type(row)._default_manager.get(pk=row.pk)
            assert made.created_at == stored.created_at
            assert (made._state.adding, made._state.db) == (False, "default")
            return 1

        def orm(row: Any = row) -> int:
            made = copy(row)
            made._state = copy(row._state)
            made.save(force_insert=True)
            return 1

        assert_same_change(compiled, orm)
