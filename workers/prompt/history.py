"""The turns of a conversation that go into a run's prompt, before the budget cuts them."""

from streams.models import Message, Run
from workers.prompt.messages import PromptMessage

LATEST = 400  # messages; older ones would not fit a model's context
# A failed run's partial reply does not help the model.
WORTH_KEEPING = (Run.Status.COMPLETED, Run.Status.CANCELLED)


def history(run: Run) -> list[PromptMessage]:
    """Return the system message, and each question up to this run's with its latest reply.

    A completed reply takes precedence over the partial text of a cancelled one.
    """
    messages = run.conversation.messages
    system = messages.filter(role=Message.Role.SYSTEM)
    questions = messages.filter(role=Message.Role.USER, turn__lte=run.message.turn)
    written = messages.filter(turn__lt=run.message.turn, written_by__status__in=WORTH_KEEPING)
    latest = written.order_by("-turn", "-created_at").values_list(
        "turn", "written_by__status", "content"
    )
    replies: dict[int, tuple[str, str]] = {}
    for turn, status, content in latest[:LATEST]:
        kept, _ = replies.setdefault(turn, (status, content))
        if status == Run.Status.COMPLETED and kept != status:
            replies[turn] = status, content
    turns = [
        PromptMessage("system", content) for content in system.values_list("content", flat=True)
    ]
    rows = questions.order_by("-turn").values_list("turn", "content")
    for turn, content in reversed(rows[:LATEST]):
        turns.append(PromptMessage("user", content))
        if turn in replies:
            turns.append(PromptMessage("assistant", replies[turn][1]))
    return turns
