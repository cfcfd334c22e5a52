"""The entry for `INSTALLED_APPS`: it brings the system checks, and the command `clearsessions`."""

from django.apps import AppConfig  # type: ignore[import-untyped]
from django.core.checks import Tags, register  # type: ignore[import-untyped]

__all__ = ["CoatcheckConfig"]


class CoatcheckConfig(AppConfig):  # type: ignore[misc]
    """`"coatcheck.web.django"`."""

    name = "coatcheck.web.django"
    label = "coatcheck"
    verbose_name = "Sessions"

    def ready(self) -> None:
        from coatcheck.web.django import checks

        register(checks.check_settings, Tags.security)
        register(checks.check_processes, Tags.security, deploy=True)
