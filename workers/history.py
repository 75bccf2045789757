"""What the model is told of a conversation, before it is made to fit."""

from streams.models import Message, Run
from workers.prompt import Turn

LATEST = 400  # messages; what is older fits no model's context anyway
WORTH_KEEPING = (Run.Status.COMPLETED, Run.Status.CANCELLED)  # half of a failed reply is not


def history(run: Run) -> list[Turn]:
    """The system message, and each question up to this run's, with its latest reply.

    A completed reply counts before the kept part of a cancelled one.
    """
    messages = run.conversation.messages
    system = messages.filter(role=Message.Role.SYSTEM)
    questions = messages.filter(role=Message.Role.USER, turn__lte=run.message.turn)
    replies: dict[int, Message] = {}
    written = messages.filter(turn__lt=run.message.turn, written_by__status__in=WORTH_KEEPING)
    for reply in written.select_related("written_by").order_by("-turn", "-created_at")[:LATEST]:
        kept = replies.setdefault(reply.turn, reply)
        if _completed(reply) and not _completed(kept):
            replies[reply.turn] = reply
    turns = [Turn("system", message.content) for message in system]
    for question in reversed(questions.order_by("-turn")[:LATEST]):
        turns.append(Turn("user", question.content))
        if question.turn in replies:
            turns.append(Turn("assistant", replies[question.turn].content))
    return turns


def _completed(reply: Message) -> bool:
    return reply.written_by.status == Run.Status.COMPLETED
