"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import asgi, bottle, falcon, pyramid, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **bottle.FRAMEWORKS,
    **pyramid.FRAMEWORKS,
    **falcon.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
