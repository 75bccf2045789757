"""A message's row as the value that readers receive."""

from streams.models import Message
from streams.protocol.events import MessageView
from streams.protocol.parts import text_parts


def message_view(message: Message) -> MessageView:
    """Return the message as readers see it."""
    written = message.role == Message.Role.ASSISTANT and hasattr(message, "written_by")
    return MessageView(
        id=message.id,
        role=message.role,  # type: ignore[arg-type]  # the choices are those of `Role`
        content=message.content,
        parts=text_parts(message.content),
        reply_to=message.reply_to_id,
        run=message.written_by.id if written else None,
        created_at=message.created_at,
    )
