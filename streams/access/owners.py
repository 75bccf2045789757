"""The names of owners: `user:<id>`, `visitor:<uuid>` and `external:<id>`.

Rows, signed tokens and commands contain these names. Each owner has exactly one spelling. Other
spellings are refused, because one user under two spellings would own different rows.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from streams.protocol.ids import NotCanonical, parse_uuid


class OwnerKind(StrEnum):
    """What identifies an owner: a user of this service, a session, or another application."""

    USER = "user"
    VISITOR = "visitor"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Owner:
    """A parsed owner; `str()` returns its only spelling."""

    kind: OwnerKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


USER_ID = re.compile("[1-9][0-9]{0,17}")  # below 2^63, so that every database can look it up
EXTERNAL_ID = re.compile("[A-Za-z0-9._@-]{1,50}")


def parse_owner(text: str) -> Owner:
    """The owner that the text names. Raises `NotCanonical` for any other spelling."""
    kind, _, name = text.partition(":")
    match kind:
        case OwnerKind.USER if USER_ID.fullmatch(name):
            return Owner(OwnerKind.USER, name)
        case OwnerKind.VISITOR:
            return Owner(OwnerKind.VISITOR, str(parse_uuid(name)))
        case OwnerKind.EXTERNAL if EXTERNAL_ID.fullmatch(name):
            return Owner(OwnerKind.EXTERNAL, name)
    raise NotCanonical(text)
