"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import asgi, fastapi, litestar, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **fastapi.FRAMEWORKS,
    **litestar.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
