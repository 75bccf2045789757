"""The settings, URLs and processes of the service. No other package imports this one."""

from config import old_database  # noqa: F401  # registers its check in each process
from config.celery import app

__all__ = ["app"]
