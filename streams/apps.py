"""The Django app: connects its signal handler once the models are loaded."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class UnspoolConfig(AppConfig):
    name = "streams"
    label = "unspool"

    def ready(self) -> None:
        from streams.access.visitors import on_log_in  # it imports the models

        user_logged_in.connect(on_log_in, dispatch_uid="adoption")
