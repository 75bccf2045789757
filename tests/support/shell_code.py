"""Code for `manage.py shell -c`: what an operator does to users and sessions."""

END_SESSION = (
    "from django.contrib.sessions.models import Session; Session.objects.get(pk='{key}').delete()"
)
REVOKE_TOKENS = (
    "from django.db.models.functions import Now; "
    "from streams.service_models import ApiToken; ApiToken.objects.update(revoked_at=Now())"
)
CREATE_USER_WITH_TOKEN = (
    "from django.contrib.auth import get_user_model; "
    "from streams.access.api_tokens import create_token; "
    "user = get_user_model().objects.create_user('ann'); "
    "print(create_token(user, 'the OpenAI clients', scopes='read write'))"
)
CREATE_USER = (
    "from django.contrib.auth import get_user_model; get_user_model().objects.create_user('ann')"
)
