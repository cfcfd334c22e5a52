"""The app: what each path does, who may pass, and what an error looks like."""

import time
from collections.abc import Callable
from typing import Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from coatcheck import AsyncSessions
from coatcheck.csrf import CrossOriginProtection
from coatcheck.demo import account, accounts, activity, devices, inside, live, race, shop
from coatcheck.demo.diary import Diary
from coatcheck.demo.hardening import PlainAnswers, SecurityHeaders
from coatcheck.demo.pages import STATIC, Site, render, render_bare
from coatcheck.demo.users import DEMO_USERS, Users
from coatcheck.gate import LoginGate
from coatcheck.store import AsyncCarrierStore, AsyncStore
from coatcheck.web.asgi import CSRFMiddleware, LoginMiddleware, SessionMiddleware

__all__ = ["create_app", "create_site"]

# Everything else takes a login: the checkout, the devices, and whatever is added next.
_PUBLIC = ["/", "/register", "/logout", "/goodbye", "/inside", "/static/*"]
_PUBLIC_SHOP = ["/shop", "/cart", "/cart/*", "/race", "/race/*"]


def create_site(
    store: AsyncStore | AsyncCarrierStore,
    users: Users,
    *,
    limit: int | None = None,
    over_limit: Literal["end", "refuse"] = "end",
    renew_after: float | None = None,
    clock: Callable[[], float] = time.time,
) -> Site:
    """What the pages work with: sessions over this store, which tell the diary what happens."""
    diary = Diary(clock)
    sessions = AsyncSessions(
        store,
        limit=limit,
        over_limit=over_limit,
        renew_after=renew_after,
        on_event=diary,
        clock=clock,
        clear_site_data=("cache", "storage"),
    )
    return Site(sessions, store, users, diary, limit, renew_after)


def create_app(site: Site) -> Starlette:
    gate = LoginGate(login="/login", public=_PUBLIC + _PUBLIC_SHOP, user=site.users.find)
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(PlainAnswers),
            Middleware(CSRFMiddleware, protection=CrossOriginProtection()),
            Middleware(SessionMiddleware, sessions=site.sessions, watch=True),
            Middleware(LoginMiddleware, gate=gate),
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )
    app.state.site = site
    return app


def _routes() -> list[BaseRoute]:
    return [
        Route("/", home),
        Route("/login", accounts.login_page),
        Route("/login", accounts.login, methods=["POST"]),
        Route("/register", accounts.register_page),
        Route("/register", accounts.register, methods=["POST"]),
        Route("/logout", accounts.logout, methods=["POST"]),
        Route("/goodbye", accounts.goodbye),
        Route("/shop", shop.shop),
        Route("/cart", shop.cart),
        Route("/cart/add", shop.add, methods=["POST"]),
        Route("/cart/remove", shop.remove, methods=["POST"]),
        Route("/checkout", shop.checkout),
        Route("/checkout", shop.order, methods=["POST"]),
        Route("/race", race.race),
        Route("/race/add", race.add, methods=["POST"]),
        Route("/race/count", race.count),
        Route("/devices", devices.devices),
        Route("/devices/end", devices.end, methods=["POST"]),
        Route("/devices/end-others", devices.end_others, methods=["POST"]),
        Route("/inside", inside.inside),
        Route("/activity", activity.activity),
        Route("/live", live.live),
        WebSocketRoute("/live/socket", live.socket),
        Route("/account", account.account),
        Route("/account", account.change_password, methods=["POST"]),
        Route("/account/lower", account.lower, methods=["POST"]),
        Route("/confirm", account.confirm_page),
        Route("/confirm", account.confirm, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


async def home(request: Request) -> Response:
    return await render(request, "home.html", demo_users=DEMO_USERS)


async def _refused(request: Request, error: Exception) -> Response:
    """400, 403, 404, 405 and the like, as a page."""
    assert isinstance(error, HTTPException)
    page = await render(
        request,
        "error.html",
        status=error.status_code,
        code=error.status_code,
        detail=error.detail,
    )
    page.headers.update(error.headers or {})
    return page


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of our own. The server logs it; the session is out of reach here."""
    return render_bare("error.html", status=500, code=500, detail="")
