"""The ASGI application of the service, whose own threads answer every request."""

import gc
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
gc.disable()  # imported objects stay alive, and collections would take a fifth of the start
django.setup()

from streams.asgi import wrap  # noqa: E402  # it needs the models

application = wrap()
gc.freeze()
gc.enable()
