"""`manage.py clearsessions`, also where django.contrib.sessions is no app."""

from django.contrib.sessions.management.commands.clearsessions import (  # type: ignore[import-untyped]
    Command,
)

__all__ = ["Command"]
