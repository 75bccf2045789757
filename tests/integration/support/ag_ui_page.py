"""A page of AG-UI: its requests, and the responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import Any

import orjson
from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone

from streams.models import Message, Run
from streams.protocol.parts import TextPart, part_json

JSON = "application/json"


class Page:
    """Sends a page's requests, and keeps the responses. Of a live stream only the start is read."""

    def __init__(self, client: Client | None = None) -> None:
        self.client = client or Client()
        self.responses: list[Any] = []

    def close(self) -> None:
        for response in self.responses:
            response.close()

    def post(
        self,
        *messages: dict[str, Any],
        run: str = "r1",
        thread: str = "t1",
        to: str = "",
        **also: Any,
    ) -> Any:
        body = {"threadId": thread, "runId": run, "messages": list(messages)}
        sent = {**body, "tools": [], "context": [], "state": {}, "forwardedProps": {}, **also}
        response: Any = self.client.post(f"/ag-ui{to}", sent, content_type=JSON)
        self.responses.append(response)
        return response

    def stop(self, thread: str) -> int:
        return int(self.client.post(f"/ag-ui/stop/{thread}", content_type=JSON).status_code)

    def events(self, *messages: dict[str, Any], **also: Any) -> list[dict[str, Any]]:
        """Post, and return the events at the start of the response."""
        response = self.post(*messages, **also)
        assert response.status_code == 200, response.content
        return begun(response)

    def run(self, *messages: dict[str, Any], **also: Any) -> Run:
        """The run that the response streams."""
        return Run.objects.get(pk=self.events(*messages, **also)[0]["metadata"]["run"])

    def stored(self, thread: str = "t1") -> list[tuple[str, str]]:
        found = Message.objects.filter(conversation__client_id=thread)
        return [(one.role, one.content) for one in found]


def begun(response: Any) -> list[dict[str, Any]]:
    async def first(content: AsyncIterator[bytes]) -> bytes:
        return await anext(content)

    streamed = response.streaming_content if response.streaming else None
    # In a copy of the context, otherwise the request's id would stay in this context.
    frames = copy_context().run(async_to_sync(first), streamed) if streamed else response.content
    return [orjson.loads(one.removeprefix(b"data: ")) for one in frames.split(b"\n\n")[:-1]]


def user(id: str, text: str = "Hello") -> dict[str, Any]:
    return {"id": id, "role": "user", "content": text}


def reply(id: str, text: str = "Hi") -> dict[str, Any]:
    return {"id": id, "role": "assistant", "content": text}


def answered(run: Run, *parts: Any) -> None:
    """Store rows as if the run had ended with these parts."""
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    row = Message.objects.create(
        conversation=run.conversation,
        role="assistant",
        content=text,
        parts=[part_json(part) for part in parts],
        turn=run.message.turn,
        reply_to=run.message,
    )
    Run.objects.filter(pk=run.pk).update(
        status="completed", reply=row, attempt=1, finish_reason="stop", ended_at=timezone.now()
    )


def snapshots(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [one["messages"] for one in events if one["type"] == "MESSAGES_SNAPSHOT"]
