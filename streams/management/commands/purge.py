"""`manage.py purge`: deletes old conversations, expired sessions and old idempotency records."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from streams.chat.conversations import delete
from streams.chat.idempotency import expire
from streams.database_time import from_now
from streams.models import Conversation, Run

BATCH = 100  # conversations per query; each is deleted in its own short transaction
DAY = 24 * 3600  # seconds


class Command(BaseCommand):
    help = "Deletes conversations that had no run for --days. Safe while the service runs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, required=True, help="at least 1")
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, days: int, dry_run: bool, **_: Any) -> None:
        if days < 1:
            raise CommandError("--days is 1 or more.")
        since = from_now(-days * DAY)
        recent = Q(created_at__gte=since) | Q(ended_at__gte=since) | Q(status__in=Run.ACTIVE)
        old = Conversation.objects.filter(created_at__lt=since).exclude(
            pk__in=Run.objects.filter(recent).values("conversation")
        )
        if dry_run:
            self.stdout.write(f"{old.count()} conversations would be deleted.")
            return
        count = 0
        while batch := list(old[:BATCH]):
            for conversation in batch:
                # The conversation may have got a new run since the query, so `delete` checks again.
                count += delete(conversation, among=old)
        call_command("clearsessions")
        self.stdout.write(f"{count} conversations and {expire()} stored answers were deleted.")
