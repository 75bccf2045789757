"""The frames of a WebSocket are the blocks of its stream, wherever the stream is cut in pieces."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from streams.dialects.websocket_frames import event_frames
from streams.protocol.events import ConversationUpdated, TextDelta
from streams.protocol.sse import clean, encode_frame
from streams.protocol.stream_frames import Heartbeat
from tests.support.socket_client import Frame

RUN = UUID(int=1)
ids = st.integers(1, 2**53 - 1)
# What looks like the stream's own syntax, or like a frame's.
hostile = st.sampled_from(
    ["\n\n", "\r\n", "\u2028", "data: ", "\nid: 1", "retry: 5", '"data":', "}"]
)
texts = st.lists(st.text() | hostile, max_size=5).map("".join).map(clean)
deltas = st.builds(
    TextDelta, run=st.just(RUN), attempt=st.just(1), index=st.integers(0, 9), text=texts
)
blocks: st.SearchStrategy[bytes] = st.one_of(
    st.builds(encode_frame, deltas, ids),
    st.builds(encode_frame, st.builds(ConversationUpdated, title=texts, model=texts), ids),
    st.builds(encode_frame, st.builds(Heartbeat, head=ids | st.none())),
)
retries = ids.map(lambda ms: [b"retry: %d\n" % ms]) | st.just([])  # it precedes a block
streams = st.lists(st.tuples(retries, blocks), max_size=6).map(
    lambda pairs: [part for retry, block in pairs for part in (*retry, block)]
)


def frames_of(pieces: list[bytes]) -> list[bytes]:
    """The blocks that the frames of these pieces stand for."""
    return [Frame.of(text).block for piece in pieces for text in event_frames(piece)]


@given(streams)
def test_the_frames_are_the_blocks_for_every_cut(stream: list[bytes]) -> None:
    """A piece is complete blocks, as `Follower.frames` says; a `retry` field may be one alone."""
    expected = [block.rstrip(b"\n") for block in stream]
    for cut in range(len(stream) + 1):
        pieces = [b"".join(stream[:cut]), b"".join(stream[cut:])]
        assert frames_of(pieces) == expected
    assert frames_of(stream) == expected
