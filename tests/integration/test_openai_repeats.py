"""A request of OpenAI's wires that comes again, and one that contradicts its conversation."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client

from streams.access.api_tokens import create_token
from streams.chat import finish
from streams.models import Run
from streams.service_models import IdempotencyRecord
from tests.integration.support.openai_requests import MODEL, complete, error, post, respond

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]


@pytest.fixture
def client() -> Client:
    token = create_token(User.objects.create_user("ada"), "openai", scopes="read write")
    return Client(headers={"Authorization": f"Bearer {token}"})


def test_a_repeated_body_joins_the_run_and_an_equal_one_does_not(client: Client) -> None:
    ask = ("user", "Why?")
    first, second = complete(client, ask), complete(client, ask)
    assert first != second
    # Two clients lost their connection: each repetition takes one of the two.
    complete(client, ask, repeat=1)
    complete(client, ask, repeat=1)
    complete(client, ask, repeat=2)
    assert Run.objects.count() == 2
    third = complete(client, ask, repeat=1)  # no equal request is left that was repeated less often
    assert third not in (first, second)
    assert complete(client, ("user", "Who?"), repeat=1) not in (first, second, third)


def test_a_repeated_body_joins_for_a_minute_after_the_request(client: Client) -> None:
    first = complete(client, ("user", "Why?"))
    old = F("created_at") - timedelta(seconds=61)
    IdempotencyRecord.objects.update(created_at=old)
    assert complete(client, ("user", "Why?"), repeat=1) == first  # it is still being written
    assert Run.objects.count() == 1
    finish.cancel(first.pk)
    assert complete(client, ("user", "Why?"), repeat=2) != first


def test_a_repeated_turn_joins_although_its_previous_response_is_older(client: Client) -> None:
    first = respond(client)
    finish.cancel(UUID(first["id"].removeprefix("resp_")))
    second = respond(client, previous_response_id=first["id"])
    again = respond(client, previous_response_id=first["id"], repeat=1)
    assert again["id"] == second["id"]
    body = {"model": MODEL, "input": "Why?", "previous_response_id": first["id"]}
    refused = post(client, "/v1/responses", body)
    assert error(refused) == (409, "invalid_request_error", "not_last_turn")
    assert refused["x-should-retry"] == "false"
    body["previous_response_id"] = second["id"]
    refused = post(client, "/v1/responses", body)
    assert error(refused) == (409, "invalid_request_error", "conversation_busy")
    assert refused["x-should-retry"] == "false"


def test_what_contradicts_the_conversation_is_refused(client: Client, settings: Any) -> None:
    settings.LLM_MODELS = [MODEL, "other"]
    first = respond(client, instructions="Be kind.")
    finish.cancel(UUID(first["id"].removeprefix("resp_")))
    body = {"model": MODEL, "input": "Why?", "previous_response_id": first["id"]}
    messages = [{"role": "user", "content": "A"}, {"role": "user", "content": "B"}]
    for wrong in ({"model": "other"}, {"input": messages}, {"instructions": "Be rude."}):
        refused = post(client, "/v1/responses", body | wrong)
        assert error(refused) == (422, "invalid_request_error", "invalid_request")
    conversation = {"conversation": first["conversation"]["id"]}
    refused = post(client, "/v1/responses", body | conversation)
    assert error(refused) == (422, "invalid_request_error", "invalid_request")
    assert respond(client, previous_response_id=first["id"], instructions="Be kind.")
