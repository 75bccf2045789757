"""LangGraph's threads: whose they are, and which messages they hold."""

from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client

from streams.access.api_tokens import create_token
from streams.access.visitors import adopt_conversations
from streams.chat import finish
from streams.chat.personal_data import export_rows
from streams.dialects import langgraph_threads
from streams.models import Conversation, Message
from streams.service_models import IdempotencyRecord
from tests.integration.support.api_client import ApiClient
from tests.integration.support.langgraph_requests import MODEL, asked, begin, human, post, refused
from workers.prompt.history import history

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def client() -> Client:
    token = create_token(User.objects.create_user("ada"), "langgraph", scopes="read write")
    # The service's own API takes the token as a bearer token alone.
    headers = {"x-api-key": token, "Authorization": f"Bearer {token}"}
    return Client(enforce_csrf_checks=True, headers=headers)


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


def test_a_hidden_thread_stands_in_no_list_unless_it_is_to_be_kept(client: Client) -> None:
    post(client, "/runs", asked())
    assert client.get("/api/conversations/").json()["items"] == []
    post(client, "/runs", asked(on_completion="keep"))
    assert len(client.get("/api/conversations/").json()["items"]) == 1


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
