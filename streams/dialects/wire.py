"""A wire: the frames that tell another client about the changes of a run's reply."""

from collections.abc import Hashable, Iterable
from typing import Protocol

from streams.protocol.fold import Reply


class LastFrames(Exception):
    """The wire cannot express the change. It can only tell the reader that the stream is void.

    Send these frames, then end the stream.
    """

    def __init__(self, *frames: bytes) -> None:
        super().__init__(*frames)
        self.frames = frames


class Wire(Protocol):
    """Makes the frames that tell one reader about a run. One object serves one stream."""

    dialect: str  # one of `streams.conf.DIALECTS`

    @property
    def variant(self) -> Hashable:
        """The values, beside `before` and `now`, on which the frames for more text depend.

        Streams of a run with the same dialect and variant share these frames.
        """
        ...

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames that bring a reader from `before` to `now`, in complete blocks.

        `before` is None if the reader has nothing, not even the opening frames of a reply. If `now`
        has an ending, these are the last frames. If the wire cannot express the change, it raises
        `StreamBroken`, so that the reader must reconnect, or `LastFrames`.
        """
        ...
