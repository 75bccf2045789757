"""Every operation of the OpenAPI document, asked by the owner and by callers without access.

Each operation has a row, which says how its request names the owner's objects. The owner's success
shows that the row is right. A wire that adds an operation adds a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from streams.access.api_tokens import create_token
from streams.api import api
from streams.chat import finish
from streams.models import Conversation, Message, Run
from streams.service_models import ApiToken

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
SECRET = "a secret word"
MODEL = "smollm2-135m-instruct"
DOCUMENTED = {"get", "post", "put", "patch", "delete"}
HIDDEN = {404}  # the answer for an object of another owner
OWN = {200, 201, 202}  # the request begins something of the caller's own
EMPTY = {200}  # the caller's own list, or what all may read


def ui_message(text: str) -> dict[str, Any]:
    return {"id": "m", "role": "user", "parts": [{"type": "text", "text": text}]}


@dataclass(frozen=True, kw_only=True)
class Row:
    """How an operation is asked for the owner's objects, and what a stranger gets.

    `{conversation}` and `{run}` stand for the owner's ids in `path` and in the body's texts.
    """

    operation: str
    path: str = ""
    body: Any = None
    stranger: frozenset[int] | set[int] = frozenset(HIDDEN)
    owner: frozenset[int] | set[int] = frozenset({200, 202, 204})

    def sent_by(self, client: Client, ids: dict[str, str]) -> HttpResponse:
        method, path = self.operation.split(" ")
        where = (self.path or path).format(**ids)
        body = b"" if self.body is None else _filled(self.body, ids)
        call = getattr(client, method.lower())
        if method == "GET":
            return call(where)  # type: ignore[no-any-return]
        return call(where, body, content_type="application/json")  # type: ignore[no-any-return]


def _filled(body: Any, ids: dict[str, str]) -> Any:
    if isinstance(body, str):
        return body.format(**ids)
    if isinstance(body, list):
        return [_filled(one, ids) for one in body]
    if isinstance(body, dict):
        return {name: _filled(value, ids) for name, value in body.items()}
    return body


UPGRADE = {426}  # the answer to a request that is no handshake of a WebSocket
ASK = {"message": "Mine?"}
RESPOND = {"model": MODEL, "input": "Mine?", "background": True}
COMPLETE = {"model": MODEL, "messages": [{"role": "user", "content": "Mine?"}], "stream": True}
CHAT = {"id": "{conversation}", "messages": [ui_message("Mine?")]}
GRAPH = {"assistant_id": MODEL, "input": {"messages": [{"role": "user", "content": "Mine?"}]}}
RUN_AGENT = {
    "threadId": "{conversation}",
    "runId": "r",
    "messages": [{"id": "m", "role": "user", "content": "Mine?"}],
}
NAMED = {"thread_id": "00000000-0000-4000-8000-000000000001", "if_exists": "do_nothing"}
ROWS = [
    Row(operation="GET /api/conversations/", stranger=EMPTY),
    Row(operation="POST /api/conversations/", body=ASK, stranger=OWN),
    Row(operation="GET /api/conversations/{conversation}/"),
    Row(operation="PATCH /api/conversations/{conversation}/", body={"title": "Mine"}),
    Row(operation="DELETE /api/conversations/{conversation}/"),
    Row(operation="GET /api/conversations/{conversation}/messages/"),
    Row(operation="POST /api/conversations/{conversation}/messages/", body=ASK),
    Row(operation="GET /api/conversations/{conversation}/events/"),
    # Over plain HTTP each caller is told the same. The handshake itself has tests of its own.
    Row(operation="GET /api/conversations/{conversation}/socket/", stranger=UPGRADE, owner=UPGRADE),
    Row(operation="GET /api/runs/{run}/"),
    Row(operation="POST /api/runs/{run}/cancel/"),
    Row(operation="POST /api/runs/{run}/retry/"),
    Row(operation="GET /api/models/", stranger=EMPTY),
    Row(operation="POST /api/chat", body=CHAT, stranger=OWN),
    Row(operation="GET /api/chat/{name}/messages", path="/api/chat/{conversation}/messages"),
    Row(operation="POST /api/chat/{name}/stop", path="/api/chat/{conversation}/stop"),
    Row(
        operation="GET /api/chat/{name}/stream",
        path="/api/chat/{conversation}/stream",
        stranger={204},
    ),
    Row(operation="GET /api/chat/{name}/stream", path="/api/chat/{run}/stream", stranger={204}),
    Row(operation="GET /v1/models", stranger=EMPTY),
    Row(operation="GET /v1/models/{model}", path=f"/v1/models/{MODEL}", stranger=EMPTY),
    Row(operation="POST /v1/chat/completions", body=COMPLETE, stranger=OWN),
    Row(operation="POST /v1/responses", body=RESPOND, stranger=OWN),
    Row(operation="POST /v1/responses", body={**RESPOND, "previous_response_id": "resp_{run}"}),
    Row(operation="POST /v1/responses", body={**RESPOND, "conversation": "conv_{conversation}"}),
    Row(
        operation="POST /v1/responses",
        body={**RESPOND, "conversation": {"id": "{conversation}"}},
    ),
    Row(operation="GET /v1/responses/{id}", path="/v1/responses/resp_{run}"),
    Row(operation="GET /v1/responses/{id}", path="/v1/responses/resp_{run}?stream=true"),
    Row(
        operation="GET /v1/responses/{id}",
        path="/v1/responses/resp_{run}?stream=true&starting_after=0",
    ),
    Row(operation="POST /v1/responses/{id}/cancel", path="/v1/responses/resp_{run}/cancel"),
    Row(operation="POST /ag-ui", body=RUN_AGENT, stranger=OWN),
    Row(operation="POST /ag-ui/connect", body=RUN_AGENT, stranger=OWN),
    Row(operation="POST /ag-ui/stop/{thread}", path="/ag-ui/stop/{conversation}"),
    Row(operation="POST /threads", body=NAMED, stranger=OWN),
    Row(operation="GET /threads/{thread}", path="/threads/{conversation}"),
    Row(operation="GET /threads/{thread}/state", path="/threads/{conversation}/state"),
    Row(
        operation="POST /threads/{thread}/history",
        path="/threads/{conversation}/history",
        body={},
    ),
    *(
        Row(
            operation=f"POST /threads/{{thread}}/runs{kind}",
            path=f"/threads/{{conversation}}/runs{kind}",
            body=GRAPH,
        )
        for kind in ("", "/stream", "/wait")
    ),
    *(
        Row(operation=f"POST /runs{kind}", body=GRAPH, stranger=OWN)
        for kind in ("", "/stream", "/wait")
    ),
    *(
        Row(
            operation=f"GET /threads/{{thread}}/runs/{{run}}{kind}",
            path=f"/threads/{{conversation}}/runs/{{run}}{kind}",
        )
        for kind in ("", "/stream", "/join")
    ),
    Row(
        operation="POST /threads/{thread}/runs/{run}/cancel",
        path="/threads/{conversation}/runs/{run}/cancel",
    ),
]


def test_every_operation_has_a_row() -> None:
    document = api.get_openapi_schema()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method in DOCUMENTED and not path.startswith("/health/")
    }
    assert operations == {row.operation for row in ROWS}


def bearing(token: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=True)


def callers(owner: User) -> Iterator[tuple[str, Client, bool]]:
    """Callers without access, and whether each is a caller at all."""
    bob = User.objects.create_user("bob")
    yield "another's token", bearing(create_token(bob, "job", scopes="read write")), True
    signed_in = Client()
    signed_in.force_login(bob)
    yield "another user", signed_in, True
    yield "anonymous", Client(), False
    token = create_token(owner, "revoked", scopes="read write")
    ApiToken.objects.filter(name="revoked").update(revoked_at=timezone.now())
    yield "a revoked token", bearing(token), False


def kept(owner: str) -> str:
    conversations = Conversation.objects.filter(owner=owner)
    messages = Message.objects.filter(conversation__in=conversations)
    runs = Run.objects.filter(conversation__in=conversations)
    return serializers.serialize("json", [*conversations, *messages, *runs])


def said(answer: HttpResponse) -> str:
    """What the answer says; a stream is closed, and its headers are all of it."""
    content = "" if answer.streaming else answer.content.decode()
    answer.close()
    return f"{content} {answer.headers}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operation} {row.path}")
def test_only_the_owner_is_answered(row: Row, settings: Any) -> None:
    ada = User.objects.create_user("ada")
    owner = bearing(create_token(ada, "job", scopes="read write"))
    made = owner.post("/api/conversations/", {"message": SECRET}, content_type="application/json")
    ids = {name: made.json()[name] for name in ("conversation", "run")}
    finish.cancel(UUID(ids["run"]))
    name = Conversation.objects.get().owner
    before = kept(name)
    settings.ALLOW_ANONYMOUS = False
    for who, client, is_known in callers(ada):
        answer = row.sent_by(client, ids)
        told = said(answer)
        is_refused = not is_known and row.stranger != UPGRADE
        assert answer.status_code in ({401} if is_refused else row.stranger), (who, told)
        assert SECRET not in told, who
        if row.stranger != OWN:  # its own chat may have the name that the caller gave
            assert not any(id in told for id in ids.values()), (who, told)
        assert kept(name) == before, who
    settings.ALLOW_ANONYMOUS = True
    visitor = row.sent_by(Client(), ids)
    told = said(visitor)
    assert visitor.status_code < 500
    assert SECRET not in told
    assert kept(name) == before
    answer = row.sent_by(owner, ids)
    told = said(answer)
    assert answer.status_code in row.owner, told
