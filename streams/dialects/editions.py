"""Editions of a reply: each attempt begins one, and another one whenever sent text becomes void.

An attempt's text only grows, except if the log was lost and the run ended with less text than a
reader had. A wire whose frames name the attempt shows the next edition like another attempt. The
edition's number is part of a reader's position, so a reader that reconnects keeps it.
"""

from streams.http.disconnect import StreamBroken

EDITIONS = 16  # of one attempt


def edition_of(attempt: int) -> int:
    """The number of the attempt's first edition; 0 before the first attempt."""
    return (attempt - 1) * EDITIONS + 1 if attempt else 0


def attempt_of(edition: int) -> int:
    return (edition - 1) // EDITIONS + 1 if edition else 0


def next_edition(edition: int) -> int:
    """The number of the same attempt's next edition. Raises `StreamBroken` after the last one."""
    if attempt_of(edition + 1) != attempt_of(edition):
        raise StreamBroken
    return edition + 1
