"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import asgi, falcon, sanic, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **falcon.FRAMEWORKS,
    **sanic.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
