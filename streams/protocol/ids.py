"""Parses ids, and accepts only their canonical spelling."""

from contextlib import suppress
from uuid import UUID


class NotCanonical(ValueError):
    """The text is not an owner or id in canonical spelling. Reject it."""


def parse_uuid(text: str) -> UUID:
    """The UUID in the text, spelled as in RFC 9562 §4: lower case, hyphens. Raises `NotCanonical`.

    Python's `UUID` also accepts braces, `urn:uuid:`, capitals and hyphens at any place.
    """
    with suppress(ValueError):
        parsed = UUID(text)
        if str(parsed) == text:
            return parsed
    raise NotCanonical(text)


def uuid_of(text: str) -> UUID | None:
    """As `parse_uuid`; None for any other text."""
    try:
        return parse_uuid(text)
    except NotCanonical:
        return None
