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
    quart,
    sanic,
    tornado,
    wsgi,
)

__all__ = ["FRAMEWORKS"]

FRAMEWORKS = {
    **asgi.FRAMEWORKS,
    **wsgi.FRAMEWORKS,
    **aiohttp.FRAMEWORKS,
    **bottle.FRAMEWORKS,
    **django.FRAMEWORKS,
    **falcon.FRAMEWORKS,
    **fastapi.FRAMEWORKS,
    **flask.FRAMEWORKS,
    **litestar.FRAMEWORKS,
    **pyramid.FRAMEWORKS,
    **quart.FRAMEWORKS,
    **sanic.FRAMEWORKS,
    **tornado.FRAMEWORKS,
}
