"""Editions of a reply: each attempt has a first one, and a next one when what was sent is void.

An attempt's text grows, unless the log was lost and the run was ended with less than a reader had.
A wire whose frames name the attempt tells a reader of the next edition as of another attempt. The
number is part of a reader's position, so a reader that comes back keeps it.
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
