"""The turns of a conversation that go into a run's prompt, before the budget cuts them."""

from django.db.models import Q

from streams.models import Message, Run
from workers.prompt.messages import PromptMessage

LATEST = 400  # messages; older ones would not fit a model's context
# A failed run's partial reply does not help the model.
WORTH_KEEPING = (Run.Status.COMPLETED, Run.Status.CANCELLED)


def history(run: Run) -> list[PromptMessage]:
    """Return the system message, and each question up to this run's with its latest reply.

    A completed reply takes precedence over the partial text of a cancelled one. Messages that a
    client brought along, which no run has written, are in it too.
    """
    messages = run.conversation.messages
    system = messages.filter(role=Message.Role.SYSTEM)
    turns = [
        PromptMessage("system", content) for content in system.values_list("content", flat=True)
    ]
    questions = messages.filter(role=Message.Role.USER, turn__lte=run.message.turn)
    asked = dict(questions.order_by("-turn").values_list("turn", "content")[:LATEST])
    replied = _replies(run)
    for turn in sorted(asked.keys() | replied.keys()):
        if turn in asked:
            turns.append(PromptMessage("user", asked[turn]))
        turns += (PromptMessage("assistant", content) for content in replied.get(turn, ()))
    return turns


def _replies(run: Run) -> dict[int, list[str]]:
    """The replies of each earlier turn: the latest run's, or those that a client brought along."""
    earlier = run.conversation.messages.filter(
        Q(written_by__status__in=WORTH_KEEPING) | Q(written_by=None),
        role=Message.Role.ASSISTANT,
        turn__lt=run.message.turn,
    )
    latest = earlier.order_by("-turn", "-created_at", "-id").values_list(
        "turn", "written_by__status", "content"
    )
    brought: dict[int, list[str]] = {}
    written: dict[int, tuple[str, str]] = {}
    for turn, status, content in latest[:LATEST]:
        if status is None:
            brought.setdefault(turn, []).insert(0, content)
            continue
        kept, _ = written.setdefault(turn, (status, content))
        if status == Run.Status.COMPLETED and kept != status:
            written[turn] = status, content
    return brought | {turn: [content] for turn, (_, content) in written.items()}
