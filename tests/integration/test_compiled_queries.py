"""The compiled queries give the ORM's own rows, and requests make few statements."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Count, Max, Q, UUIDField
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from streams.access import api_tokens, authorization
from streams.access.api_tokens import create_token, digest_of, find_token, valid_tokens
from streams.access.authorization import Caller, readable_conversation
from streams.chat import fair_share, limits, snapshot, turns
from streams.chat.leases import held, new_lease
from streams.chat.limits import NO_CONVERSATION
from streams.chat.model_names import Kind, of_kind
from streams.chat.waiting_runs import busy, waiting
from streams.compiled_query import CompiledQuery, Parameter
from streams.database_time import from_now
from streams.models import UNPUBLISHED, Conversation, Message, Run
from streams.service_models import ApiToken

pytestmark = pytest.mark.django_db(transaction=True)
STREAMS = Path(__file__).resolve().parents[2] / "streams"
HOT = (
    api_tokens.BY_DIGEST,
    authorization.CONVERSATION,
    snapshot.RECORDED_HEAD,
    limits.COUNTS,
    turns.TURNS,
    fair_share._load(Kind.MODEL, ()),
)


def test_the_compiled_queries_are_these_six() -> None:
    """Each hides a query from the ORM, so the list stays closed."""
    made = [file for file in STREAMS.rglob("*.py") for _ in uses_in(file)]
    assert len(made) == len(HOT) == 6


def uses_in(file: Path) -> list[str]:
    return re.findall(r"(?:=|return) CompiledQuery\(", file.read_text())


@pytest.fixture
def talks() -> list[Conversation]:
    """Conversations of two owners, with runs in all states and messages in several turns."""
    made = []
    for owner in ("user:1", "user:2"):
        for number in range(3):
            talk = Conversation.objects.create(
                owner=owner,
                title=f"talk \u00e9 {number}",
                model="m",
                head=2**52 + number,
                client_id=f"c{number}" if number else None,
                dialect="responses" if number else "",
                hidden=number == 2,
                title_pending_since=Now() if number else None,
            )
            made.append(Conversation.objects.get(pk=talk.pk))
            for turn in range(number):
                asked = talk.messages.create(role="user", content="?", turn=turn)
                for status in ("completed", "queued", "failed", "running")[: 2 + number]:
                    if status == "running" and turn:
                        continue  # one at a time
                    run = Run.objects.create(
                        conversation=talk, owner=owner, message=asked, model="m", status=status
                    )
                    published = 7 if status == "completed" else None
                    Run.objects.filter(pk=run.pk).update(
                        ended_event_id=published, created_at=Now() - timedelta(seconds=30 * turn)
                    )
    old = Run.objects.filter(owner="user:1").first()
    assert old
    Run.objects.filter(pk=old.pk).update(created_at=Now() - timedelta(seconds=61))
    return made


def test_a_conversation_is_the_orms_instance(talks: list[Conversation]) -> None:
    for talk in talks:
        found = readable_conversation(Caller(owner=talk.owner), talk.id)
        expected = Conversation.objects.get(pk=talk.id)
        assert found == expected
        columns = {field.attname for field in Conversation._meta.concrete_fields}
        values, wanted = vars(found), vars(expected)
        assert {name: values[name] for name in columns} == {name: wanted[name] for name in columns}
        assert {type(values[name]) for name in columns} == {type(wanted[name]) for name in columns}
        assert not found.get_deferred_fields()
        assert (found._state.db, found._state.adding) == (wanted["_state"].db, False)
        found.title = "new"
        found.save()  # an update of the row, not a second one
    assert Conversation.objects.count() == len(talks)
    with pytest.raises(Conversation.DoesNotExist):
        readable_conversation(Caller(owner="user:1"), uuid4())
    with pytest.raises(Conversation.DoesNotExist):
        readable_conversation(Caller(owner="user:2"), talks[0].id)


def test_a_recorded_head_is_the_orms(talks: list[Conversation]) -> None:
    for id in (*(talk.id for talk in talks), uuid4()):
        expected = Conversation.objects.filter(pk=id).values_list("head", flat=True).first()
        assert snapshot.RECORDED_HEAD.value(id=id) == expected
        assert snapshot.recorded_head(id) == (expected or 0)


def test_the_counts_of_the_limits_are_the_orms(talks: list[Conversation]) -> None:
    seen = set()
    for owner in ("user:1", "user:2", "user:3"):
        for cancelled in (NO_CONVERSATION, *(talk.id for talk in talks)):
            active = Run.active().filter(owner=owner).exclude(conversation=cancelled).count()
            begun = Run.objects.filter(owner=owner, created_at__gt=from_now(-60)).count()
            assert limits.COUNTS.row(owner=owner, cancelled=cancelled) == (active, begun)
            seen.add((active, begun))
    assert len(seen) > 4


def test_the_turns_of_a_conversation_are_the_orms(talks: list[Conversation]) -> None:
    for talk in talks:
        runs = Run.objects.filter(conversation=talk)
        expected = (
            Message.objects.filter(conversation=talk).aggregate(last=Max("turn"))["last"],
            Run.active().filter(conversation=talk).count(),
            runs.filter(UNPUBLISHED).count(),
        )
        assert turns.TURNS.row(conversation=talk.id) == expected
        with transaction.atomic():
            found = turns.lock_turns(talk, interrupts=False)
        assert (found.last, found.active, found.unpublished) == (expected[0] or 0, *expected[1:])
    missing = Conversation(id=uuid4())
    with pytest.raises(Conversation.DoesNotExist), transaction.atomic():
        turns.lock_turns(missing, interrupts=False)


def test_the_lock_of_a_conversation_is_one(talks: list[Conversation]) -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as asked:
        turns.lock_turns(talks[0], interrupts=False)
    locks = connection.features.has_select_for_update
    assert asked.captured_queries[0]["sql"].endswith("FOR UPDATE") == locks


def test_the_load_of_the_places_is_the_orms(talks: list[Conversation], settings: Any) -> None:
    settings.LLM_MODELS = ["m"]
    workers = [uuid4(), uuid4()]
    for run, worker in zip(Run.objects.filter(status="running"), workers, strict=False):
        Run.objects.filter(pk=run.pk).update(attempt=1, worker=worker, **new_lease())
    assert Run.objects.filter(held()).count() == 2
    seen = set()
    for owner in ("user:1", "user:2", "user:3"):
        for worker in (*workers, uuid4()):
            runs, own = Run.active().filter(of_kind(Kind.MODEL)), Q(owner=owner)
            startable = waiting() & ~Q(conversation__in=busy())
            expected = runs.aggregate(
                workers=Count("worker", distinct=True, filter=held() & ~Q(worker=worker)),
                running=Count("pk", filter=held()),
                own=Count("pk", filter=held() & own),
                owners=Count("owner", distinct=True),
                others=Count("conversation", distinct=True, filter=startable & ~own),
            )
            given = fair_share._load(Kind.MODEL, ("m",)).row(owner=owner, worker=worker)
            assert given == tuple(expected.values())
            seen.add(given)
    assert len(seen) == 4


def test_a_token_is_the_orms_row() -> None:
    user = get_user_model().objects.create_user("ada", password="x")
    off = get_user_model().objects.create_user("bob", password="x", is_active=False)
    kept = create_token(user, "kept", scopes="read write")
    tokens = [kept, create_token(off, "inactive", scopes="read"), "unspool_none", "\udce9"]
    changes: dict[str, dict[str, Any]] = {
        "revoked": {"revoked_at": Now()},
        "expired": {"expires_at": from_now(-1)},
        "later": {"expires_at": from_now(60)},
    }
    for name, change in changes.items():
        tokens.append(create_token(user, name, scopes="read"))
        ApiToken.objects.filter(name=name).update(**change)
    for token in tokens:
        row = valid_tokens().filter(digest=digest_of(token)).first()
        found = find_token(token)
        assert (found is None) == (row is None)
        if found and row:
            assert (found.id, found.user, found.scopes) == (
                row.pk,
                row.user_id,
                tuple(row.scopes.split()),
            )
    assert [find_token(token) is not None for token in tokens] == [
        *(True, False, False, False),
        *(False, False, True),
    ]


def test_a_query_is_compiled_once_and_takes_other_values_each_time() -> None:
    compiled = []

    def titles() -> Any:
        compiled.append(1)
        return Conversation.objects.filter(pk=Parameter("id", UUIDField())).values_list("title")

    query = CompiledQuery(titles)
    made = [Conversation.objects.create(owner="user:1", title=f"t{n}", model="m") for n in range(3)]
    assert [query.value(id=each.id) for each in made] == ["t0", "t1", "t2"]
    assert query.value(id=UUID(int=1)) is None
    assert compiled == [1]
