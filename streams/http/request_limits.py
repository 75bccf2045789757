"""Limits on requests: the length of a head, and the length and shape of a body before parsing.

Every body of the API is one JSON object whose values are strings, and a small `metadata`. So few
bytes are outside of strings. A body with more of them is refused before parsing, because a bracket
becomes a Python object of forty times its size.
"""

import re

from django.conf import settings

HEAD = 16_384  # bytes of a head: request line and header fields, cookies included
ESCAPED = 12  # bytes that a character takes at most: two `\uXXXX` (RFC 8259 §7)
SHORT = 16_384  # bytes allowed for a body without a message
SYNTAX = 1024 + 8192  # bytes allowed outside of strings: `metadata` may hold many small numbers
STRIDE = 65_536  # bytes scanned in one call, so that other threads run in between

OTHER_CLIENTS = r"^/(api/chat|v1/(responses|chat/completions)|ag-ui(/connect)?)/?$"
MESSAGES = (  # the routes whose bodies contain long texts, and how many texts
    (re.compile(r"^/api/conversations/?$"), 2),
    (re.compile(r"^/api/conversations/[^/]+/messages/?$"), 1),
    (re.compile(OTHER_CLIENTS), 2),
    (re.compile(r"^/(threads/[^/]+/)?runs(/stream|/wait)?/?$"), 2),
)
SOCKET = re.compile(r"^/api/conversations/(?P<conversation>[^/?]+)/socket/?(\?|$)")  # WebSockets
# The rest of a string, up to its closing quote or the end of the input.
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


def max_bytes(path: str) -> int:
    """The maximum size in bytes of a body at this path."""
    texts = next((count for address, count in MESSAGES if address.match(path)), 0)
    size: int = SHORT + texts * settings.MAX_MESSAGE_CHARS * ESCAPED
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return min(size, limit)


def max_frame_bytes() -> int:
    """The maximum size in bytes of a WebSocket's message, which may hold one message's body."""
    return max_bytes("/api/conversations/x/messages/")


def is_flat(body: bytes, syntax: int = SYNTAX) -> bool:
    """Whether at most `syntax` bytes are outside of strings. Does not check that it is JSON."""
    outside = position = 0
    while True:
        quote = body.find(b'"', position)
        outside += (len(body) if quote < 0 else quote) - position
        if outside > syntax:
            return False
        if quote < 0:
            return True
        position = _after_string(body, quote + 1)


def _after_string(body: bytes, position: int) -> int:
    """The position after the closing quote of the string that contains `position`."""
    while found := _STRING.match(body, position, position + STRIDE):
        if found.end() == position:  # its closing quote, or a backslash that ends the body
            return position + 1
        position = found.end()
    return len(body)
