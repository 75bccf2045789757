"""Requests of OpenAI's wires, and the form of their errors."""

import json
from typing import Any

from django.test import Client

from streams.dialects.openai_http import REPEAT
from streams.models import Run

MODEL = "smollm2-135m-instruct"


def post(client: Client, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, body, content_type="application/json", headers=headers)


def respond(client: Client, repeat: int = 0, **also: Any) -> dict[str, Any]:
    body = {"model": MODEL, "input": "Why?", "background": True, **also}
    answer = post(client, "/v1/responses", body, **{REPEAT: str(repeat)})
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def complete(client: Client, *messages: tuple[str, str], repeat: int = 0, **also: Any) -> Run:
    """The run that a call of Chat Completions begins."""
    sent = [{"role": role, "content": content} for role, content in messages]
    body = {"model": MODEL, "messages": sent, **also}
    earlier = set(Run.objects.values_list("pk", flat=True))
    post(client, "/v1/chat/completions", body, **{REPEAT: str(repeat)})
    run = Run.objects.exclude(pk__in=earlier).first()
    return run or Run.objects.latest("created_at")


def error(answer: Any) -> tuple[int, str, str]:
    body = json.loads(answer.content)["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer.status_code, body["type"], body["code"]
