"""Keeping conversations: finding one's own, renaming them, and deleting them for good."""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from streams.chat.pagination import RESOLUTION, created_before
from streams.chat.publisher import publish_deletion, publish_title
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Conversation, DeletedConversation

PAGE_SIZE = 50  # conversations
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE_CURSOR = "[0-9]{1,16}-[0-9a-f]{32}"  # in a list: microseconds since then, and an id


def list_newest(
    owner: str, *, after: str = "", search: str = ""
) -> tuple[list[Conversation], str | None]:
    """The owner's conversations, newest first, and their last one's place; None at the end."""
    found = Conversation.objects.filter(owner=owner)
    if search:
        found = found.filter(title__icontains=search)
    if after:
        found = found.filter(_after_cursor(after))
    page = list(found[: PAGE_SIZE + 1])
    return page[:PAGE_SIZE], _page_cursor(page[PAGE_SIZE - 1]) if len(page) > PAGE_SIZE else None


def rename(conversation: Conversation, title: str) -> None:
    """Give it another title, and tell its readers."""
    Conversation.objects.filter(pk=conversation.pk).update(title=title, title_pending_since=Now())
    conversation.title = title
    try:
        publish_title(conversation)
    except (LogUnavailable, Superseded):
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
        DeletedConversation.objects.get_or_create(pk=conversation.pk)
    with suppress(LogUnavailable):  # nobody may read it any more, and the sweep will
        publish_deletion(conversation.id)
    return True


def _page_cursor(last: Conversation) -> str:
    since = (last.created_at - EPOCH) // RESOLUTION
    return f"{since}-{last.id.hex}"


def _after_cursor(place: str) -> Q:
    since, _, last = place.partition("-")
    return created_before(EPOCH + int(since) * RESOLUTION, id__lt=UUID(last))
