"""The addresses of the streams room."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
