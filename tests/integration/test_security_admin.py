"""What staff may look at, and the few things that they may do."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from streams.log.errors import Superseded
from streams.log.event_log import the_log
from streams.models import Conversation, Message, Run
from streams.service_models import ApiToken
from tests.integration.support.api_client import ApiClient, client_with_token

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
ROWS = ("conversation", "message", "run", "apitoken")


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def act(client: Client, rows: str, action: str, *chosen: object) -> str:
    named = {"action": action, "_selected_action": [str(row) for row in chosen]}
    answer = client.post(f"/admin/unspool/{rows}/", named, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("rows", ROWS)
def test_staff_can_view_every_row_and_change_none(staff: Client, rows: str) -> None:
    ApiClient().begin("<script>alert(1)</script>")
    ApiToken.objects.create(user=User.objects.get(), name="job", digest="d")
    models = {"conversation": Conversation, "message": Message, "run": Run, "apitoken": ApiToken}
    row = models[rows].objects.get()
    listed = staff.get(
        f"/admin/unspool/{rows}/?q={row.pk}&created_at__gte=2020-01-01%2000:00%2B00:00"
    )
    assert listed.status_code == 200
    shown = staff.get(f"/admin/unspool/{rows}/{row.pk}/change/").content.decode()
    assert "<script>alert(1)" not in shown
    assert 'name="_save"' not in shown
    for way in ("change", "delete"):
        answer = staff.post(f"/admin/unspool/{rows}/{row.pk}/{way}/", {"post": "yes"})
        assert answer.status_code == 403
    assert models[rows].objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("rows", ROWS)
def test_only_staff_can_view_the_admin(rows: str) -> None:
    for client in (Client(), ApiClient().client):
        assert client.get(f"/admin/unspool/{rows}/").status_code == 302
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    assert client.get(f"/admin/unspool/{rows}/", follow=True).status_code == 403


def test_staff_can_cancel_and_retry_a_run(staff: Client) -> None:
    made = ApiClient().begin()
    act(staff, "run", "cancel", made["run"])
    assert Run.objects.get().status == "cancelled"
    act(staff, "run", "retry", made["run"])
    assert sorted(Run.objects.values_list("status", flat=True)) == ["cancelled", "queued"]
    assert "has an active run" in act(staff, "run", "retry", made["run"])
    assert Run.objects.count() == 2


def test_staff_with_view_permission_only_cannot_act() -> None:
    made = ApiClient().begin()
    looker = User.objects.create_user("looker", is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(looker)
    assert 'value="cancel"' not in client.get("/admin/unspool/run/").content.decode()
    act(client, "run", "cancel", made["run"])
    act(client, "conversation", "delete_for_good", made["conversation"])
    assert Run.objects.get().status == "queued"


def test_a_conversation_is_deleted_with_its_log(staff: Client) -> None:
    made = ApiClient().begin()
    act(staff, "conversation", "delete_for_good", made["conversation"])
    assert not Conversation.objects.exists()
    with pytest.raises(Superseded):
        the_log().channel(f"conversation-{made['conversation']}").repair()


def test_a_token_is_shown_once_and_can_be_revoked(staff: Client) -> None:
    wish = {"user": User.objects.get().pk, "name": "job", "scopes": ["read"]}
    wish |= {"expires_at_0": "", "expires_at_1": ""}
    page = staff.post("/admin/unspool/apitoken/add/", wish, follow=True).content.decode()
    shown = re.search(r"unspool_[\w-]{43}", page)
    assert shown
    kept = ApiToken.objects.get()
    assert (kept.name, kept.scopes) == ("job", "read")
    assert client_with_token(shown[0]).get("/api/conversations/").status_code == 200
    assert shown[0] not in staff.get("/admin/unspool/apitoken/").content.decode()
    act(staff, "apitoken", "revoke", kept.pk)
    assert client_with_token(shown[0]).get("/api/conversations/").status_code == 401
