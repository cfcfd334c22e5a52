"""The account: a careful page. Who is logged in must have proved it just now, and by two means.

`CAREFUL` is the rule. Whoever misses it is sent to `/confirm`, which asks for the password once
more and for a one-time code, and logs in again at a higher level (OWASP ASVS 5.0, 7.5.1).
"""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coatcheck import current
from coatcheck.demo.accounts import enter, password_problem
from coatcheck.demo.forms import read_form
from coatcheck.demo.pages import render, site_of
from coatcheck.demo.users import DEMO_USERS
from coatcheck.gate import LoginGate, safe_next
from coatcheck.web.asgi import login_required

__all__ = ["account", "change_password", "confirm", "confirm_page", "lower"]

FRESH = 300
CAREFUL = LoginGate(level=2, fresh=FRESH, step_up="/confirm")

_RISEN = "We know now that it is you. Your ticket was exchanged for a fresh one."
_SHARED = frozenset(user.username for user in DEMO_USERS)


@login_required(CAREFUL)
async def account(request: Request) -> Response:
    return await _page(request)


@login_required(CAREFUL)
async def change_password(request: Request) -> Response:
    form = await read_form(request)
    user, site, session = request.user, site_of(request), current()
    problem = password_problem(form["password"], user.username)
    if problem is not None or user.username in _SHARED:
        return await _page(request, problem, status=400)
    await site.users.change_password(user.username, form["password"])
    session.rotate()
    session.flash("Your password is changed, and your ticket exchanged.", "success")
    if form["others"] and site.can_end_others:
        await site.sessions.revoke_all(user.subject, keep=session.id)
        session.flash("Every other device is logged out.", "success")
    return RedirectResponse("/account", 303)


async def lower(request: Request) -> Response:
    await read_form(request)
    current().lower(1)
    current().flash("You are at level 1 again. The account will ask who you are.")
    return RedirectResponse("/devices", 303)


async def confirm_page(request: Request) -> Response:
    back = safe_next(request.query_params.get("next"), "/account")
    return await _confirm(request, back)


async def confirm(request: Request) -> Response:
    form = await read_form(request)
    user, users, session = request.user, site_of(request).users, current()
    back = safe_next(form["next"], "/account")
    knows = await users.login(user.username, form["password"]) is not None
    if not (knows and users.codes.accept(user.username, "".join(form["code"].split()))):
        error = "That password and code are not good together. A code is good for once."
        return await _confirm(request, back, error, status=400)
    remember = bool(session.get("remember"))
    refused = await enter(request, user, _RISEN, remember=remember, level=2, methods=("pwd", "otp"))
    if refused is not None:
        return await _confirm(request, back, refused, status=403)
    return RedirectResponse(back, 303)


async def _page(request: Request, problem: str | None = None, status: int = 200) -> Response:
    is_shared = request.user.username in _SHARED
    return await render(
        request, "account.html", status=status, problem=problem, is_shared=is_shared
    )


async def _confirm(
    request: Request, back: str, error: str | None = None, status: int = 200
) -> Response:
    token = site_of(request).users.codes.show(request.user.username)
    return await render(
        request, "confirm.html", status=status, back=back, error=error, token=token, fresh=FRESH
    )
