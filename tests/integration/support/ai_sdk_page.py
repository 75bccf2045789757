"""A page of the AI SDK: its requests and its messages."""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpResponse
from django.test import Client

from streams.models import Message

JSON = "application/json"


class Page:
    """Sends a page's requests, and keeps the responses. Streams are not read."""

    def __init__(self, client: Client | None = None) -> None:
        self.client = client or Client()
        self.responses: list[HttpResponse] = []

    def post(self, *messages: dict[str, Any], chat: str = "c1", **also: Any) -> HttpResponse:
        body = {"id": chat, "messages": list(messages), "trigger": "submit-message", **also}
        answer = self.client.post("/api/chat", body, content_type=JSON)
        response = cast("HttpResponse", answer)
        self.responses.append(response)
        return response

    def run(self, *messages: dict[str, Any], **also: Any) -> str:
        response = self.post(*messages, **also)
        assert response.status_code == 200, response.content
        return str(response.headers["x-workflow-run-id"])

    def stored(self, chat: str = "c1") -> list[tuple[str, str]]:
        found = Message.objects.filter(conversation__client_id=chat)
        return [(one.role, one.content) for one in found]


def user(id: str, text: str = "Hello") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


def reply(id: str, text: str = "Hi") -> dict[str, Any]:
    return {"id": id, "role": "assistant", "parts": [{"type": "text", "text": text}]}
