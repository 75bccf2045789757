"""The ASGI application of the service: the threads of the app answer every request."""

import gc
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
gc.disable()  # imported objects stay alive: its visits are a fifth of the start
django.setup()

from streams.asgi import wrap  # noqa: E402  # it needs the models

application = wrap()
gc.freeze()
gc.enable()
