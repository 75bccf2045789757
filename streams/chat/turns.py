"""The next turn of a conversation: locks the conversation, and counts its earlier runs."""

from dataclasses import dataclass
from typing import Any

from django.db.models import F, Func, IntegerField, QuerySet, UUIDField

from streams.chat.finish import cancel_unbegun
from streams.compiled_query import CompiledQuery, Parameter, count
from streams.models import UNPUBLISHED, Conversation, Message, Run

CONVERSATION = Parameter("conversation", UUIDField())


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """The state of a conversation before a new run."""

    last: int = 0  # the newest turn
    active: int = 0  # runs that are queued or running
    unpublished: int = 0  # runs that may have an unpublished event, active runs included


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A run that is not stored yet, and the state of its conversation before it.

    `asks_anew`: the run's message is new too, so message.created is not published yet.
    """

    run: Run
    asks_anew: bool
    before: Turns

    @property
    def alone(self) -> bool:
        """Whether only the events of this run and its new message are unpublished."""
        return self.asks_anew and not self.before.unpublished


def lock_turns(conversation: Conversation, *, interrupts: bool) -> Turns:
    """Lock the conversation until the transaction ends, and return its state.

    No other request adds a run meanwhile. With `interrupts`, its active runs are cancelled. Raises
    `DoesNotExist` if the conversation was deleted.
    """
    rows = Conversation.objects.select_for_update().filter(pk=conversation.id)
    rows.order_by().values_list("pk").get()
    if interrupts:
        # This transaction also creates the new run, so the conversation is never idle in between.
        cancel_unbegun(conversation)
        conversation.runs.filter(status__in=Run.ACTIVE).update(cancel_asked=True)
    last, active, unpublished = TURNS.row(conversation=conversation.id) or (0, 0, 0)
    return Turns(last=last or 0, active=active, unpublished=unpublished)


def _last() -> QuerySet[Message, Any]:
    highest = Func(F("turn"), function="MAX", output_field=IntegerField())
    messages = Message.objects.filter(conversation=CONVERSATION).order_by()
    return messages.annotate(_last=highest).values_list("_last")


TURNS = CompiledQuery(
    _last,
    lambda: count(Run.active().filter(conversation=CONVERSATION)),
    lambda: count(Run.objects.filter(UNPUBLISHED, conversation=CONVERSATION)),
)
