"""Frames that no correct client of the WebSocket sends, and the response to each."""

from __future__ import annotations

import json

from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

CHARACTERS = 20_000
MOST = 16_384 + 12 * CHARACTERS  # bytes of a frame


HOSTILE: list[tuple[str | bytes, int, str | None]] = [
    (b"bytes", 415, None),
    ("", 400, None),
    ("no JSON", 400, None),
    ("\ufeff{", 400, None),
    ("[" * 900, 400, None),
    ("[" * 100_000, 422, None),
    ('{"a":' * 1500, 400, None),
    ("null", 422, None),
    ("[]", 422, None),
    ("{}", 422, None),
    ('{"name":1,"type":"message","data":{}}', 422, None),
    ('{"name":"n","type":"answers","data":{}}', 422, "n"),
    ('{"name":"n","type":["message"],"data":{}}', 422, "n"),
    ('{"name":"n","type":"message"}', 422, "n"),
    ('{"name":"n","type":"message","data":[]}', 422, "n"),
    ('{"name":"n","type":"message","data":{"message":"a"},"more":1}', 422, "n"),
    ('{"name":"n","type":"message","data":{"message":NaN}}', 422, "n"),
    ('{"name":"\\ud800","type":"message","data":{}}', 422, "\ufffd"),
    ('{"name":"n","type":"cancel","data":{"run":"../../models"}}', 422, "n"),
    ('{"name":"n","type":"cancel","data":{"run":"x/retry"}}', 422, "n"),
    ('{"name":"n","type":"message","data":{"message":"a"},"idempotency_key":""}', 400, "n"),
    ('{"name":"n","type":"message","data":{"message":"a"},"idempotency_key":"\\ud83d"}', 400, "n"),
    ('{"name":"n","type":"message","data":{"message":"a"},"idempotency_key":"a\\r\\nb"}', 400, "n"),
    (
        json.dumps({"name": "n", "type": "message", "data": {"message": "x" * (CHARACTERS + 1)}}),
        422,
        "n",
    ),
    (json.dumps({"name": "n" * 300, "type": "message", "data": {}}), 422, "n" * 200),
]


def raw(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """The bytes of a frame that the client's library would not send."""
    return WireFrame(opcode, data, fin=fin).serialize(mask=True)


ENDS = {
    "larger than any message": (raw(Opcode.TEXT, b"x" * (MOST + 1)), 1009),
    "not UTF-8": (raw(Opcode.TEXT, b"\xff"), 1007),
    "fragments without end": (
        raw(Opcode.TEXT, b"", fin=False) + raw(Opcode.CONT, b"", fin=False) * 2000,
        1009,
    ),
    "a message without its end": (raw(Opcode.TEXT, b"{", fin=False), 4408),
    "half a frame": (raw(Opcode.TEXT, b"{}")[:-1], 4408),
    "a flood": (raw(Opcode.TEXT, b"{}") * 20_000, 4429),
    "an unknown opcode": (b"\x8b\x80\0\0\0\0", 1002),
    "no mask": (b"\x81\x02{}", 1002),
}
STILL_SENDING = ("a flood", "larger than any message")  # may get a reset before the close
