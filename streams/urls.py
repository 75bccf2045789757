"""The addresses of the streams room."""

from django.urls import include, path, re_path

from streams import accounts, page
from streams.api import addresses
from streams.api.front import nowhere
from streams.grip import go_on
from streams.health import live, metrics, ready
from streams.stream import events

api = [
    path("conversations/<uuid:conversation>/events/", events, name="events"),
    path("streams/next/", go_on, name="next"),
    re_path("^$", nowhere),
    *addresses(),
    re_path("", nowhere),
]
urlpatterns = [
    path("api/", include((api, "api"))),
    path("accounts/", include(accounts)),
    path("health/live", live),
    path("health/ready", ready),
    path("metrics", metrics),
    *page.urlpatterns,
]
