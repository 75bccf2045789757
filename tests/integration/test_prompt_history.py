"""The history of a conversation with tool calls, as it is stored."""

from typing import Any

import pytest

from streams.database_time import from_now
from streams.models import Conversation, Message, Run
from streams.protocol.parts import TextPart, ToolCallPart, ToolResultPart, part_json
from workers.prompt.history import history
from workers.prompt.messages import PromptMessage

pytestmark = pytest.mark.django_db

CALLED = [
    part_json(TextPart(text="Let me see.")),
    part_json(ToolCallPart(call="c1", name="refund", input={"order": 7})),
    part_json(ToolResultPart(call="c1", error="worker_lost")),
]
SEEN = [
    PromptMessage(
        "assistant",
        "Let me see.",
        (ToolCallPart(call="past_1", name="refund", input={"order": 7}),),
    ),
    PromptMessage("tool", "interrupted; outcome unknown", call="past_1"),
]


def asked(*replies: tuple[str, str, list[dict[str, Any]] | None]) -> list[PromptMessage]:
    """The prompt after one question with these replies, the oldest first, before the next."""
    conversation = Conversation.objects.create(owner="visitor:a", model="m")
    common = {"conversation": conversation}
    first = Message.objects.create(**common, role="user", content="one", turn=1)
    for place, (status, text, parts) in enumerate(replies):
        reply = Message.objects.create(
            **common,
            role="assistant",
            content=text,
            parts=parts,
            turn=1,
            reply_to=first,
            # Two replies of one millisecond would have no order.
            created_at=from_now(place - len(replies)),
        )
        run = {"owner": "visitor:a", "model": "m", "status": status}
        Run.objects.create(**common, **run, message=first, reply=reply)
    second = Message.objects.create(**common, role="user", content="two", turn=2)
    [question, *answer, last] = history(
        Run.objects.create(**common, owner="visitor:a", model="m", message=second)
    )
    assert (question, last) == (PromptMessage("user", "one"), PromptMessage("user", "two"))
    return answer


@pytest.mark.parametrize("status", ["failed", "cancelled", "completed"])
def test_the_latest_reply_with_a_call_counts_whatever_its_status(status: str) -> None:
    assert asked(("completed", "Before.", None), (status, "Let me see.", CALLED)) == SEEN


def test_a_failed_reply_of_text_alone_is_left_out() -> None:
    assert asked(("failed", "Half", None)) == []
    parts = [part_json(TextPart(text="Half"))]
    assert asked(("completed", "Whole.", None), ("failed", "Half", parts)) == [
        PromptMessage("assistant", "Whole.")
    ]


def test_a_completed_reply_counts_before_the_partial_text_of_a_later_cancelled_one() -> None:
    assert asked(("completed", "Whole.", None), ("cancelled", "Ha", None)) == [
        PromptMessage("assistant", "Whole.")
    ]
