"""Where a conversation is heard, and who may hear it."""

import re
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpRequest
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.utils import parse_last_event_id

from streams.authorization import active_users, session_owners, token_owners
from streams.models import Conversation
from streams.owners import parse_uuid

PREFIX = "conversation-"
BEYOND = 2**53  # no id is as high: what a double counts exactly ends here


def channel_of(conversation: UUID) -> str:
    """The name of the conversation's channel."""
    return f"{PREFIX}{conversation}"


def conversation_of(channel: str) -> UUID | None:
    """The conversation that is heard on the channel; None where it is no channel of ours."""
    try:
        return parse_uuid(channel.removeprefix(PREFIX)) if channel.startswith(PREFIX) else None
    except ValueError:
        return None


def cursor_in(named: str, channel: str) -> int:
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
    return int(named) if len(named.lstrip("0")) <= 16 else BEYOND


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who is asking, and what he showed to prove it: a session's key, or a token's id."""

    owner: str
    session: str | None = None
    token: int | None = None


class Channels(ChannelManagerBase):  # type: ignore[misc]  # the library has no types
    """A channel is one conversation's; its owner may read it, for as long as they may come in."""

    def get_channels_for_request(
        self, request: HttpRequest, view_kwargs: dict[str, UUID]
    ) -> set[str]:
        return {channel_of(view_kwargs["conversation"])}

    def can_read_channel(self, user: Caller | None, channel: str) -> bool:
        conversation = conversation_of(channel)
        if user is None or conversation is None:
            return False
        return not refusals({(user, conversation)})

    def is_channel_reliable(self, channel: str) -> bool:
        return True


def refusals(pairs: set[tuple[Caller, UUID]]) -> dict[tuple[Caller, UUID], str]:
    """Who of these callers may not (or no longer) read, and why: `gone` or `forbidden`.

    A fixed number of queries, however many ask.
    """
    admitted = still_in({caller for caller, _ in pairs})
    asked = {conversation for _, conversation in pairs}
    owners = dict(Conversation.objects.filter(pk__in=asked).values_list("id", "owner"))
    return {
        (caller, conversation): "forbidden" if conversation in owners else "gone"
        for caller, conversation in pairs
        if caller not in admitted or owners.get(conversation) != caller.owner
    }


def still_in(callers: set[Caller]) -> set[Caller]:
    """Those who would be let in to read as the same owner if they showed the same proof now."""
    tokens = token_owners({c.token for c in callers if c.token is not None}, scope="read")
    sessions = session_owners({c.session for c in callers if c.session is not None})
    unproven = {c.owner for c in callers if c.token is None and c.session is None}
    users = active_users({owner for owner in unproven if is_user(owner)})

    def owner_now(caller: Caller) -> str | None:
        if caller.token is not None:
            return tokens.get(caller.token)
        if caller.session is not None:
            return sessions.get(caller.session)
        # A pass opened the stream; other applications' users are known to them alone.
        return caller.owner if not is_user(caller.owner) or caller.owner in users else None

    return {caller for caller in callers if owner_now(caller) == caller.owner}


def is_user(owner: str) -> bool:
    return owner.startswith("user:")
