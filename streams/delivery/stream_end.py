"""Why the server ends a stream, and the frames with which an SSE stream says so."""

import logging
from enum import StrEnum

from django.conf import settings

from streams.access.authorization import Reader, Refusal, check_readers
from streams.delivery.threads import in_thread
from streams.protocol.sse import encode_frame, retry_field
from streams.protocol.stream_frames import Heartbeat, StreamError

logger = logging.getLogger(__name__)
SPREAD = (500, 5000)  # ms until readers reconnect after a shutdown, minimum and maximum


class StreamEnd(StrEnum):
    """Why the server ends a stream. The reader of a stream that broke off resumes without loss."""

    IDLE = "idle"  # an `until=idle` stream has sent every event, and no run is pending
    FORBIDDEN = "forbidden"  # the reader lost access
    GONE = "gone"  # the conversation was deleted
    TOO_OLD = "too_old"  # open for STREAM_MAX_AGE
    DRAINING = "draining"  # this process shuts down
    STALLED = "stalled"  # the reader did not read for STREAM_WRITE_TIMEOUT


def closing_frames(end: StreamEnd, head: int | None = None, *, retry: bool = True) -> bytes:
    """The last frames of an SSE stream; maybe empty. `head` is the reader's cursor.

    `retry` is False if the stream has just sent a `retry` field, so that it sends no second one.
    """
    match end:
        case StreamEnd.IDLE | StreamEnd.STALLED:
            return b""
        case StreamEnd.GONE:
            return encode_frame(
                StreamError(condition=end, text="This conversation has been deleted.")
            )
        case StreamEnd.FORBIDDEN:
            return encode_frame(StreamError(condition=end, text="You may no longer read this."))
        case StreamEnd.TOO_OLD | StreamEnd.DRAINING:
            wait = SPREAD if end is StreamEnd.DRAINING else settings.STREAM_RETRY
            return (retry_field(*wait) if retry else b"") + encode_frame(Heartbeat(head=head))


async def revoked(readers: set[Reader]) -> dict[Reader, StreamEnd]:
    """The readers that may no longer read, each with the reason for the end of its streams.

    Empty if the check fails, because a permission can only be revoked in the database.
    """
    if not readers:
        return {}
    try:
        checked = await in_thread(lambda: check_readers(readers))
    except Exception:
        logger.exception("checking the permissions of open streams failed")
        return {}
    return {
        reader: StreamEnd(found) for reader, found in checked.items() if isinstance(found, Refusal)
    }
