"""Bounds that several processes share."""

HEAD = 16_384  # bytes of a request's head, cookies included
BACKLOG = 2048  # connections waiting to be accepted, when everybody comes back at once
