"""Reading with a token writes nothing; when the token was used is written later."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from streams.access import authentication, token_usage
from streams.access.api_tokens import create_token
from streams.access.token_usage import TokenUsage
from streams.chat.sweep import Sweeper
from streams.database_time import from_now
from streams.service_models import ApiToken
from tests.integration.support.api_client import (
    begin_conversation,
    client_with_token,
    conversation,
    run,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
READS = ("SELECT", "PRAGMA", "SET ", "SHOW ")


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> TokenUsage:
    """A process that has recorded no use yet."""
    fresh = TokenUsage()
    monkeypatch.setattr(authentication, "token_usage", fresh)
    monkeypatch.setattr("streams.chat.sweep.token_usage", fresh)
    return fresh


@pytest.fixture
def token() -> ApiToken:
    create_token(User.objects.create_user("ada"), "job", scopes="read write")
    return ApiToken.objects.get()


def used(token: ApiToken) -> Any:
    token.refresh_from_db()
    return token.last_used_at


def test_reading_with_a_token_writes_nothing(usage: TokenUsage) -> None:
    client = client_with_token(
        create_token(User.objects.create_user("ada"), "job", scopes="read write")
    )
    made = begin_conversation(client).json()
    paths = [
        "/api/models/",
        "/api/conversations/",
        conversation(made["conversation"]),
        f"{conversation(made['conversation'])}messages/",
        f"{conversation(made['conversation'])}events/?lastEventId=0",
        run(made["run"]),
    ]
    for path in paths:
        with CaptureQueriesContext(connection) as queries:
            assert client.head(path).status_code == 200
        written = [q["sql"] for q in queries if not q["sql"].lstrip("( ").startswith(READS)]
        assert written == [], path
        assert len(queries) > 0


def test_the_last_use_is_written_later_and_once_a_minute(
    usage: TokenUsage, token: ApiToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage.note(token.pk)
    assert used(token) is None
    usage.write()
    first = used(token)
    assert abs(timezone.now() - first) < timedelta(minutes=1)
    usage.note(token.pk)
    usage.write()
    assert used(token) == first
    monkeypatch.setattr(token_usage, "INTERVAL", 0)
    usage.write()
    assert used(token) >= first


def test_a_later_use_that_another_process_wrote_stays(usage: TokenUsage, token: ApiToken) -> None:
    later = timezone.now() + timedelta(hours=1)
    ApiToken.objects.update(last_used_at=later)
    usage.note(token.pk)
    usage.write()
    assert used(token) == later


def test_uses_that_a_database_error_prevents_are_written_by_the_next_write(
    usage: TokenUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = User.objects.create_user("ada")
    for name in ("a", "b", "c"):
        create_token(ada, name, scopes="read")
    tokens = list(ApiToken.objects.order_by("pk"))
    for one in tokens:
        usage.note(one.pk)

    def fail_at_the_second(moment: float) -> Any:
        updates.append(moment)
        if len(updates) == 2:
            usage.note(tokens[0].pk)  # a request uses it meanwhile
            raise OperationalError
        return from_now(moment)

    updates: list[float] = []
    monkeypatch.setattr(token_usage, "from_now", fail_at_the_second)
    monkeypatch.setattr(token_usage, "INTERVAL", 0)
    with pytest.raises(OperationalError):
        usage.write()
    assert [bool(used(one)) for one in tokens] == [True, False, False]
    usage.write()
    assert all(used(one) for one in tokens)
    assert len(updates) == 5  # the three that were left, the first of them used again
    usage.write()
    assert len(updates) == 5


def test_without_a_recorded_use_no_query_is_sent(usage: TokenUsage) -> None:
    with CaptureQueriesContext(connection) as queries:
        usage.write()
    assert len(queries) == 0


def test_the_sweeper_writes_it(usage: TokenUsage, settings: Any) -> None:
    settings.SWEEP_INTERVAL = 0.05
    client = client_with_token(create_token(User.objects.create_user("ada"), "job", scopes="read"))
    assert client.get("/api/models/").status_code == 200
    sweeper = Sweeper()
    sweeper.start()
    try:
        deadline = time.monotonic() + 60
        while used(ApiToken.objects.get()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        sweeper.stop()
        sweeper.join(60)
