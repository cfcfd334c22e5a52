"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import asgi, flask, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **flask.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
