"""Which bodies are taken: how long each may be and of which shape, known before it is parsed.

Every body of the API is one object whose values are strings. So next to nothing stands outside of
strings, and a body where more does would only be parsed to be refused: a JSON of brackets makes
objects of forty times its size.
"""

import re

from django.conf import settings

ESCAPED = 12  # bytes that a character takes at most: two `\uXXXX` (RFC 8259 §7)
SHORT = 16_384  # bytes of a body without a message
SYNTAX = 1024  # bytes outside of strings
STRIDE = 65_536  # bytes looked at in one call: others run in between

MESSAGES = (  # bodies with long texts in them, and how many
    (re.compile(r"^/api/conversations/?$"), 2),
    (re.compile(r"^/api/conversations/[^/]+/messages/?$"), 1),
)
# As much of a string as there is, up to its closing quote.
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


def max_bytes(path: str) -> int:
    """The bytes that a body may have at this path."""
    texts = next((count for address, count in MESSAGES if address.match(path)), 0)
    size: int = SHORT + texts * settings.MAX_MESSAGE_CHARS * ESCAPED
    most: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return min(size, most)


def is_flat(body: bytes) -> bool:
    """Whether this can be one object of a few strings, if it is JSON at all."""
    outside = place = 0
    while True:
        quote = body.find(b'"', place)
        outside += (len(body) if quote < 0 else quote) - place
        if outside > SYNTAX:
            return False
        if quote < 0:
            return True
        place = _after_string(body, quote + 1)


def _after_string(body: bytes, place: int) -> int:
    while found := _STRING.match(body, place, place + STRIDE):
        if found.end() == place:  # its closing quote, or a backslash that ends the body
            return place + 1
        place = found.end()
    return len(body)
