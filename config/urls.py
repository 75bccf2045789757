"""Which address is answered by what."""

from django.urls import include, path

urlpatterns = [path("", include("streams.urls"))]
