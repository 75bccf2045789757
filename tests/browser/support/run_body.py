"""A run as the API shows it, made from the fold of its events."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from streams.protocol.events import Usage
from streams.protocol.fold import Reply


def run_body(
    conversation: UUID, run: UUID, message: UUID, reply: Reply, usage: Usage
) -> dict[str, Any]:
    status = "running" if reply.ending is None else reply.ending.type.removeprefix("run.")
    return {
        "id": str(run),
        "conversation": str(conversation),
        "message": str(message),
        "reply": None,
        "status": status,
        "attempt": reply.attempt,
        "model": "a-model",
        "text": reply.text,
        "reasoning": reply.reasoning,
        "finish_reason": "stop",
        "error": None,
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "estimated": usage.estimated,
        },
        "timings": {
            "queued_at": "2026-01-01T12:00:00Z",
            "started_at": "2026-01-01T12:00:00.1Z",
            "first_token_at": "2026-01-01T12:00:00.4Z",
            "ended_at": "2026-01-01T12:00:03Z",
        },
    }
