"""LangGraph's routes: refusals, threads and their names, the history, asking once, who may read."""

import json
from collections.abc import Callable, Iterator
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
from streams.access.visitors import adopt_conversations
from streams.chat import finish
from streams.chat.personal_data import export_rows
from streams.dialects import langgraph_threads
from streams.models import Conversation, Message, Run
from streams.service_models import IdempotencyRecord
from streams.urls import served
from tests.integration.support.api_client import ApiClient
from workers.prompt.history import history

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
MODEL = "smollm2-135m-instruct"
OTHER = "00000000-0000-4000-8000-000000000000"
Json = dict[str, Any]


@pytest.fixture
def client() -> Client:
    token = create_token(User.objects.create_user("ada"), "langgraph", scopes="read write")
    # The service's own API takes the token as a bearer token alone.
    headers = {"x-api-key": token, "Authorization": f"Bearer {token}"}
    return Client(enforce_csrf_checks=True, headers=headers)


@pytest.fixture
def stream(client: Client) -> Iterator[Callable[..., Any]]:
    """Opens a stream, which stays unread."""
    opened = []

    def open_stream(path: str, body: Json | None = None, **headers: str) -> Any:
        if body is None:
            response = client.get(path, headers=headers)
        else:
            response = client.post(path, body, content_type="application/json", headers=headers)
        opened.append(response)
        return response

    yield open_stream
    for response in opened:
        response.close()


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, body, content_type="application/json")


def human(text: str = "Why?", id: str | None = None) -> Json:
    return {"type": "human", "content": text, **({"id": id} if id else {})}


def asked(*messages: Any, **also: Any) -> Json:
    return {"assistant_id": "agent", "input": {"messages": [*messages] or [human()]}, **also}


def begin(client: Client, thread: str, *messages: Any, **also: Any) -> Run:
    """The run of a request that makes the thread if there is none."""
    body = asked(*messages, if_not_exists="create", **also)
    answer = post(client, f"/threads/{thread}/runs", body)
    assert answer.status_code == 200, answer.content
    return Run.objects.get(pk=answer.json()["run_id"])


def refused(answer: Any) -> tuple[int, str]:
    body = json.loads(answer.content)
    assert set(body) - {"errors"} == {"detail", "code"}
    return answer.status_code, body["code"]


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


def test_a_thread_is_a_reserved_name_until_its_first_message(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = str(uuid4())
    assert refused(client.get(f"/threads/{thread}")) == (404, "not_found")
    assert refused(post(client, f"/threads/{thread}/runs", asked())) == (404, "not_found")
    made = post(client, "/threads", {"thread_id": thread, "metadata": {"graph_id": "x"}}).json()
    assert (made["thread_id"], made["status"], made["values"]) == (thread, "idle", {})
    assert client.get(f"/threads/{thread}").json() == made
    assert refused(post(client, "/threads", {"thread_id": thread})) == (409, "thread_exists")
    again = post(client, "/threads", {"thread_id": thread, "if_exists": "do_nothing"})
    assert again.json() == made
    assert not Conversation.objects.exists()
    answer = post(client, f"/threads/{thread}/runs", asked()).json()
    assert answer["thread_id"] == thread
    assert (answer["status"], answer["assistant_id"]) == ("pending", MODEL)
    assert client.get(f"/threads/{thread}").json()["status"] == "busy"
    assert not IdempotencyRecord.objects.exists()
    # Deleted, the thread is gone, and its id is free again.
    client.delete(f"/api/conversations/{Conversation.objects.get().pk}/")
    assert refused(client.get(f"/threads/{thread}")) == (404, "not_found")
    monkeypatch.setattr(langgraph_threads, "MOST_RESERVED", 1)
    assert post(client, "/threads", {"thread_id": thread}).status_code == 200
    assert refused(post(client, "/threads", {})) == (429, "too_many_threads")


def test_any_conversation_of_the_owner_is_a_thread(client: Client) -> None:
    made = post(client, "/api/conversations/", {"message": "Why?"}).json()
    thread, run = made["conversation"], made["run"]
    assert client.get(f"/threads/{thread}").json()["thread_id"] == thread
    assert client.get(f"/threads/{thread}/runs/{run}").json()["thread_id"] == thread
    (message,) = client.get(f"/threads/{thread}/state").json()["values"]["messages"]
    assert (message["type"], message["content"], message["id"]) == (
        "human",
        "Why?",
        made["message"],
    )


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


def test_another_owners_thread_of_the_same_name_is_another_one(client: Client) -> None:
    thread = str(uuid4())
    run = begin(client, thread)
    bob = User.objects.create_user("bob")
    token = create_token(bob, "langgraph", scopes="read write")
    other = Client(headers={"x-api-key": token})
    for path in ("", "/state", f"/runs/{run.pk}", f"/runs/{run.pk}/stream", f"/runs/{run.pk}/join"):
        assert refused(other.get(f"/threads/{thread}{path}")) == (404, "not_found")
        assert refused(other.get(f"/threads/{run.conversation_id}{path}")) == (404, "not_found")
    assert begin(other, thread).conversation_id != run.conversation_id


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


def test_a_message_of_the_same_id_is_asked_once(client: Client) -> None:
    thread = str(uuid4())
    first = begin(client, thread, human("Why?", "m1"))
    assert begin(client, thread, human("Why?", "m1")) == first
    IdempotencyRecord.objects.all().delete()  # expired
    assert begin(client, thread, human("Why?", "m1")) == first
    path = f"/threads/{thread}/runs"
    differs = (409, "history_differs")
    assert refused(post(client, path, asked(human("Who?", "m1")))) == differs
    second = begin(client, thread, human("Why?", "m2"))
    assert refused(post(client, path, asked(human("Who?", "m2")))) == differs
    assert begin(client, thread, human("Why?")) not in (first, second)  # it has no id
    Conversation.objects.all().delete()
    assert begin(client, thread, human("Why?", "m2")) != second


def test_a_client_may_send_the_history_again_but_not_another_one(client: Client) -> None:
    thread = str(uuid4())
    first = begin(client, thread, human("One?", "m1"))
    finish.cancel(first.pk)
    copy = {"type": "ai", "content": "half of", "id": f"{first.pk}-1-0"}
    second = begin(client, thread, human("One?", "m1"), copy, human("Two?", "m2"))
    said = Message.objects.filter(conversation__client_id=thread)
    assert [one.content for one in said] == ["One?", "Two?"]
    finish.cancel(second.pk)
    path = f"/threads/{thread}/runs"
    for messages in (
        [human("Uno?", "m1"), human("Three?")],
        [human("New"), human("One?", "m1"), human("Three?")],
    ):
        assert refused(post(client, path, asked(*messages))) == (409, "history_differs")
    third = begin(client, thread, human("Aside."), human("Three?"))
    assert [one.content for one in history(third)][-1] == "Three?"


def test_the_messages_of_a_new_thread_become_its_history(client: Client) -> None:
    told = [
        {"role": "system", "content": "Be kind."},
        human("One?"),
        {"role": "assistant", "content": [{"type": "text", "text": "One."}], "id": "a1"},
        ["user", "Two?"],
    ]
    run = begin(client, str(uuid4()), *told)
    assert [(one.role, one.content) for one in history(run)] == [
        ("system", "Be kind."),
        ("user", "One?"),
        ("assistant", "One."),
        ("user", "Two?"),
    ]
    state = client.get(f"/threads/{run.conversation.client_id}/state").json()
    messages = state["values"]["messages"]
    assert [one["type"] for one in messages] == ["system", "human", "ai", "human"]
    assert messages[2]["id"] == "a1"
    short = begin(client, str(uuid4()), "Why?")
    assert [one.content for one in history(short)] == ["Why?"]


def test_the_latest_checkpoint_alone_can_be_named(client: Client) -> None:
    thread = str(uuid4())
    finish.cancel(begin(client, thread).pk)
    state = client.get(f"/threads/{thread}/state").json()
    checkpoint = {"checkpoint_id": state["checkpoint"]["checkpoint_id"], "checkpoint_ns": ""}
    begin(client, thread, human("And?"), checkpoint=checkpoint)
    body = asked(human("Or?"), checkpoint=checkpoint)
    answer = post(client, f"/threads/{thread}/runs", body)
    assert refused(answer) == (422, "invalid_request")


def test_the_history_is_the_present_state(client: Client) -> None:
    thread = str(uuid4())
    begin(client, thread)
    path, state = f"/threads/{thread}/history", client.get(f"/threads/{thread}/state").json()
    assert post(client, path, {"limit": 10}).json() == [state]
    for body in ({"limit": 0}, {"before": "x"}, {"checkpoint": {"checkpoint_ns": "sub:1"}}):
        assert post(client, path, body).json() == []


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


def test_a_hidden_thread_stands_in_no_list_unless_it_is_to_be_kept(client: Client) -> None:
    post(client, "/runs", asked())
    assert client.get("/api/conversations/").json()["items"] == []
    post(client, "/runs", asked(on_completion="keep"))
    assert len(client.get("/api/conversations/").json()["items"]) == 1


def test_a_cancel_can_be_repeated_and_rolls_nothing_back(client: Client) -> None:
    run = begin(client, str(uuid4()))
    path = f"/threads/{run.conversation.client_id}/runs/{run.pk}"
    assert refused(post(client, f"{path}/cancel?action=rollback", b"")) == (422, "invalid_request")
    for _ in range(2):
        answer = post(client, f"{path}/cancel?wait=0&action=interrupt", b"")
        assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(path).json()["status"] == "interrupted"


def test_a_reserved_thread_is_exported_and_moves_at_a_sign_in() -> None:
    browser, thread = ApiClient(), str(uuid4())
    browser.post("/threads", {"thread_id": thread})
    visitor = IdempotencyRecord.objects.get().owner
    assert [row["key"] for row in export_rows(visitor) if row["kind"] == "answer"] == [thread]
    ada = User.objects.create_user("ada")
    adopt_conversations(visitor=visitor, user=f"user:{ada.pk}")
    token = create_token(ada, "langgraph", scopes="read")
    mine = Client(headers={"x-api-key": token})
    assert mine.get(f"/threads/{thread}").json()["thread_id"] == thread


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
