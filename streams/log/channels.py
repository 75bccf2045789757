"""Names of channels, and the cursors with which readers resume on them."""

import re
from uuid import UUID

from django_eventstream.utils import parse_last_event_id

from streams.protocol.ids import parse_uuid

PREFIX = "conversation-"
MAX_EVENT_ID = 2**53  # above every event id, because a double is exact for whole numbers up to here


def channel_of(conversation: UUID) -> str:
    """The name of the conversation's channel."""
    return f"{PREFIX}{conversation}"


def conversation_of(channel: str) -> UUID | None:
    """The conversation whose events the channel carries; None for any other channel."""
    try:
        return parse_uuid(channel.removeprefix(PREFIX)) if channel.startswith(PREFIX) else None
    except ValueError:
        return None


def parse_cursor(cursor: str, channel: str) -> int:
    """The event id in a reader's cursor: `<n>`, or django-eventstream's `<channel>:<n>`.

    An id that is too large becomes `MAX_EVENT_ID`. Raises `ValueError` if the cursor has a
    different form, or names a different channel.
    """
    if ":" in cursor:
        try:
            cursor = parse_last_event_id(cursor)[channel]
        except KeyError:
            raise ValueError(cursor) from None
    if not re.fullmatch("[0-9]+", cursor):
        raise ValueError(cursor)
    return int(cursor) if len(cursor.lstrip("0")) <= 16 else MAX_EVENT_ID
