"""What a wire is: the words that another client has for the changes of a run's reply."""

from collections.abc import Hashable, Iterable
from typing import Protocol

from streams.protocol.fold import Reply


class LastFrames(Exception):
    """The wire has no words for the change, but for telling the reader that the stream is void.

    The stream ends after these frames.
    """

    def __init__(self, *frames: bytes) -> None:
        super().__init__(*frames)
        self.frames = frames


class Wire(Protocol):
    """How one reader of a wire is told about a run. One object serves one stream."""

    dialect: str  # one of `streams.conf.DIALECTS`

    @property
    def variant(self) -> Hashable:
        """What its frames for more text depend on, beside `before` and `now`.

        Streams of a run with the same dialect and variant get the same frames for it.
        """
        ...

    def frames(self, before: Reply | None, now: Reply) -> Iterable[bytes]:
        """The frames for a reader that has `before`, so that it has `now`; complete blocks.

        None: a reader that has nothing, not even the frames with which a reply opens. The last
        frames are those for a `now` with an ending. If the wire has no words for the change, raises
        `StreamBroken`, and the reader has to come back; or `LastFrames`.
        """
        ...
