"""The adapters, by the name of what stands between the server and the view."""

from tests.outside.frameworks import (
    aiohttp,
    asgi,
    bottle,
    django,
    falcon,
    fastapi,
    flask,
    litestar,
    pyramid,
    sanic,
    tornado,
    wsgi,
)
from tests.outside.frameworks import asgi, flask, quart, wsgi

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **aiohttp.FRAMEWORKS,
    **asgi.FRAMEWORKS,
    **bottle.FRAMEWORKS,
    **pyramid.FRAMEWORKS,
    **falcon.FRAMEWORKS,
    **tornado.FRAMEWORKS,
    **flask.FRAMEWORKS,
    **fastapi.FRAMEWORKS,
    **litestar.FRAMEWORKS,
    **django.FRAMEWORKS,
    **sanic.FRAMEWORKS,
    **quart.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
}
