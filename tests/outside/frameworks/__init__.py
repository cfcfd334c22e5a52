"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import asgi, django, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **django.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
