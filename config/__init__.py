"""What composes the service: settings, URLs, processes. No other package imports it."""

from config import old_database  # noqa: F401  # registers its check in each process
from config.celery import app

__all__ = ["app"]
