"""The event logs as a storage of django-eventstream: the library's `send_event` appends to them."""

from django_eventstream.event import Event
from django_eventstream.storage import EventDoesNotExist, StorageBase

from streams.log.event_log import the_log
from streams.log.values import CursorGap


class EventLogStorage(StorageBase):  # type: ignore[misc]  # the library has no types
    """The storage that EVENTSTREAM_STORAGE_CLASS names."""

    def append_event(self, channel: str, event_type: str, data: str) -> Event:
        """Append an event that belongs to no run. Returns it with its id."""
        id = the_log().channel(channel).append_other(event_type, data)
        return Event(channel, event_type, data, id=id)

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """At most `limit` events after `last_id`. Raises `EventDoesNotExist` on a gap."""
        page = the_log().channel(channel).read_after(last_id, count=limit)
        if isinstance(page, CursorGap):
            raise EventDoesNotExist(f"No such event: {page.reason}", self.get_current_id(channel))
        return [Event(channel, type, data, id=id) for id, type, data in page.entries]

    def get_current_id(self, channel: str) -> int:
        """The log's last id."""
        return the_log().channel(channel).repair()
