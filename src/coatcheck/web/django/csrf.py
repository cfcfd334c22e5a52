"""Django: refuse what other sites make a browser send, by Fetch Metadata and Origin."""

from typing import Any

from django.conf import settings  # type: ignore[import-untyped]
from django.utils.deprecation import MiddlewareMixin  # type: ignore[import-untyped]

from coatcheck.csrf import CrossOriginProtection
from coatcheck.errors import ConfigurationError
from coatcheck.web.django.request import facts
from coatcheck.web.django.responses import refusal

__all__ = ["CSRFMiddleware"]


class CSRFMiddleware(MiddlewareMixin):  # type: ignore[misc]
    """Stands in for Django's `CsrfViewMiddleware`, or before it.

    Views that are `csrf_exempt` are not looked at. Tokens are Django's own: keep its middleware for
    them, and `CSRF_USE_SESSIONS = True` puts their secret into the session.
    """

    protection: CrossOriginProtection | None = None
    """What a subclass works with; by default a rule with the `CSRF_TRUSTED_ORIGINS`."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self._rule = self.protection or _of_settings()
        if self._rule.tokens:
            raise ConfigurationError(
                "CSRFMiddleware: expected a protection without tokens, got tokens=True; Django's "
                "CsrfViewMiddleware has them, in the session by CSRF_USE_SESSIONS = True"
            )

    def process_view(self, request: Any, view: Any, args: Any, options: Any) -> Any:
        """Called when the view is known, and before it runs."""
        if getattr(view, "csrf_exempt", False):
            return None
        refused = self._rule.judge(facts(request))
        return None if refused is None else refusal(refused)


def _of_settings() -> CrossOriginProtection:
    return CrossOriginProtection(trusted_origins=settings.CSRF_TRUSTED_ORIGINS)
