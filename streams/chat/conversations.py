"""Use cases for an owner's conversations: to list, rename and permanently delete them."""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from streams.chat.pagination import RESOLUTION, created_before
from streams.chat.publisher import publish_deletion, publish_title
from streams.database_time import from_now
from streams.log.errors import LogUnavailable, Superseded
from streams.models import Conversation, DeletedConversation, Run

PAGE_SIZE = 50  # conversations
AT_ONCE = 100  # conversations that one pass of the sweep deletes
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE_CURSOR = "[0-9]{1,16}-[0-9a-f]{32}"  # microseconds since EPOCH, and a conversation's id


def list_newest(
    owner: str, *, after: str = "", search: str = ""
) -> tuple[list[Conversation], str | None]:
    """Return one page of the owner's conversations, newest first, and the next page's cursor.

    The cursor is None on the last page.
    """
    found = Conversation.objects.filter(owner=owner, hidden=False)
    if search:
        found = found.filter(title__icontains=search)
    if after:
        found = found.filter(_after_cursor(after))
    page = list(found[: PAGE_SIZE + 1])
    return page[:PAGE_SIZE], _page_cursor(page[PAGE_SIZE - 1]) if len(page) > PAGE_SIZE else None


def rename(conversation: Conversation, title: str) -> None:
    """Change the title and publish it. If the log is not available, the sweep publishes it."""
    Conversation.objects.filter(pk=conversation.pk).update(title=title, title_pending_since=Now())
    conversation.title = title
    try:
        publish_title(conversation)
    except (LogUnavailable, Superseded):
        return  # the sweep publishes it, or the conversation was deleted meanwhile


def delete(conversation: Conversation, among: QuerySet[Conversation] | None = None) -> bool:
    """Delete the conversation with its messages, runs and log; its streams end.

    With `among`, delete it only if it is in that queryset, otherwise return False. The check holds
    the row's lock, so no request adds a run between check and deletion. If a worker is writing a
    reply, its run's row is deleted, and the log refuses its appends.
    """
    with transaction.atomic():
        Conversation.objects.select_for_update().filter(pk=conversation.pk).first()
        if among is not None and not among.filter(pk=conversation.pk).exists():
            return False
        Conversation.objects.filter(pk=conversation.pk).delete()
        DeletedConversation.objects.get_or_create(pk=conversation.pk)
    with suppress(LogUnavailable):  # no reader has access any more; the sweep deletes the log
        publish_deletion(conversation.id)
    return True


def delete_expired() -> None:
    """Delete hidden conversations whose runs ended LOG_TTL ago, because no client knows them."""
    recent = Run.objects.filter(Q(ended_at=None) | Q(ended_at__gt=from_now(-settings.LOG_TTL)))
    expired = Conversation.objects.filter(
        ~Exists(recent.filter(conversation=OuterRef("pk"))),
        hidden=True,
        created_at__lt=from_now(-settings.LOG_TTL),
    )
    for conversation in expired.order_by("created_at")[:AT_ONCE]:
        delete(conversation, among=expired)


def _page_cursor(last: Conversation) -> str:
    since = (last.created_at - EPOCH) // RESOLUTION
    return f"{since}-{last.id.hex}"


def _after_cursor(cursor: str) -> Q:
    since, _, last = cursor.partition("-")
    return created_before(EPOCH + int(since) * RESOLUTION, id__lt=UUID(last))
