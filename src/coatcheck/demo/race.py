"""The race: overlapping requests of one session that all change the same cart.

Each request waits for a moment with its copy of the session in hand, so that they really overlap.
`edit` counts every one of them. `assign` does what one should not do with a counter: it writes
what it read plus one, and the last to commit wins.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from coatcheck import current
from coatcheck.demo.forms import read_form
from coatcheck.demo.pages import render
from coatcheck.demo.shop import Cart, one_more

__all__ = ["add", "count", "race"]

_ARTICLE = "lavender"
_SECONDS_IN_HAND = 0.05


async def race(request: Request) -> Response:
    return await render(request, "race.html", count=_counted())


async def add(request: Request) -> Response:
    form = await read_form(request)
    if form["how"] == "assign":
        await _assign()
    else:
        await _edit()
    if request.headers.get("accept") == "application/json":
        return JSONResponse({"count": _counted()})
    return RedirectResponse("/race", 303)


async def count(request: Request) -> Response:
    return JSONResponse({"count": _counted()})


async def _edit() -> None:
    current().edit("cart", one_more(_ARTICLE), default={})
    await asyncio.sleep(_SECONDS_IN_HAND)


async def _assign() -> None:
    session = current()
    cart: Cart = session.get("cart", {})
    await asyncio.sleep(_SECONDS_IN_HAND)
    session["cart"] = one_more(_ARTICLE)(cart)


def _counted() -> int:
    cart: Cart = current().get("cart", {})
    return cart.get(_ARTICLE, 0)
