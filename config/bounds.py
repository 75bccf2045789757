"""Bounds that several processes share."""

HEAD = 16_384  # bytes of a request's head: request line and header fields, cookies included
BACKLOG = 2048  # connections waiting to be accepted, when all readers reconnect at once
