"""The messages of a conversation that go into a run's prompt, before the budget cuts them."""

from collections.abc import Iterable
from itertools import count, groupby
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, IntegerField, Q, QuerySet, UUIDField

from streams.compiled_query import CompiledQuery, Parameter
from streams.models import Message, Run
from streams.protocol.parts import AnyPart, part_of, text_parts
from workers.prompt.messages import PromptMessage
from workers.prompt.replies import has_calls, messages_of

LATEST = 800  # messages; older ones would not fit a model's context
LATEST_WITH_PARTS = 50  # replies whose tool calls are read; older ones give only their text
# A failed run's partial text does not help the model. A reply with tool calls is kept whatever its
# run's status, because its tools have already done something.
WORTH_KEEPING = (Run.Status.COMPLETED, Run.Status.CANCELLED)


def history(run: Run) -> list[PromptMessage]:
    """Return the system message, and each question up to this run's with its latest reply.

    Of several replies to one question, a completed one takes precedence over the partial text of a
    cancelled one. But if the latest reply contains a tool call, it is the one that counts, whatever
    its run's status. Messages that a client sent along, which no run wrote, are included too.
    """
    rows = [
        _Row(*row) for row in MESSAGES.rows(conversation=run.conversation_id, turn=run.message.turn)
    ]
    system = [row.content for row in reversed(rows) if row.role == Message.Role.SYSTEM]
    if len(rows) == LATEST:  # the oldest message, the system message, may be missing
        messages = run.conversation.messages.filter(role=Message.Role.SYSTEM)
        system = list(messages.values_list("content", flat=True))
    asked = {row.turn: row.content for row in rows if row.role == Message.Role.USER}
    replies = _replies([row for row in rows if row.role == Message.Role.ASSISTANT])
    prompt = [PromptMessage("system", text) for text in system]
    numbers = count(1)
    for turn in sorted(asked.keys() | replies.keys()):
        if turn in asked:
            prompt.append(PromptMessage("user", asked[turn]))
        for parts in replies.get(turn, ()):
            prompt += messages_of(parts, numbers)
    return prompt


def _newest_first() -> QuerySet[Message, Any]:
    """The columns of `_Row` for the messages up to a turn's question, the newest first."""
    turn = Parameter("turn", IntegerField())
    worth_reading = Q(written_by__status__in=WORTH_KEEPING) | Q(parts__isnull=False)
    reply = Q(role=Message.Role.ASSISTANT, turn__lt=turn) & (worth_reading | Q(written_by=None))
    messages = Message.objects.filter(
        reply | Q(role__in=(Message.Role.SYSTEM, Message.Role.USER)),
        conversation=Parameter("conversation", UUIDField()),
        turn__lte=turn,
    )
    has_parts = ExpressionWrapper(Q(parts__isnull=False), output_field=BooleanField())
    rows = messages.annotate(_has_parts=has_parts).order_by("-turn", "-created_at", "-id")
    return rows.values_list("role", "turn", "written_by__status", "pk", "content", "_has_parts")[
        :LATEST
    ]


MESSAGES = CompiledQuery(_newest_first)


class _Row(NamedTuple):
    role: str
    turn: int
    status: str | None  # of the run that wrote the reply
    id: UUID
    content: str
    has_parts: bool


def _replies(rows: list[_Row]) -> dict[int, list[tuple[AnyPart, ...]]]:
    """Map each turn to the parts of its reply that counts, or of all replies that a client sent.

    `rows` are the replies, newest first.
    """
    stored = _stored_parts(row.id for row in rows[:LATEST_WITH_PARTS] if row.has_parts)
    chosen: dict[int, list[tuple[AnyPart, ...]]] = {}
    for turn, replies in groupby(rows, key=attrgetter("turn")):
        tried = [(row.status, _parts(stored.get(row.id), row.content)) for row in replies]
        written = [(status, parts) for status, parts in tried if status]
        brought = [parts for status, parts in reversed(tried) if not status]
        chosen[turn] = [_latest(written)] if written else brought
    return chosen


def _stored_parts(ids: Iterable[UUID]) -> dict[UUID, list[Any]]:
    wanted = list(ids)
    if not wanted:  # most replies are text alone
        return {}
    rows = Message.objects.filter(pk__in=wanted, parts__isnull=False).order_by()
    return {id: parts or [] for id, parts in rows.values_list("pk", "parts")}


def _latest(replies: list[tuple[str, tuple[AnyPart, ...]]]) -> tuple[AnyPart, ...]:
    """Choose the reply that counts of those to one question: statuses and parts, newest first."""
    if has_calls(replies[0][1]):
        return replies[0][1]
    by_status = dict(reversed(replies))  # the newest reply of each status
    return next((by_status[status] for status in WORTH_KEEPING if status in by_status), ())


def _parts(stored: list[Any] | None, content: str) -> tuple[AnyPart, ...]:
    return text_parts(content) if stored is None else tuple(map(part_of, stored))
