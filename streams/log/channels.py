"""Where a conversation is heard, and who may hear it."""

import re
from uuid import UUID

from django_eventstream.utils import parse_last_event_id

from streams.protocol.ids import parse_uuid

PREFIX = "conversation-"
MAX_EVENT_ID = 2**53  # no id is as high: what a double counts exactly ends here


def channel_of(conversation: UUID) -> str:
    """The name of the conversation's channel."""
    return f"{PREFIX}{conversation}"


def conversation_of(channel: str) -> UUID | None:
    """The conversation that is heard on the channel; None where it is no channel of ours."""
    try:
        return parse_uuid(channel.removeprefix(PREFIX)) if channel.startswith(PREFIX) else None
    except ValueError:
        return None


def parse_cursor(named: str, channel: str) -> int:
    """The event id that a reader names: `<n>`, or the library's `<channel>:<n>`.

    Raises `ValueError` where it is neither, or another channel's.
    """
    if ":" in named:
        try:
            named = parse_last_event_id(named)[channel]
        except KeyError:
            raise ValueError(named) from None
    if not re.fullmatch("[0-9]+", named):
        raise ValueError(named)
    return int(named) if len(named.lstrip("0")) <= 16 else MAX_EVENT_ID
