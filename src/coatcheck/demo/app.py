"""The app: what each path does, who may pass, and what an error looks like."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from coatcheck import AsyncSessions
from coatcheck.demo import accounts, devices, inside, race, shop
from coatcheck.demo.hardening import OutagePage, SecurityHeaders
from coatcheck.demo.pages import STATIC, Site, render, render_bare
from coatcheck.demo.users import DEMO_USERS, Users
from coatcheck.gate import LoginGate
from coatcheck.store import AsyncCarrierStore, AsyncStore
from coatcheck.web.asgi import LoginMiddleware, SessionMiddleware

__all__ = ["create_app"]

# Everything else takes a login: the checkout, the devices, and whatever is added next.
_PUBLIC = ["/", "/register", "/logout", "/goodbye", "/inside", "/static/*"]
_PUBLIC_SHOP = ["/shop", "/cart", "/cart/*", "/race", "/race/*"]


def create_app(
    sessions: AsyncSessions, store: AsyncStore | AsyncCarrierStore, users: Users
) -> Starlette:
    """The demo over these sessions; `store` is theirs, for the page that looks into it."""
    gate = LoginGate(login="/login", public=_PUBLIC + _PUBLIC_SHOP, user=users.find)
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(OutagePage),
            Middleware(SessionMiddleware, sessions=sessions),
            Middleware(LoginMiddleware, gate=gate),
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )
    app.state.site = Site(sessions, store, users)
    return app


def _routes() -> list[Route | Mount]:
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
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


async def home(request: Request) -> Response:
    return render(request, "home.html", demo_users=DEMO_USERS)


async def _refused(request: Request, error: Exception) -> Response:
    """400, 403, 404, 405 and the like, as a page."""
    assert isinstance(error, HTTPException)
    page = render(
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
