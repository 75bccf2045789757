"""The adapter through which django-eventstream checks who may read a channel."""

from uuid import UUID

from django.http import HttpRequest
from django_eventstream.channelmanager import ChannelManagerBase

from streams.access.authorization import Caller, Refusal, check_readers
from streams.log.channels import channel_of, conversation_of


class ChannelManager(ChannelManagerBase):  # type: ignore[misc]  # the library has no types
    """Permits a channel's events to a caller with valid proof that owns the conversation."""

    def get_channels_for_request(
        self, request: HttpRequest, view_kwargs: dict[str, UUID]
    ) -> set[str]:
        return {channel_of(view_kwargs["conversation"])}

    def can_read_channel(self, user: Caller | None, channel: str) -> bool:
        conversation = conversation_of(channel)
        if user is None or conversation is None:
            return False
        reader = (user, conversation)
        return not isinstance(check_readers([reader])[reader], Refusal)

    def is_channel_reliable(self, channel: str) -> bool:
        return True
