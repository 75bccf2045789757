"""How many statements a POST makes in the database."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from streams.access.api_tokens import create_token
from streams.models import Run

pytestmark = pytest.mark.django_db(transaction=True)


Post = Callable[..., dict[str, Any]]


@pytest.fixture
def post(valkey: Any) -> Post:
    user = get_user_model().objects.create_user("ada", password="x")
    token = create_token(user, "n", scopes="read write")
    client = Client(headers={"Authorization": f"Bearer {token}"})

    def send(path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        url = f"/api/conversations/{path}"
        answer = client.post(
            url, json.dumps(body), content_type="application/json", headers=headers
        )
        assert answer.status_code == 202, answer.content
        return dict(answer.json())

    send("", {"message": "what a process does once, it has done"})
    return send


@contextmanager
def at_most(statements: int) -> Iterator[None]:
    """Bound the statements, without those that begin and end a transaction."""
    with CaptureQueriesContext(connection) as asked:
        yield
    texts = [query["sql"] for query in asked.captured_queries]
    found = [text for text in texts if not re.match("BEGIN|COMMIT|SAVEPOINT|RELEASE", text)]
    assert len(found) <= statements, "\n".join(found)


def test_a_post_that_begins_a_conversation_makes_nine_statements(post: Post) -> None:
    with at_most(9 + (connection.vendor == "postgresql")):  # the owner's lock
        begun = post("", {"message": "Why?"})
    run = Run.objects.get(pk=begun["run"])
    assert run.queued_event_id is not None
    assert run.message.event == run.queued_event_id - 1


def test_a_post_to_an_idle_conversation_makes_eleven_statements(post: Post) -> None:
    begun = post("", {"message": "Why?"})
    Run.objects.filter(pk=begun["run"]).update(status="completed", ended_event_id=1)
    with at_most(11 + (connection.vendor == "postgresql")):
        asked = post(f"{begun['conversation']}/messages/", {"message": "And?"})
    assert Run.objects.get(pk=asked["run"]).queued_event_id is not None
