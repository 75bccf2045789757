"""The ZeroMQ socket on which the bridge publishes items and receives Pushpins' subscriptions.

It is an XPUB socket, to which any number of Pushpins connect. It never waits for a Pushpin, but
drops items beyond the high water mark. Pushpin detects the gap by the next item's `prev-id`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic

import zmq
from zmq.utils.monitor import recv_monitor_message

logger = logging.getLogger(__name__)
HIGH_WATER_MARK = 100_000  # items queued for one slow Pushpin: some 30 MB
HEARTBEAT_MS = 2000  # ms between ZeroMQ heartbeats; after three without reply, a Pushpin is gone
RESUME_WINDOW = 2.0  # seconds after a (re)connect in which a Pushpin repeats its subscriptions

Item = Mapping[bytes, "bytes | Item"]
# Arguments: the channel, whether it is wanted, whether a Pushpin connected just before.
SubscriptionCallback = Callable[[str, bool, bool], None]


class ZmqPublisher:
    """Bound to `address`. Calls `callback` when a Pushpin begins or ceases to want a channel."""

    def __init__(self, address: str, callback: SubscriptionCallback) -> None:
        self._asked = callback
        self._connected_at = 0.0  # when a Pushpin last connected
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        for option, value in {
            zmq.LINGER: 0,
            zmq.SNDHWM: HIGH_WATER_MARK,
            zmq.XPUB_VERBOSE: 1,  # report repeats: a second Pushpin, or the same one reconnected
            zmq.HEARTBEAT_IVL: HEARTBEAT_MS,
            zmq.HEARTBEAT_TIMEOUT: 3 * HEARTBEAT_MS,
        }.items():
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.bind(address)

    def open(self) -> None:
        """Receive subscriptions from now on, in the running event loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.FD, self.receive)
        loop.add_reader(self._monitor.FD, self._receive_handshakes)
        self.receive()

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for socket in (self._socket, self._monitor):
            loop.remove_reader(socket.FD)
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    def publish(
        self, channel: str, form: Item, *, id: str | None = None, after: str | None = None
    ) -> None:
        """Publish an item on the channel; `after` is the id of the item before it.

        A Pushpin drops an item whose id it has had on this channel within the last minute.
        """
        item: dict[bytes, bytes | Item] = {b"formats": {b"http-stream": form}}
        if id is not None:
            item[b"id"] = id.encode()
        if after is not None:
            item[b"prev-id"] = after.encode()
        self._socket.send_multipart([channel.encode(), b"T" + tnetstring(item)], zmq.NOBLOCK)
        self.receive()  # sending may have consumed the readiness signal of a subscription

    def receive(self) -> None:
        """Read all waiting subscriptions and call the callback for each. Never blocks."""
        self._receive_handshakes()
        while has_more(self._socket):
            message: bytes = self._socket.recv(zmq.NOBLOCK)
            resumed = monotonic() - self._connected_at < RESUME_WINDOW
            self._asked(message[1:].decode(errors="replace"), message.startswith(b"\x01"), resumed)

    def _receive_handshakes(self) -> None:
        while has_more(self._monitor):
            recv_monitor_message(self._monitor, zmq.NOBLOCK)
            self._connected_at = monotonic()
            logger.info("a Pushpin connected")


def has_more(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message waits on the socket."""
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


def tnetstring(value: "bytes | Item") -> bytes:
    """The tnetstring (tnetstrings.info) of byte strings and dictionaries, as Pushpin reads it."""
    if isinstance(value, bytes):
        return b"%d:%b," % (len(value), value)
    inside = b"".join(tnetstring(name) + tnetstring(inner) for name, inner in value.items())
    return b"%d:%b}" % (len(inside), inside)
