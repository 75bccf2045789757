"""Owners as rows, tokens and commands name them: `user:<id>`, `visitor:<uuid>`, `external:<id>`.

Each owner has one spelling. Any other spelling is refused, because two spellings of one user
would be let in as the same user and own different rows.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from streams.protocol.ids import NotCanonical, parse_uuid


class OwnerKind(StrEnum):
    """Who an owner is known by: this service, a session, or another application."""

    USER = "user"
    VISITOR = "visitor"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner in its one spelling; `str()` gives it back."""

    kind: OwnerKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


USER_ID = re.compile("[1-9][0-9]{0,17}")  # below 2^63, so that every database can look it up
EXTERNAL_ID = re.compile("[A-Za-z0-9._@-]{1,50}")


def parse_owner(text: str) -> Owner:
    """The owner that the text names. Raises `NotCanonical`."""
    kind, _, name = text.partition(":")
    match kind:
        case OwnerKind.USER if USER_ID.fullmatch(name):
            return Owner(OwnerKind.USER, name)
        case OwnerKind.VISITOR:
            return Owner(OwnerKind.VISITOR, str(parse_uuid(name)))
        case OwnerKind.EXTERNAL if EXTERNAL_ID.fullmatch(name):
            return Owner(OwnerKind.EXTERNAL, name)
    raise NotCanonical(text)
