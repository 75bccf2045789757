"""A valid request of each wire, which tests make hostile, and the paths of all wires."""

from __future__ import annotations

from typing import Any

from streams.protocol.parts import (
    AnyPart,
    DataPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

MODEL = "smollm2-135m-instruct"
THREAD = "00000000-0000-4000-8000-00000000000a"
UI = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}
TOLD = {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]}
CALL = {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}
AG_UI = {
    "threadId": "t",
    "runId": "r",
    "messages": [
        {"id": "0", "role": "system", "content": "Be kind."},
        {"id": "1", "role": "assistant", "toolCalls": [CALL]},
        {"id": "2", "role": "tool", "content": "x", "toolCallId": "c"},
        {"id": "3", "role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ],
    "tools": [],
    "context": [{"description": "d", "value": "v"}],
    "state": {"a": 1},
    "forwardedProps": {"model": MODEL},
}


LANGGRAPH = {
    "assistant_id": "agent",
    "input": {
        "messages": [
            {"type": "system", "content": "Be kind."},
            {"type": "ai", "id": THREAD, "content": "", "tool_calls": [CALL]},
            ["user", "How?"],
            {"type": "human", "id": "m", "content": [{"type": "text", "text": "Why?"}]},
        ]
    },
    "stream_mode": ["values", "messages-tuple"],
    "multitask_strategy": "enqueue",
    "if_not_exists": "create",
    "on_disconnect": "continue",
    "metadata": {"page": "7"},
    "config": {"configurable": {}},
    "checkpoint": {"checkpoint_id": None},
}


# Valid bodies by their route. A test replaces each value in them by each hostile value in turn.
BODIES: list[tuple[str, dict[str, Any]]] = [
    (
        "/api/chat",
        {
            "id": "c",
            "messages": [UI],
            "trigger": "submit-message",
            "messageId": "m",
            "model": MODEL,
            "metadata": {"page": "7"},
        },
    ),
    (
        "/v1/chat/completions",
        {
            "model": MODEL,
            "messages": [{"role": "system", "content": "Be kind."}, TOLD],
            "stream": True,
            "stream_options": {"include_usage": True},
            "n": 1,
            "response_format": {"type": "text"},
        },
    ),
    (
        "/v1/responses",
        {
            "model": MODEL,
            "input": [TOLD],
            "instructions": "Be kind.",
            "background": True,
            "store": True,
            "text": {"format": {"type": "text"}},
            "metadata": {"page": "7"},
        },
    ),
    (
        "/v1/responses",
        {
            "model": MODEL,
            "input": "Why?",
            "background": True,
            "conversation": {"id": "conv_x"},
            "previous_response_id": "resp_x",
        },
    ),
    ("/ag-ui", AG_UI),
    ("/ag-ui/connect", AG_UI),
    ("/threads", {"thread_id": THREAD, "if_exists": "do_nothing", "metadata": {}}),
    (f"/threads/{THREAD}/runs/stream", LANGGRAPH),
    (f"/threads/{THREAD}/history", {"limit": 10, "before": None, "checkpoint": {"a": 1}}),
    ("/runs", LANGGRAPH),
]


IDS = [f"{path} {place}" for place, (path, _) in enumerate(BODIES)]


# Paths in which a test replaces `{}` by each hostile name.
ADDRESSES = [
    "/api/chat/{}/stream",
    "/api/chat/{}/messages",
    "/api/chat/x/stream?startIndex={}",
    "/v1/models/{}",
    "/v1/responses/{}",
    "/v1/responses/{}?stream=true",
    "/v1/responses/resp_{run}?stream={}",
    "/v1/responses/resp_{run}?stream=true&starting_after={}",
    "/threads/{}",
    "/threads/{}/state",
    "/threads/{}/runs/{run}",
    "/threads/{thread}/runs/{}",
    "/threads/{thread}/runs/{}/stream",
    "/threads/{thread}/runs/{}/join",
    "/threads/{thread}/runs/{run}/stream?stream_mode={}",
    "/threads/{thread}/runs/{run}/stream?cancel_on_disconnect={}",
]


POSTS = [
    "/api/chat/{}/stop",
    "/v1/responses/{}/cancel",
    "/ag-ui/stop/{}",
    "/threads/{}/history",
    "/threads/{}/runs",
    "/threads/{}/runs/{run}/cancel",
    "/threads/{thread}/runs/{}/cancel",
    "/threads/{thread}/runs/{run}/cancel?action={}",
]


PARTS: list[AnyPart] = [
    ReasoningPart(text="Hm."),
    ToolCallPart(call="c", name="find", input={"q": "🙂"}),
    ToolResultPart(call="c", output=[1]),
    SourcePart(source="s", title="S"),
    DataPart(name="d", data={"a": 1}, id="1"),
    TextPart(text="Because 🙂."),
]


HEADERS = ["x-stainless-retry-count", "x-ai-sdk-version", "Last-Event-ID", "Idempotency-Key"]
