"""Ids in their one spelling."""

from contextlib import suppress
from uuid import UUID


class NotCanonical(ValueError):
    """The text is no owner or id in its one spelling: refuse it."""


def parse_uuid(text: str) -> UUID:
    """The UUID of RFC 9562 §4: lower case, with hyphens. Raises `NotCanonical`.

    Python's own `UUID` takes braces, `urn:uuid:`, capitals and hyphens at any place as well.
    """
    with suppress(ValueError):
        parsed = UUID(text)
        if str(parsed) == text:
            return parsed
    raise NotCanonical(text)
