"""Rows for compiled statements, and the comparison of a compiled change with the ORM's."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Model
from django.db.models.functions import Now

from streams.chat.leases import new_lease
from streams.models import Conversation, Message, Run

CLOSE = timedelta(seconds=5)  # between two moments of the database's clock that count as equal


def runs_in_all_states() -> list[Run]:
    """Runs in all states that matter to a claim, each in its own conversation."""
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


def rows_after(change: Callable[[], int]) -> tuple[int, list[dict[str, Any]]]:
    """Make the change, return its result and all rows after it, and roll the change back."""
    with transaction.atomic():
        answer = change()
        order = ("pk",)
        rows = [
            dict(row)
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
    """Check that both change the same rows in the same way. Returns the number of rows."""
    (changed, rows), (expected, wanted) = rows_after(compiled), rows_after(orm)
    assert changed == expected
    for row, want in zip(rows, wanted, strict=True):
        assert row.keys() == want.keys()
        assert [name for name in row if not same(row[name], want[name])] == []
    return changed


def values(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
