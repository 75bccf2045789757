"""The Django admin: operators view all rows, cancel and retry runs, create and revoke API tokens.

Changes to conversations and runs go through the use cases, so that readers receive the events.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest

from streams.access.api_tokens import SCOPES, create_token, digest_of
from streams.chat import ask, conversations, errors, finish, limits
from streams.models import Conversation, Message, Run
from streams.service_models import ApiToken

logger = logging.getLogger(__name__)
PAGE = 50  # rows
REFUSALS: dict[type[Exception], str] = {
    errors.ConversationBusy: "The conversation has an active run.",
    errors.UnknownModel: "The conversation's model or agent is no longer offered.",
    errors.NotLastTurn: "Only the last question of a conversation can be answered again.",
    limits.RateLimited: "The owner has started too many runs within a minute.",
    limits.ActiveRunLimit: "The owner has too many active runs.",
}


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # of several models
    """Read-only rows, newest first."""

    ordering = ("-created_at",)
    list_per_page = PAGE
    show_full_result_count = False  # counting millions of rows would take seconds

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Whether the user may run the actions, which need the permission to change such rows."""
        return request.user.has_perm(f"unspool.change_{self.opts.model_name}")


@admin.register(Conversation)
class Conversations(ReadOnlyAdmin):
    list_display = ("title", "owner", "model", "created_at")
    list_filter = ("model", "created_at")
    search_fields = ("=id", "=owner")
    actions = ("delete_for_good",)

    @admin.action(description="Delete, with all messages", permissions=["act"])
    def delete_for_good(self, request: HttpRequest, chosen: QuerySet[Conversation]) -> None:
        for conversation in chosen:
            conversations.delete(conversation)
            logger.info("conversation %s deleted by staff %s", conversation.pk, request.user.pk)


@admin.register(Message)
class Messages(ReadOnlyAdmin):
    list_display = ("id", "role", "conversation_id", "turn", "created_at")
    list_filter = ("role", "created_at")
    search_fields = ("=id", "=conversation__id", "=conversation__owner")


@admin.register(Run)
class Runs(ReadOnlyAdmin):
    list_display = (
        "id",
        "status",
        "model",
        "owner",
        "attempt",
        "code",
        "total_tokens",
        "created_at",
        "first_token_at",
        "ended_at",
    )
    list_filter = ("status", "model", "code", "created_at")
    search_fields = ("=id", "=conversation__id", "=owner")
    actions = ("cancel", "retry")

    @admin.action(description="Stop", permissions=["act"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Run]) -> None:
        self._each(request, chosen, lambda run: finish.cancel(run.pk))

    @admin.action(description="Answer again", permissions=["act"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Run]) -> None:
        self._each(request, chosen, ask.retry)

    def _each(self, request: HttpRequest, chosen: QuerySet[Run], act: Callable[[Run], Any]) -> None:
        for run in chosen.select_related("conversation", "message"):
            try:
                act(run)
            except tuple(REFUSALS) as error:
                self.message_user(request, f"{run.pk}: {REFUSALS[type(error)]}", messages.WARNING)


class NewToken(forms.ModelForm):  # type: ignore[type-arg]
    """The form for a new token. The secret is not a field, because `create_token` makes it."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        widget=forms.CheckboxSelectMultiple,
        initial=SCOPES,
    )

    class Meta:
        model = ApiToken
        fields: ClassVar = ["user", "name", "scopes", "expires_at"]


@admin.register(ApiToken)
class Tokens(ReadOnlyAdmin):
    form = NewToken
    list_display = (
        "name",
        "user",
        "scopes",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    list_filter = ("revoked_at", "expires_at")
    search_fields = ("name", "user__username")
    autocomplete_fields = ("user",)
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("unspool.add_apitoken")

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        values = form.cleaned_data
        token = create_token(
            values["user"],
            values["name"],
            scopes=" ".join(values["scopes"]),
            expires_at=values["expires_at"],
        )
        obj.pk = ApiToken.objects.get(digest=digest_of(token)).pk
        self.message_user(request, f"Copy it now. It is shown only once: {token}", messages.WARNING)

    @admin.action(description="Revoke", permissions=["act"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiToken]) -> None:
        chosen.filter(revoked_at=None).update(revoked_at=Now())
