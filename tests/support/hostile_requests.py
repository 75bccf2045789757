"""Bodies that are refused. Each has the greatest length that a new conversation may have."""

from __future__ import annotations

LONGEST = 2 * 12 * 200_000  # bytes: a message and a system text of MAX_MESSAGE_CHARS characters
PORTION = LONGEST - 100


def text(piece: bytes) -> bytes:
    """A message that repeats this piece."""
    return b'{"message": "' + piece * (PORTION // len(piece)) + b'"}'


def nested(piece: bytes) -> bytes:
    """A list that repeats this piece, in place of the message."""
    return b'{"message": [' + piece * (PORTION // len(piece)) + b"0]}"


BODIES: dict[str, bytes] = {
    "objects": nested(b"{},"),
    "lists": nested(b"[],"),
    "numbers": nested(b"1.5,"),
    "short strings": nested(b'"",'),
    "depth": nested(b"["),
    "depth of objects": b'{"a":' * (PORTION // 5),
    "fields": b"{" + b'"a":1,' * (PORTION // 6) + b'"a":1}',
    "a long field": b'{"' + b"x" * PORTION + b'": 1}',
    "one number": b'{"message": ' + b"1" * PORTION + b"}",
    "blanks": b'{"message":' + b" " * PORTION + b'"?"}',
    "a long text": text(b"x"),
    "wide letters": text("🙂".encode()),
    "escaped quotes": text(rb"\""),
    "backslashes": text(rb"\\"),
    "NUL": text(rb"\u0000"),
    "halves of pairs": text(rb"\ud83d"),
    "no end": b'{"message": "' + b"x" * PORTION,
    "no JSON": b"x" * PORTION,
    "no UTF-8": text(b"\xff"),
}
