"""LangGraph's clients in tests: a check of their messages, and the documented fold for Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from langchain_core.messages import AIMessageChunk
from langgraph_sdk.client import LangGraphClient

from tests.support.openai_client import User
from tests.support.ports import HOST
from tests.support.script import expected

SCRIPT = Path(__file__).parents[1] / "dialects" / "clients" / "langgraph.mjs"
PACKAGES = {"@langchain/langgraph-sdk": "1.15.0", "@langchain/core": "1.4.0"}
MODES = ["values", "messages-tuple", "custom"]
Message = dict[str, Any]


@asynccontextmanager
async def langgraph_client(
    user: User, *, port: int | None = None
) -> AsyncIterator[LangGraphClient]:
    """The SDK for Python, which ignores the machine's proxy settings."""
    port = port or user.stack.ports[user.stack.web.name]
    async with httpx.AsyncClient(
        base_url=f"http://{HOST}:{port}",
        headers={"x-api-key": user.token},
        timeout=httpx.Timeout(60),
        trust_env=False,
    ) as http:
        yield LangGraphClient(http)


def human(text: str, *, id: str | None = None) -> Message:
    return {"type": "human", "content": text, **({"id": id} if id else {})}


@dataclass
class Fold:
    """A program's fold of a stream. It adds up the chunks of one id, as LangChain does."""

    run: str = ""
    ids: list[int] = field(default_factory=list)
    chunks: dict[str, Any] = field(default_factory=dict)
    state: list[Message] = field(default_factory=list)
    custom: list[Message] = field(default_factory=list)
    error: Message | None = None
    status: str | None = None

    async def read(self, stream: Any) -> None:
        async for part in stream:
            self.hear(part.event, part.data, part.id)

    def hear(self, event: str, data: Any, id: str) -> None:
        assert self.status is None
        self.ids.append(int(id))
        match event:
            case "metadata":
                self.run = data["run_id"]
            case "values":
                self.state = data["messages"]
            case "messages":
                self._add(data[0])
            case "custom":
                self.custom.append(data)
            case "error":
                self.error = data
            case "end":
                self.status = data["status"]

    def _add(self, message: Message) -> None:
        id = message["id"]
        if message["type"] == "remove":
            self.chunks.pop(id, None)
        elif message["type"] == "AIMessageChunk":
            fields = {name: value for name, value in message.items() if name != "type"}
            chunk = AIMessageChunk(**fields)
            self.chunks[id] = self.chunks[id] + chunk if id in self.chunks else chunk
        else:
            self.chunks[id] = message

    @property
    def messages(self) -> list[Message]:
        return [
            one if isinstance(one, dict) else {**one.model_dump(), "type": "ai"}
            for one in self.chunks.values()
        ]

    @property
    def text(self) -> str:
        return "".join(one["content"] for one in self.messages if one["type"] == "ai")


def comparable(messages: list[Message]) -> list[Message]:
    """The fields of each message that the wire sends, without those that a client adds."""
    shown = []
    for message in messages:
        kwargs = message.get("additional_kwargs") or {}
        usage = message.get("usage_metadata") or {}
        one = {
            "id": message["id"],
            "type": message["type"],
            "content": message["content"],
            "reasoning": kwargs.get("reasoning_content", ""),
            "calls": [
                {name: call[name] for name in ("name", "args", "id")}
                for call in message.get("tool_calls") or []
            ],
            "tool": [message.get(name) for name in ("tool_call_id", "name", "status")]
            if message["type"] == "tool"
            else [],
            "tokens": usage.get("total_tokens"),
        }
        shown.append(one)
    return shown


async def check(user: User, thread: str, run: str, shown: list[Message], asked: str = "") -> None:
    """Check that the client has the thread's messages, and that its reply is the stored one."""
    answer = await user.visitor.http.get(f"/threads/{thread}/state")
    state = comparable(answer.raise_for_status().json()["values"]["messages"])
    assert comparable(shown) == state
    reply = [one for one in state if one["id"].startswith(run)]
    stored = await user.visitor.run(run)
    parts = {kind: [one for one in stored["parts"] if one["type"] == kind] for kind in KINDS}
    assert "".join(one["content"] for one in reply if one["type"] == "ai") == stored["text"]
    thought = "".join(one["text"] for one in parts["reasoning"])
    assert "".join(one["reasoning"] for one in reply) == thought
    called = [call["id"] for one in reply for call in one["calls"]]
    assert called == [one["call"] for one in parts["tool_call"]]
    results = [one["content"] for one in reply if one["type"] == "tool"]
    assert results == [one.get("output") or one.get("error") for one in parts["tool_result"]]
    if asked:
        assert stored["text"] == expected(asked)


KINDS = ("reasoning", "tool_call", "tool_result")


async def begun(graph: LangGraphClient) -> str:
    return str((await graph.threads.create())["thread_id"])


def asked_in(graph: LangGraphClient, thread: str | None, text: str, **also: Any) -> Any:
    options: Any = {"input": {"messages": [human(text)]}, "stream_mode": MODES, **also}
    return graph.runs.stream(thread, "agent", **options)
