"""The URL routes of the app: the API, accounts, health checks, metrics and the page."""

from django.conf import settings
from django.urls import include, path, re_path

from streams.api import addresses
from streams.api import api as own_api
from streams.api.events import events
from streams.api.routing import not_found_view
from streams.dialects.ag_ui_api import api as ag_ui
from streams.dialects.ai_sdk_api import api as ai_sdk
from streams.dialects.chat_completions_api import api as chat_completions
from streams.dialects.http import DialectApi
from streams.dialects.langgraph_api import api as langgraph
from streams.dialects.openai_http import models_api as openai_models
from streams.dialects.responses_api import api as responses
from streams.dialects.websocket_api import socket
from streams.pushpin.views import next_link
from streams.web import accounts, page
from streams.web.health import live, metrics, ready

# Each API, with the names in the setting DIALECTS that serve it.
DIALECTS = [
    (ai_sdk, {"ai-sdk"}),
    (openai_models, {"chat-completions", "responses"}),
    (chat_completions, {"chat-completions"}),
    (responses, {"responses"}),
    (ag_ui, {"ag-ui"}),
    (langgraph, {"langgraph"}),
]


def served(names: list[str]) -> list[DialectApi]:
    """Return the APIs that these names in the setting DIALECTS serve."""
    return [api for api, by_names in DIALECTS if by_names & set(names)]


dialects = served(settings.DIALECTS)
sockets = [path("conversations/<uuid:conversation>/socket/", socket, name="socket")]
if "websocket" not in settings.DIALECTS:
    sockets = []
for dialect in dialects:
    own_api.document_also(dialect, dialect.prefix)

api = [
    *(url for one in dialects if one.prefix == "/api/" for url in one.addresses()),
    path("conversations/<uuid:conversation>/events/", events, name="events"),
    *sockets,
    path("streams/next/", next_link, name="next"),
    path("streams/next/<str:name>/", next_link, name="next-page"),
    re_path("^$", not_found_view),
    *addresses(),
    re_path("", not_found_view),
]
v1 = [url for one in dialects if one.prefix == "/v1/" for url in one.addresses()]
root = [url for one in dialects if one.prefix == "/" for url in one.addresses()]
if ag_ui in dialects:
    root.append(re_path("^ag-ui/", not_found_view))
if langgraph in dialects:
    root.append(re_path("^(?:threads|runs)(?:/|$)", not_found_view))
urlpatterns = [
    path("api/", include((api, "unspool"))),
    *root,
    *([path("v1/", include(v1)), re_path("^v1(?:/|$)", not_found_view)] if v1 else []),
    path("accounts/", include(accounts)),
    path("health/live", live),
    path("health/ready", ready),
    path("metrics", metrics),
    *page.urlpatterns,
]
