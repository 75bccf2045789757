"""The ASGI application of the service: the threads of the app answer every request."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from streams.asgi import wrap  # noqa: E402  # it needs the models

application = wrap()
