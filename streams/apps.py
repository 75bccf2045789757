"""What happens once, when Django has loaded the models."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class StreamsConfig(AppConfig):
    name = "streams"

    def ready(self) -> None:
        from streams.adoption import at_log_in  # it needs the models

        user_logged_in.connect(at_log_in, dispatch_uid="adoption")
