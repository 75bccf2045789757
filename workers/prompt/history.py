"""The messages of a conversation that go into a run's prompt, before the budget cuts them."""

from itertools import count, groupby
from operator import itemgetter
from typing import Any

from django.db.models import Q

from streams.models import Message, Run
from streams.protocol.parts import AnyPart, TextPart, part_of
from workers.prompt.messages import PromptMessage
from workers.prompt.replies import has_calls, messages_of

LATEST = 400  # messages; older ones would not fit a model's context
LATEST_WITH_PARTS = 50  # replies whose tool calls are read; of older ones the text alone
# A failed run's partial text does not help the model. What its tools did happened all the same.
WORTH_KEEPING = (Run.Status.COMPLETED, Run.Status.CANCELLED)


def history(run: Run) -> list[PromptMessage]:
    """Return the system message, and each question up to this run's with its latest reply.

    A completed reply takes precedence over the partial text of a cancelled one. But the latest
    reply counts if it holds a tool call, whatever its run's status. Messages that a client brought
    along, which no run has written, are in the prompt too.
    """
    messages = run.conversation.messages
    system = messages.filter(role=Message.Role.SYSTEM)
    questions = messages.filter(role=Message.Role.USER, turn__lte=run.message.turn)
    replies = _replies(run)
    prompt = [PromptMessage("system", text) for text in system.values_list("content", flat=True)]
    asked = dict(questions.order_by("-turn").values_list("turn", "content")[:LATEST])
    numbers = count(1)
    for turn in sorted(asked.keys() | replies.keys()):
        if turn in asked:
            prompt.append(PromptMessage("user", asked[turn]))
        for parts in replies.get(turn, ()):
            prompt += messages_of(parts, numbers)
    return prompt


def _replies(run: Run) -> dict[int, list[tuple[AnyPart, ...]]]:
    """The parts of the reply in each turn before this run's, or of those that a client brought."""
    assistants = run.conversation.messages.filter(role=Message.Role.ASSISTANT)
    earlier = assistants.filter(turn__lt=run.message.turn)
    worth_reading = Q(written_by__status__in=WORTH_KEEPING) | Q(parts__isnull=False)
    latest = earlier.filter(worth_reading | Q(written_by=None))
    newest_first = latest.order_by("-turn", "-created_at", "-id")
    rows = newest_first.values_list("turn", "written_by__status", "pk", "content")[:LATEST]
    newest = [pk for _, _, pk, _ in list(rows)[:LATEST_WITH_PARTS]]
    stored = dict(Message.objects.filter(pk__in=newest).values_list("pk", "parts"))
    chosen: dict[int, list[tuple[AnyPart, ...]]] = {}
    for turn, replies in groupby(rows, key=itemgetter(0)):
        tried = [(status, _parts(stored.get(pk), content)) for _, status, pk, content in replies]
        written = [(status, parts) for status, parts in tried if status]
        brought = [parts for status, parts in reversed(tried) if not status]
        chosen[turn] = [_latest(written)] if written else brought
    return chosen


def _latest(replies: list[tuple[str, tuple[AnyPart, ...]]]) -> tuple[AnyPart, ...]:
    """The reply to one question that counts, of those with their run's status, newest first."""
    if has_calls(replies[0][1]):
        return replies[0][1]
    by_status = dict(reversed(replies))  # of several with one status the newest
    return next((by_status[status] for status in WORTH_KEEPING if status in by_status), ())


def _parts(stored: list[Any] | None, content: str) -> tuple[AnyPart, ...]:
    if stored is None:
        return (TextPart(text=content),)
    return tuple(part_of(value) for value in stored)
