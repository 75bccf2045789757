"""Where Pushpins hang on: a socket that learns from their subscriptions what they want to hear.

An XPUB socket of ZeroMQ, to which Pushpins connect, however many. It never waits for one of them:
what a Pushpin cannot take is dropped, and found missing by its readers' places (`prev-id`).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic

import zmq
from zmq.utils.monitor import recv_monitor_message

logger = logging.getLogger(__name__)
HIGH_WATER_MARK = 100_000  # items kept for one Pushpin that does not take them: some 30 MB
HEARTBEAT_MS = 2000  # ms between signs of life, without three of which a Pushpin counts as gone
RESUMING = 2.0  # seconds after a Pushpin has come (back) in which it says what it wants already

Item = Mapping[bytes, "bytes | Item"]
Asked = Callable[[str, bool, bool], None]  # a channel, whether it is wanted, and was already


class ZmqPublisher:
    """Bound to `address`; `asked` is called as Pushpins begin and cease to want a channel."""

    def __init__(self, address: str, asked: Asked) -> None:
        self._asked = asked
        self._joined = 0.0  # when a Pushpin last came
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        for option, value in {
            zmq.LINGER: 0,
            zmq.SNDHWM: HIGH_WATER_MARK,
            zmq.XPUB_VERBOSE: 1,  # a second Pushpin's wish, too, and the same one's after a break
            zmq.HEARTBEAT_IVL: HEARTBEAT_MS,
            zmq.HEARTBEAT_TIMEOUT: 3 * HEARTBEAT_MS,
        }.items():
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.bind(address)

    def open(self) -> None:
        """Hear Pushpins from now on, in the running loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.FD, self.receive)
        loop.add_reader(self._monitor.FD, self._welcome)
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
        """Hand an item to whoever wants the channel; `after` is its predecessor's id.

        A Pushpin drops an id that it has had on this channel within the last minute.
        """
        item: dict[bytes, bytes | Item] = {b"formats": {b"http-stream": form}}
        if id is not None:
            item[b"id"] = id.encode()
        if after is not None:
            item[b"prev-id"] = after.encode()
        self._socket.send_multipart([channel.encode(), b"T" + tnetstring(item)], zmq.NOBLOCK)
        self.receive()  # sending may have eaten the signal that somebody asks

    def receive(self) -> None:
        self._welcome()
        while has_more(self._socket):
            asked: bytes = self._socket.recv(zmq.NOBLOCK)
            again = monotonic() - self._joined < RESUMING
            self._asked(asked[1:].decode(errors="replace"), asked.startswith(b"\x01"), again)

    def _welcome(self) -> None:
        while has_more(self._monitor):
            recv_monitor_message(self._monitor, zmq.NOBLOCK)
            self._joined = monotonic()
            logger.info("a Pushpin has come")


def has_more(socket: "zmq.Socket[bytes]") -> bool:
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


def tnetstring(value: "bytes | Item") -> bytes:
    """Of words and dictionaries, as Pushpin's sockets take them (tnetstrings.info)."""
    if isinstance(value, bytes):
        return b"%d:%b," % (len(value), value)
    inside = b"".join(tnetstring(name) + tnetstring(inner) for name, inner in value.items())
    return b"%d:%b}" % (len(inside), inside)
