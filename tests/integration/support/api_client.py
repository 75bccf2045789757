"""A client of the API like a browser, with its own session and its CSRF token."""

import json
from typing import Any, cast
from uuid import UUID

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import Client

from streams.api.prefer_wait import wait_for_run


class ApiClient:
    """One session, begun at the page. Unsafe calls carry the CSRF token by default."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.client.get("/")
        self.csrf = {"X-CSRFToken": self.client.cookies["csrftoken"].value}

    def get(self, path: str, **headers: str) -> HttpResponse:
        return cast("HttpResponse", self.client.get(path, headers=headers))

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> HttpResponse:
        """Send the body as JSON, or bytes as they are."""
        call = getattr(self.client, method.lower())
        body = b"" if body is None else body
        headers = self.csrf | (headers or {})
        answer = call(path, data=body, content_type="application/json", headers=headers)
        if answer.status_code == 202:  # as streams/asgi.py does
            async_to_sync(wait_for_run)(answer.wsgi_request, answer)
        return cast("HttpResponse", answer)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, body, named)

    def begin(self, message: str = "Why?", **also: Any) -> dict[str, Any]:
        answer = self.post("/api/conversations/", {"message": message, **also})
        assert answer.status_code == 202, answer.content
        return cast("dict[str, Any]", json.loads(answer.content))


def conversation(id: UUID | str) -> str:
    return f"/api/conversations/{id}/"


def run(id: UUID | str) -> str:
    return f"/api/runs/{id}/"


def client_with_token(token: str) -> Client:
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {token}"})


def begin_conversation(client: Client) -> HttpResponse:
    path = "/api/conversations/"
    answer = client.post(path, {"message": "?"}, content_type="application/json")
    return cast("HttpResponse", answer)


def problem(answer: HttpResponse) -> tuple[int, str]:
    assert answer["Content-Type"] == "application/problem+json"
    return answer.status_code, json.loads(answer.content)["code"]
