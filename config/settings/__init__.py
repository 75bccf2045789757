"""Django's settings module: everything is in `base`."""

from config.settings.base import *  # noqa: F403
