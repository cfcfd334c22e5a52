"""The shop: a cart kept in the session, as a dict of how many of which.

Every change of the cart is a `session.edit`: a pure function, run again where another tab was
faster, so that no tab's change is lost. The cart is there before the login and stays after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coatcheck import current
from coatcheck.demo.forms import read_form
from coatcheck.demo.pages import render

__all__ = ["GOODS", "Cart", "add", "cart", "checkout", "one_more", "order", "remove", "shop"]

Cart = dict[str, int]

_MOST_OF_ONE = 999


@dataclass(frozen=True, slots=True)
class Article:
    name: str
    text: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a cart."""

    key: str
    article: Article
    count: int

    @property
    def price(self) -> Decimal:
        return self.article.price * self.count


GOODS = {
    "hanger": Article("Cedar hanger", "Broad shoulders, and moths dislike it.", Decimal("14.00")),
    "brush": Article("Clothes brush", "Boar bristle on pear wood.", Decimal("22.50")),
    "scarf": Article("Wool scarf", "Left behind more often than any other.", Decimal("48.00")),
    "umbrella": Article("Long umbrella", "Eight ribs, one careful owner.", Decimal("39.00")),
    "button": Article("Horn buttons", "Six of them, since one is always lost.", Decimal("12.00")),
    "lavender": Article("Lavender sachet", "For the pocket of a winter coat.", Decimal("4.50")),
}


def one_more(key: str) -> Callable[[Cart], Cart]:
    """The edit that puts one more of an article into a cart."""
    return lambda cart: {**cart, key: min(cart.get(key, 0) + 1, _MOST_OF_ONE)}


def _without(key: str) -> Callable[[Cart], Cart]:
    return lambda cart: {kept: count for kept, count in cart.items() if kept != key}


async def shop(request: Request) -> Response:
    return await render(request, "shop.html", goods=GOODS)


async def cart(request: Request) -> Response:
    return await render(request, "cart.html", **_bill())


async def add(request: Request) -> Response:
    key, article = _chosen(await read_form(request))
    session = current()
    session.edit("cart", one_more(key), default={})
    session.flash(f"{article.name}: one more in your cart.", "success")
    return RedirectResponse("/shop", 303)


async def remove(request: Request) -> Response:
    key, article = _chosen(await read_form(request))
    session = current()
    session.edit("cart", _without(key), default={})
    session.flash(f"{article.name}: taken out of your cart.")
    return RedirectResponse("/cart", 303)


async def checkout(request: Request) -> Response:
    return await render(request, "checkout.html", **_bill())


async def order(request: Request) -> Response:
    await read_form(request)
    session = current()
    if session.pop("cart", None):
        session.flash("Thank you. Nothing was sold and nothing will arrive.", "success")
    return RedirectResponse("/shop", 303)


def _chosen(form: dict[str, str]) -> tuple[str, Article]:
    key = form["item"]
    if key not in GOODS:
        raise HTTPException(400, "The form named an article that this shop does not have.")
    return key, GOODS[key]


def _bill() -> dict[str, Any]:
    kept: Cart = current().get("cart", {})
    lines = [Line(key, GOODS[key], count) for key, count in kept.items() if key in GOODS]
    return {"lines": lines, "total": sum((line.price for line in lines), Decimal(0))}
