"""The next turn of a conversation: locks the conversation, and says what came before."""

from dataclasses import dataclass
from typing import Any

from django.db.models import F, Func, IntegerField, QuerySet, UUIDField

from streams.chat.finish import cancel_unbegun
from streams.compiled_query import CompiledQuery, Parameter, count
from streams.models import UNPUBLISHED, Conversation, Message, Run

CONVERSATION = Parameter("conversation", UUIDField())


@dataclass(frozen=True, kw_only=True, slots=True)
class Turns:
    """What a conversation holds before the new run."""

    last: int = 0  # the newest turn
    active: int = 0  # runs that are queued or running
    unpublished: int = 0  # runs of which an event may be unpublished, the active ones among them


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A run that is not stored yet, and what its conversation held before it.

    `asks_anew`: its message is as new as the run, so no event has it.
    """

    run: Run
    asks_anew: bool
    before: Turns

    @property
    def alone(self) -> bool:
        """Whether no other event of the conversation is unpublished, nor this message's already."""
        return self.asks_anew and not self.before.unpublished


def lock_turns(conversation: Conversation, *, interrupts: bool) -> Turns:
    """Lock the conversation until the transaction ends, and return what it holds.

    No other request adds a run meanwhile. `interrupts`: cancel its active runs. Raises
    `DoesNotExist` if the conversation was deleted.
    """
    rows = Conversation.objects.select_for_update().filter(pk=conversation.id)
    rows.order_by().values_list("pk").get()
    if interrupts:
        # In the transaction that creates the new run: the conversation is never idle between.
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
