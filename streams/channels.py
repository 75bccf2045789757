"""Where a conversation is heard, and who may hear it."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django_eventstream.channelmanager import ChannelManagerBase
from django_eventstream.utils import parse_last_event_id

from streams.models import Conversation, Token

PREFIX = "conversation-"
BEYOND = 2**53  # no id is as high: what a double counts exactly ends here


def channel_of(conversation: UUID) -> str:
    """The name of the conversation's channel."""
    return f"{PREFIX}{conversation}"


def conversation_of(channel: str) -> UUID | None:
    """The conversation that is heard on the channel; None where it is no channel of ours."""
    try:
        return UUID(channel.removeprefix(PREFIX)) if channel.startswith(PREFIX) else None
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
    """A channel is one conversation's; its owner may read it, for as long as he may come in."""

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

    Four queries at most, however many ask.
    """
    welcome = still_in({caller for caller, _ in pairs})
    asked = {conversation for _, conversation in pairs}
    owners = dict(Conversation.objects.filter(pk__in=asked).values_list("id", "owner"))
    return {
        (caller, conversation): "forbidden" if conversation in owners else "gone"
        for caller, conversation in pairs
        if caller not in welcome or owners.get(conversation) != caller.owner
    }


def still_in(callers: set[Caller]) -> set[Caller]:
    """Those whose user is active, whose token is good, and whose session goes on."""
    users = {c.owner.removeprefix("user:") for c in callers if is_user(c.owner) and not c.token}
    active = _known(get_user_model().objects.filter(is_active=True), users)
    owners = {f"user:{pk}" for pk in active}
    tokens = _known(good_tokens().filter(user__is_active=True), {c.token for c in callers})
    sessions = _known(Session.objects.filter(expire_date__gt=Now()), {c.session for c in callers})
    return {
        caller
        for caller in callers
        if (caller.token is None or caller.token in tokens)
        and (caller.token or not is_user(caller.owner) or caller.owner in owners)
        and (caller.session is None or caller.session in sessions)
    }


def _known(rows: QuerySet[Any], keys: set[Any]) -> set[Any]:
    """Those of the keys that there is a row of; without any to look for, nobody is asked."""
    keys = keys - {None}
    return set(rows.filter(pk__in=keys).values_list("pk", flat=True)) if keys else set()


def is_user(owner: str) -> bool:
    return owner.startswith("user:")


def good_tokens() -> QuerySet[Token]:
    """Tokens that are neither revoked nor expired."""
    return Token.objects.filter(revoked_at=None).exclude(expires_at__lte=Now())
