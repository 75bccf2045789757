"""LangGraph's routes: refusals, threads and their names, the history, asking once, who may read."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from uuid import uuid4

import pytest
import redis
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.models import Message, Run
from streams.urls import served
from tests.integration.support.api_client import ApiClient
from tests.integration.support.langgraph_requests import (
    MODEL,
    OTHER,
    asked,
    begin,
    human,
    post,
    refused,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def client() -> Client:
    token = create_token(User.objects.create_user("ada"), "langgraph", scopes="read write")
    # The service's own API takes the token as a bearer token alone.
    headers = {"x-api-key": token, "Authorization": f"Bearer {token}"}
    return Client(enforce_csrf_checks=True, headers=headers)


def test_what_the_service_cannot_do_is_refused(client: Client) -> None:
    thread = client.post("/threads", {}, content_type="application/json").json()["thread_id"]
    path = f"/threads/{thread}/runs/stream"
    image = {"type": "human", "content": [{"type": "image_url"}]}
    for wrong in (
        {"assistant_id": ""},
        {"input": None},
        {"input": {"messages": []}},
        {"input": {"messages": [human()], "files": {}}},
        {"input": {"messages": [human(" ")]}},
        {"input": {"messages": [image]}},
        {"input": {"messages": [{"type": "ai", "content": "Yes."}]}},
        {"input": {"messages": [{"type": "tool", "content": "4"}, human()]}},
        {"input": {"messages": [{"lc": 1}]}},
        {"input": {"messages": [human()] * 1001}},
        {"stream_mode": "updates"},
        {"stream_mode": ["values", "debug"]},
        {"stream_mode": 7},
        {"multitask_strategy": "rollback"},
        {"command": {"resume": True}},
        {"interrupt_before": ["agent"]},
        {"webhook": "https://example.org/"},
        {"after_seconds": 5},
        {"context": {"user": 1}},
        {"config": {"configurable": {"user": 1}}},
        {"checkpoint": {"checkpoint_id": "x"}},
        {"checkpoint_id": "x"},
    ):
        assert refused(post(client, path, asked() | wrong)) == (422, "invalid_request"), wrong
    for body in ({"thread_id": "x"}, {"supersteps": [1]}, {"ttl": 5}, {"if_exists": "x"}):
        assert refused(post(client, "/threads", body)) == (422, "invalid_request")
    assert refused(post(client, path, b"{")) == (400, "bad_json")
    assert refused(client.get("/threads")) == (405, "method_not_allowed")
    for unknown in ("/threads/", "/runs/x/y", "/threads/search", f"/threads/{thread}/copy"):
        assert refused(client.get(unknown)) == (404, "not_found")
    assert not Run.objects.exists()


def test_the_key_the_token_and_the_session_are_proof(client: Client) -> None:
    wrong = Client(headers={"x-api-key": "wrong"})
    assert refused(post(wrong, "/runs", asked())) == (401, "unauthorized")
    token = create_token(User.objects.get(), "bearer", scopes="read")
    reader = Client(headers={"Authorization": f"Bearer {token}"})
    thread = str(begin(client, str(uuid4())).conversation.client_id)
    assert reader.get(f"/threads/{thread}").status_code == 200
    assert refused(post(reader, "/runs", asked())) == (403, "scope_missing")
    browser = ApiClient()
    assert browser.post("/runs", asked()).status_code == 200
    plain = browser.client.post("/runs", asked(), content_type="application/json")
    assert refused(plain) == (403, "csrf_failed")


def test_a_run_is_found_in_its_own_thread_alone(client: Client) -> None:
    first, second = begin(client, str(uuid4())), begin(client, str(uuid4()))
    for run in (first.pk, OTHER, "x"):
        thread = second.conversation.client_id
        for path in ("", "/stream", "/join"):
            assert refused(client.get(f"/threads/{thread}/runs/{run}{path}"))[0] == 404
        cancelled = post(client, f"/threads/{thread}/runs/{run}/cancel", b"")
        assert refused(cancelled) == (404, "not_found")
    empty = post(client, "/threads", {}).json()["thread_id"]
    assert refused(client.get(f"/threads/{empty}/runs/{first.pk}")) == (404, "not_found")


def test_a_stream_says_where_to_come_back(client: Client, stream: Any) -> None:
    thread = str(uuid4())
    run = begin(client, thread)
    place = f"/threads/{thread}/runs/{run.pk}"
    modes = "stream_mode=values&stream_mode=messages-tuple"
    for query in (f"?{modes}", f"?{modes}&cancel_on_disconnect=false"):
        answer = stream(f"{place}/stream{query}")
        assert answer["Location"] == f"{place}/stream?{modes}"
        assert answer["Content-Location"] == place
        assert not Run.objects.get().reader
    answer = stream(f"{place}/stream?stream_mode=&cancel_on_disconnect=True")
    assert answer["Location"].endswith("&stream_mode=custom&cancel_on_disconnect=1")
    assert Run.objects.get().reader
    body = asked(human("And?"), stream_mode=["messages-tuple"], on_disconnect="cancel")
    answer = stream(f"/threads/{thread}/runs/stream", body)
    second = Run.objects.exclude(pk=run.pk).get()
    place = f"/threads/{thread}/runs/{second.pk}"
    query = "stream_mode=messages-tuple&cancel_on_disconnect=1"
    assert answer["Location"] == f"{place}/stream?{query}"
    assert second.reader


def test_hostile_positions_and_modes_are_refused(client: Client, stream: Any) -> None:
    run = begin(client, str(uuid4()))
    path = f"/threads/{run.conversation.client_id}/runs/{run.pk}/stream"
    for wrong in ("x", "-2", "1.5", "²", str(2**53), "9" * 4000, "1718000000000-0"):
        answer = client.get(path, headers={"Last-Event-ID": wrong})
        assert refused(answer) == (400, "bad_cursor")
    assert refused(client.get(f"{path}?stream_mode=debug")) == (422, "invalid_request")
    for good in ("", "-1", "0", str(2**53 - 1)):
        assert stream(path, **{"Last-Event-ID": good}).status_code == 200


def test_the_model_is_the_assistant_of_that_name_or_the_default(
    client: Client, settings: Any
) -> None:
    settings.LLM_MODELS = [MODEL, "other"]
    thread = str(uuid4())
    assert begin(client, thread, assistant_id="other", metadata={"page": 7}).model == "other"
    run = begin(client, thread, human("And?"))  # `agent` names nothing here
    assert (run.model, run.metadata) == ("other", None)
    body = asked(human("Or?"), assistant_id=MODEL)
    answer = post(client, f"/threads/{thread}/runs", body)
    assert refused(answer) == (409, "history_differs")


def test_limits_hold_for_this_wire_too(client: Client, stream: Any, settings: Any) -> None:
    settings.MAX_STREAMS = 1
    assert stream("/runs/stream", asked()).status_code == 200
    assert refused(stream("/runs/stream", asked())) == (429, "too_many_streams")
    assert Run.objects.count() == 1
    settings.MAX_LIVE_RUNS = 1
    assert refused(post(client, "/runs", asked())) == (429, "too_many_runs")


def test_a_cancel_can_be_repeated_and_rolls_nothing_back(client: Client) -> None:
    run = begin(client, str(uuid4()))
    path = f"/threads/{run.conversation.client_id}/runs/{run.pk}"
    assert refused(post(client, f"{path}/cancel?action=rollback", b"")) == (422, "invalid_request")
    for _ in range(2):
        answer = post(client, f"{path}/cancel?wait=0&action=interrupt", b"")
        assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(path).json()["status"] == "interrupted"


def test_the_dialect_can_be_turned_off() -> None:
    assert [api.prefix for api in served(["langgraph"])] == ["/"]
    assert "/" not in [api.prefix for api in served(["responses", "ai-sdk"])]


def test_a_run_whose_log_has_expired_is_told_from_its_row(
    client: Client, stream: Callable[..., Any], valkey: redis.Redis
) -> None:
    run = begin(client, OTHER)
    reply = Message.objects.create(
        conversation=run.conversation, role="assistant", content="So.", turn=1, reply_to=run.message
    )
    Run.objects.filter(pk=run.pk).update(
        status="completed", reply=reply, attempt=1, finish_reason="stop", ended_at=timezone.now()
    )
    valkey.flushdb()
    path = f"/threads/{OTHER}/runs/{run.id}/stream?stream_mode=messages-tuple"
    told = whole(stream(path))
    assert '"content":"So."' in told
    assert "event: end" in told
    last = told.rpartition("id: ")[2].partition("\n")[0]
    assert whole(stream(path, **{"Last-Event-ID": last})) == ""


def whole(response: Any) -> str:
    async def read() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    # In a context of its own, otherwise the request's id would stay in this one.
    return copy_context().run(async_to_sync(read)).decode()
