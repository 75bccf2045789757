"""A message's row as the value that readers receive, and the parts that the row holds."""

from typing import Any

from streams.models import Message
from streams.protocol.events import MessageView
from streams.protocol.parts import Part, TextPart, part_json, part_of, text_parts


def message_view(message: Message) -> MessageView:
    """Return the message as readers see it."""
    written = message.role == Message.Role.ASSISTANT and hasattr(message, "written_by")
    return MessageView(
        id=message.id,
        role=message.role,  # type: ignore[arg-type]  # the choices are those of `Role`
        content=message.content,
        parts=parts_of(message),
        reply_to=message.reply_to_id,
        run=message.written_by.id if written else None,
        created_at=message.created_at,
    )


def parts_of(message: Message | None) -> tuple[Part, ...]:
    """Return the message's parts; empty if the message is None. Text alone is one part."""
    if message is None:
        return ()
    if message.parts is None:
        return text_parts(message.content)
    return tuple(map(part_of, message.parts))


def stored_parts(parts: tuple[Part, ...]) -> list[dict[str, Any]] | None:
    """Return the value for `Message.parts`; None for text alone, because `content` holds it."""
    if all(isinstance(part, TextPart) for part in parts):
        return None
    return [part_json(part) for part in parts]
