"""The adapter through which django-eventstream checks who may read a channel."""

from django_eventstream.channelmanager import DefaultChannelManager

from streams.access.authorization import Caller, Refusal, check_readers
from streams.log.channels import conversation_of


class ChannelManager(DefaultChannelManager):  # type: ignore[misc]  # the library has no types
    """Permits a channel's events to a caller with valid proof that owns the conversation."""

    def can_read_channel(self, user: Caller | None, channel: str) -> bool:
        conversation = conversation_of(channel)
        if user is None or conversation is None:
            return False
        reader = (user, conversation)
        return not isinstance(check_readers([reader])[reader], Refusal)
