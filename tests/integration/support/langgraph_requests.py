"""Requests of LangGraph's wire, and its refusals."""

import json
from typing import Any

from django.test import Client

from streams.models import Run

MODEL = "smollm2-135m-instruct"
OTHER = "00000000-0000-4000-8000-000000000000"


Json = dict[str, Any]


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, body, content_type="application/json")


def human(text: str = "Why?", id: str | None = None) -> Json:
    return {"type": "human", "content": text, **({"id": id} if id else {})}


def asked(*messages: Any, **also: Any) -> Json:
    return {"assistant_id": "agent", "input": {"messages": [*messages] or [human()]}, **also}


def begin(client: Client, thread: str, *messages: Any, **also: Any) -> Run:
    """Begin a run, and create the thread if there is none. Returns the run."""
    body = asked(*messages, if_not_exists="create", **also)
    answer = post(client, f"/threads/{thread}/runs", body)
    assert answer.status_code == 200, answer.content
    return Run.objects.get(pk=answer.json()["run_id"])


def refused(answer: Any) -> tuple[int, str]:
    body = json.loads(answer.content)
    assert set(body) - {"errors"} == {"detail", "code"}
    return answer.status_code, body["code"]
