"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import asgi, flask, quart, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **flask.FRAMEWORKS,
    **quart.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
