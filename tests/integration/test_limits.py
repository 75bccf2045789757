"""The limits of an owner hold exactly, also for concurrent requests."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F

from streams.access.api_tokens import create_token
from streams.models import Run
from tests.integration.support.api_client import begin_conversation, client_with_token, problem

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
AT_ONCE = 50


def begin_at_once(shown: str) -> Counter[int]:
    """How often each status was the answer to requests that all began together."""
    together = Barrier(AT_ONCE, timeout=30)

    def ask(_: int) -> int:
        client = client_with_token(shown)
        together.wait()
        try:
            return int(begin_conversation(client).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return Counter(threads.map(ask, range(AT_ONCE)))


@pytest.mark.parametrize("bound", ["MAX_LIVE_RUNS", "MAX_RUNS_PER_MINUTE"])
def test_fifty_concurrent_posts_under_a_limit_of_two_start_exactly_two(
    settings: Any, bound: str
) -> None:
    setattr(settings, bound, 2)
    shown = create_token(User.objects.create_user("ada"), "job", scopes="read write")
    assert begin_at_once(shown) == {202: 2, 429: AT_ONCE - 2}
    assert Run.objects.count() == 2
    other = create_token(User.objects.create_user("bob"), "job", scopes="read write")
    assert begin_conversation(client_with_token(other)).status_code == 202


def test_the_rate_limit_ends_with_the_minute(settings: Any) -> None:
    settings.MAX_RUNS_PER_MINUTE = 1
    client = client_with_token(
        create_token(User.objects.create_user("ada"), "job", scopes="read write")
    )
    made = begin_conversation(client).json()

    def send(verb: str) -> Any:
        return client.post(f"/api/runs/{made['run']}/{verb}/", content_type="application/json")

    assert send("cancel").status_code == 200
    for answer in (begin_conversation(client), send("retry")):
        assert problem(answer) == (429, "too_many_posts")
        assert answer["Retry-After"] == "60"
    assert client.get("/api/conversations/").status_code == 200
    Run.objects.update(created_at=F("created_at") - timedelta(seconds=61))
    assert send("retry").status_code == 202
