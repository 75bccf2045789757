"""Keeping conversations: finding one's own, renaming them, and deleting them for good."""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from streams.models import Conversation, Removal
from streams.moments import INSTANT, before
from streams.publish import remove, update
from streams.verdicts import Away, Superseded

PAGE = 50  # conversations
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLACE = "[0-9]{1,16}-[0-9a-f]{32}"  # in a list: microseconds since then, and an id


def newest(
    owner: str, *, after: str = "", search: str = ""
) -> tuple[list[Conversation], str | None]:
    """The owner's conversations, newest first, and their last one's place; None at the end."""
    found = Conversation.objects.filter(owner=owner)
    if search:
        found = found.filter(title__icontains=search)
    if after:
        found = found.filter(_beyond(after))
    page = list(found[: PAGE + 1])
    return page[:PAGE], _place(page[PAGE - 1]) if len(page) > PAGE else None


def rename(conversation: Conversation, title: str) -> None:
    """Give it another title, and tell its readers."""
    Conversation.objects.filter(pk=conversation.pk).update(title=title, retitled_at=Now())
    conversation.title = title
    try:
        update(conversation)
    except (Away, Superseded):
        return  # the sweep will tell them, or it was deleted meanwhile


def delete(conversation: Conversation, among: QuerySet[Conversation] | None = None) -> bool:
    """End its runs, its log and its streams, and forget what was said; tells whether it did.

    It does if the conversation is `among` these, where that is given: nobody can ask in it between
    the look and the deletion. A worker that writes in it loses its run with the row, and its word
    with the log.
    """
    with transaction.atomic():
        Conversation.objects.select_for_update().filter(pk=conversation.pk).first()
        if among is not None and not among.filter(pk=conversation.pk).exists():
            return False
        Conversation.objects.filter(pk=conversation.pk).delete()
        Removal.objects.get_or_create(pk=conversation.pk)
    with suppress(Away):  # nobody may read it any more, and the sweep will
        remove(conversation.id)
    return True


def _place(last: Conversation) -> str:
    since = (last.created_at - EPOCH) // INSTANT
    return f"{since}-{last.id.hex}"


def _beyond(place: str) -> Q:
    since, _, last = place.partition("-")
    return before(EPOCH + int(since) * INSTANT, id__lt=UUID(last))
