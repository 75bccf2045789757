"""OpenAI's routes: refusals, repeated requests, who ends a run, and what is kept."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client

from streams.access.api_tokens import create_token
from streams.chat import conversations, finish, waiting_reader
from streams.chat.sweep import sweep
from streams.models import Conversation, Message, Run
from streams.urls import served
from tests.integration.support.api_client import ApiClient
from tests.integration.support.openai_requests import MODEL, complete, error, post, respond
from workers.prompt.history import history

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
OTHER = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def client() -> Client:
    token = create_token(User.objects.create_user("ada"), "openai", scopes="read write")
    return Client(headers={"Authorization": f"Bearer {token}"})


def test_refusals_have_the_vendors_form(client: Client) -> None:
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]}
    stranger = Client(headers={"Authorization": "Bearer wrong"})
    path = "/v1/chat/completions"
    assert error(post(stranger, path, ask)) == (401, "authentication_error", "unauthorized")
    assert error(client.get(path)) == (405, "invalid_request_error", "method_not_allowed")
    assert error(client.get("/v1/files")) == (404, "not_found_error", "not_found")
    assert error(post(client, path, b"{")) == (400, "invalid_request_error", "bad_json")
    for wrong, code in (
        ({"model": "other"}, "unknown_model"),
        ({"model": ""}, "invalid_request"),
        ({"messages": []}, "invalid_request"),
        ({"messages": [{"role": "assistant", "content": "Yes."}]}, "invalid_request"),
        ({"messages": [{"role": "user", "content": " "}]}, "invalid_request"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "invalid_request"),
        ({"messages": [{"role": "tool", "content": "4"}, *ask["messages"]]}, "invalid_request"),
        ({"messages": ask["messages"] * 1001}, "invalid_request"),
        ({"messages": "Why?"}, "invalid_request"),
    ):
        assert error(post(client, path, ask | wrong)) == (422, "invalid_request_error", code)
    for wrong, code in (
        ({"tools": [{}]}, "tools_not_taken"),
        ({"functions": [{}]}, "tools_not_taken"),
        ({"n": 2}, "not_offered"),
        ({"response_format": {"type": "json_object"}}, "not_offered"),
    ):
        assert error(post(client, path, ask | wrong)) == (400, "invalid_request_error", code)
    assert not Run.objects.exists()


def test_only_text_is_offered_as_the_form_of_a_response(client: Client) -> None:
    for kind in ("json_schema", "json_object"):
        body = {"model": MODEL, "input": "Why?", "text": {"format": {"type": kind}}}
        refused = post(client, "/v1/responses", body)
        assert error(refused) == (400, "invalid_request_error", "not_offered")
        words = "Only text is written: send no `text.format`."
        assert refused.json()["error"]["message"] == words
    assert not Run.objects.exists()
    for text in (None, {}, {"verbosity": "low"}, {"format": None}, {"format": {"type": "text"}}):
        respond(client, text=text)


def test_a_session_needs_the_csrf_token_and_a_token_needs_none() -> None:
    browser = ApiClient()
    body = {"model": MODEL, "input": "Why?", "background": True}
    assert browser.post("/v1/responses", body).status_code == 200
    refused = browser.client.post("/v1/responses", body, content_type="application/json")
    assert error(refused) == (403, "permission_error", "csrf_failed")


def test_hostile_ids_and_positions_are_refused(client: Client) -> None:
    id = respond(client)["id"]
    for name in ("x", "resp_x", f"resp_{OTHER}", f"resp_resp_{OTHER}", f"conv_{OTHER}", "%00"):
        assert client.get(f"/v1/responses/{name}").status_code == 404
    for number in ("-1", str(2**53), "9" * 30):
        refused = client.get(f"/v1/responses/{id}?stream=true&starting_after={number}")
        assert refused.status_code in (400, 422)
    for wrong in ({"previous_response_id": "x"}, {"conversation": {"id": "x"}}):
        body = {"model": MODEL, "input": "Why?", **wrong}
        assert post(client, "/v1/responses", body).status_code == 404


def test_another_owners_response_is_not_found(client: Client) -> None:
    id = respond(client)["id"]
    token = create_token(User.objects.create_user("bob"), "openai", scopes="read write")
    other = Client(headers={"Authorization": f"Bearer {token}"})
    assert other.get(f"/v1/responses/{id}").status_code == 404
    assert post(other, f"/v1/responses/{id}/cancel", b"").status_code == 404
    body = {"model": MODEL, "input": "Why?", "previous_response_id": id}
    assert post(other, "/v1/responses", body).status_code == 404


def test_the_history_of_a_call_reaches_the_prompt(client: Client) -> None:
    told = [
        ("system", "Be kind."),
        ("assistant", "Welcome."),
        ("user", "One?"),
        ("user", "One, please?"),
        ("assistant", "One"),
        ("assistant", "and a half."),
        ("developer", "Be brief."),
        ("user", "Two?"),
    ]
    run = complete(client, *told)
    assert [(one.role, one.content) for one in history(run)] == [
        ("system", "Be kind."),
        ("system", "Be brief."),
        ("assistant", "Welcome."),
        ("user", "One?"),
        ("user", "One, please?"),
        ("assistant", "One"),
        ("assistant", "and a half."),
        ("user", "Two?"),
    ]


def waiting_run(client: Client) -> tuple[Run, UUID]:
    run = complete(client, ("user", "Why?"))
    return run, waiting_reader.bind(run.pk)


def sweep_later(run: Run, seconds: float) -> str:
    """The run's status after a sweep this long after its reader left."""
    moment = F("reader_left_at") - timedelta(seconds=seconds)
    Run.objects.filter(pk=run.pk).update(reader_left_at=moment)
    sweep()
    run.refresh_from_db()
    return str(run.status)


def test_a_client_that_leaves_ends_the_run_after_five_seconds(client: Client) -> None:
    run, reader = waiting_run(client)
    waiting_reader.leave(run.pk, reader)
    assert sweep_later(run, 4) == "queued"
    assert sweep_later(run, 2) == "cancelled"


def test_a_client_that_came_back_is_not_taken_for_one_that_left(client: Client) -> None:
    run, reader = waiting_run(client)
    newer = waiting_reader.bind(run.pk)
    waiting_reader.leave(run.pk, reader)  # the older connection breaks later than the newer begins
    assert sweep_later(run, 60) == "queued"
    waiting_reader.leave(run.pk, newer)
    run.refresh_from_db()
    waiting_reader.keep(run)
    waiting_reader.leave(run.pk, newer)
    assert sweep_later(run, 60) == "queued"


def test_a_response_is_cancelled_only_in_the_background(client: Client) -> None:
    run, _ = waiting_run(client)
    refused = post(client, f"/v1/responses/resp_{run.pk}/cancel", b"")
    assert error(refused) == (400, "invalid_request_error", "not_in_background")
    id = respond(client)["id"]
    for _ in range(2):
        assert post(client, f"/v1/responses/{id}/cancel", b"").json()["status"] == "cancelled"


def test_hidden_conversations_stand_in_no_list_and_expire(client: Client, settings: Any) -> None:
    run = complete(client, ("user", "Why?"))
    shown = respond(client)
    hidden = respond(client, store=False)
    listed = client.get("/api/conversations/").json()["items"]
    assert [f"conv_{one['id']}" for one in listed] == [shown["conversation"]["id"]]
    old = F("created_at") - timedelta(seconds=settings.LOG_TTL + 1)
    Conversation.objects.update(created_at=old)
    conversations.delete_expired()
    assert Run.objects.count() == 3  # they are still being written
    for one in Run.objects.all():
        finish.cancel(one.pk)
    conversations.delete_expired()
    assert Run.objects.count() == 3
    ended = F("ended_at") - timedelta(seconds=settings.LOG_TTL + 1)
    Run.objects.filter(pk=run.pk).update(ended_at=ended)
    conversations.delete_expired()
    left = {f"resp_{pk}" for pk in Run.objects.values_list("pk", flat=True)}
    assert left == {shown["id"], hidden["id"]}
    assert not Message.objects.filter(conversation=run.conversation_id).exists()


def test_an_expired_conversation_leaves_no_record_that_fails(client: Client) -> None:
    run = complete(client, ("user", "Why?"))
    Conversation.objects.filter(pk=run.conversation_id).delete()
    assert complete(client, ("user", "Why?"), repeat=1).pk != run.pk


def test_the_models_are_listed(client: Client) -> None:
    item = {"id": MODEL, "object": "model", "created": 0, "owned_by": "unspool"}
    assert client.get("/v1/models").json() == {"object": "list", "data": [item]}
    assert client.get(f"/v1/models/{MODEL}").json() == item
    assert error(client.get("/v1/models/other"))[0] == 404


def test_a_dialect_that_is_turned_off_has_no_routes() -> None:
    def routes(*names: str) -> list[str]:
        return [f"{api.prefix}{one.pattern}" for api in served([*names]) for one in api.addresses()]

    assert routes() == []
    models = ["/v1/models", "/v1/models/<path:model>"]
    assert routes("chat-completions") == [*models, "/v1/chat/completions"]
    assert routes("responses") == [
        *models,
        "/v1/responses",
        "/v1/responses/<id>",
        "/v1/responses/<id>/cancel",
    ]
