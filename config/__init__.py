"""Composition: settings, addresses, processes. Nothing imports it."""

from config.celery import app

__all__ = ["app"]
