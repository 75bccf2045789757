"""Run a management command and return what it prints."""

from io import StringIO

from django.core.management import call_command


def said(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()
