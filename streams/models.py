"""The database models: conversations, their messages, and the runs that write the replies.

The database is the source of truth; the log only delivers. Runs wait in their table, and a Celery
task only names one of them. All times are the database's, so that machines cannot disagree. A
transaction writes a conversation's row before its runs' rows. Otherwise two could deadlock.
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from streams import service_models as service_models  # Django finds an app's models by this module
from streams.compiled_query import CompiledUpdate, Parameter
from streams.protocol.events import Usage
from streams.stored_json import JsonDecoder


class Conversation(models.Model):
    """A conversation between one owner and the model."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.CharField(max_length=64, help_text="user:<id>, or visitor:<uuid>")
    title = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    # Its name in another client's wire. A name is free again once its conversation is deleted.
    dialect = models.CharField(max_length=20, blank=True, editable=False)
    client_id = models.CharField(max_length=200, null=True, editable=False)  # noqa: DJ001
    hidden = models.BooleanField(default=False, editable=False, help_text="left out of lists")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    head = models.BigIntegerField(default=0, editable=False)  # the highest id known to be appended
    # When the title was changed; null once the change is published.
    title_pending_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "dialect", "client_id"], name="one_conversation_per_client_id"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["owner", "-created_at", "-id"], name="owner_newest"),
            models.Index(fields=["title_pending_since"], name="pending_titles"),
            models.Index(fields=["created_at"], name="hidden_by_age", condition=Q(hidden=True)),
        ]

    def __str__(self) -> str:
        return self.title

    def advance_head(self, id: int) -> None:
        """Record that event `id` was appended. A log whose head is lower has lost events."""
        ADVANCE_HEAD.run(conversation=self.pk, head=id)
        self.head = max(self.head, id)


HEAD = Parameter("head", models.BigIntegerField())
ADVANCE_HEAD = CompiledUpdate(
    lambda: Conversation.objects.filter(
        pk=Parameter("conversation", models.UUIDField()), head__lt=HEAD
    ),
    lambda: {"head": HEAD},
)


class DeletedConversation(models.Model):
    """A deleted conversation whose log is not deleted yet."""

    conversation = models.UUIDField(primary_key=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return str(self.conversation)


class Message(models.Model):
    """One message. `turn` orders a conversation; a reply has the turn of the message it answers."""

    class Role(models.TextChoices):
        SYSTEM = "system"
        USER = "user"
        ASSISTANT = "assistant"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    role = models.CharField(max_length=9, choices=Role)
    content = models.TextField()
    parts = models.JSONField(
        null=True,
        editable=False,
        decoder=JsonDecoder,
        help_text="the parts of a reply; null if it is text alone",
    )
    client_id = models.CharField(  # noqa: DJ001
        max_length=200, null=True, editable=False, help_text="another client's name for it"
    )
    turn = models.PositiveIntegerField(editable=False)
    reply_to = models.ForeignKey(
        "self", models.CASCADE, null=True, blank=True, related_name="replies"
    )
    event = models.BigIntegerField(null=True, editable=False)  # message.created, or the final event
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["turn", "created_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["conversation", "turn"],
                condition=Q(role="user"),
                name="one_question_per_turn",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["conversation", "turn", "created_at", "id"], name="turns")
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"


UNPUBLISHED = Q(ended_event_id__isnull=True)  # runs whose final event is not published yet


class Run(models.Model):
    """One reply in progress or ended: its state, its lease, its events and its outcome."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        COMPLETED = "completed"
        CANCELLED = "cancelled"
        FAILED = "failed"

    ACTIVE: ClassVar = (Status.QUEUED, Status.RUNNING)
    UNFINISHED: ClassVar = (Status.CANCELLED, Status.FAILED)
    # Set by a claim, and not stored: whether the previous attempt was abandoned, and whether an
    # event of the conversation that must precede this run's start may be unpublished.
    abandoned = False
    follows_unpublished = True

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="runs")
    owner = models.CharField(max_length=64, editable=False)
    message = models.ForeignKey(Message, models.CASCADE, related_name="runs")
    reply = models.OneToOneField(
        Message, models.SET_NULL, null=True, blank=True, related_name="written_by"
    )
    model = models.CharField(max_length=200, help_text="the name of a model or an agent")
    metadata = models.JSONField(
        null=True, blank=True, decoder=JsonDecoder, help_text="the request's, for the agent"
    )
    client_id = models.CharField(  # noqa: DJ001
        max_length=200, null=True, editable=False, help_text="another client's name for it"
    )
    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)

    # The claim and its lease. The attempt is also the fence that the log checks.
    attempt = models.PositiveIntegerField(default=0)
    uncounted_attempts = models.PositiveIntegerField(
        default=0, help_text="attempts that do not count"
    )
    worker = models.UUIDField(null=True, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    lease_length = models.DurationField(null=True, editable=False)
    dispatched_at = models.DateTimeField(null=True, blank=True, editable=False)
    cancel_asked = models.BooleanField(default=False)
    called_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="when it first called a tool that must not be called twice: it never begins anew",
    )

    # The request whose disconnect ends the run, and the time of that disconnect. Both are null for
    # a run that no disconnect ends.
    reader = models.UUIDField(null=True, editable=False)
    reader_left_at = models.DateTimeField(null=True, editable=False)

    # The ids of the appended events, so that any process can publish the missing ones.
    queued_event_id = models.BigIntegerField(null=True, editable=False)
    started_event_id = models.BigIntegerField(null=True, editable=False)  # of the current attempt
    ended_event_id = models.BigIntegerField(null=True, editable=False)

    # The outcome.
    finish_reason = models.CharField(max_length=40, blank=True)
    code = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    total_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True, editable=False)
    first_token_at = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering: ClassVar = ["message__turn", "created_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["conversation"], condition=Q(status="running"), name="one_running_run"
            ),
            models.UniqueConstraint(
                fields=["conversation", "client_id"],
                condition=Q(client_id__isnull=False),
                name="one_run_per_client_id",
            ),
        ]
        # Only active runs, and ended runs that are unpublished, have no final event. Most queries
        # look for these few. (SQLite cannot match an index condition on a status parameter.)
        indexes: ClassVar = [
            # With the status, SQLite prefers this index to `owner_latest_runs`, which is larger.
            models.Index(
                fields=["owner", "status"], name="owner_active_runs", condition=UNPUBLISHED
            ),
            models.Index(fields=["conversation"], name="unpublished_runs", condition=UNPUBLISHED),
            models.Index(fields=["owner", "created_at"], name="owner_latest_runs"),
            models.Index(fields=["worker"], name="worker_runs"),
            models.Index(
                fields=["status", "created_at"], name="waiting_runs", condition=UNPUBLISHED
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"

    @classmethod
    def active(cls) -> models.QuerySet[Run]:
        """The runs that are queued or running."""
        return cls.objects.filter(UNPUBLISHED, status__in=cls.ACTIVE)

    @property
    def is_active(self) -> bool:
        """Whether the run is queued or running."""
        return self.status in self.ACTIVE

    @property
    def usage(self) -> Usage:
        """The tokens that the reply used."""
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            total_tokens=self.total_tokens,
            estimated=self.estimated,
        )
