"""Register, log in, log out."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coatcheck import current
from coatcheck.demo.forms import Form, read_form
from coatcheck.demo.pages import render, site_of, user_of
from coatcheck.demo.users import DEMO_USERS, User, is_username
from coatcheck.gate import safe_next

__all__ = ["goodbye", "login", "login_page", "logout", "register", "register_page"]

_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 128
_LONGEST_NAME = 40


async def login_page(request: Request) -> Response:
    back = safe_next(request.query_params.get("next"), "/shop")
    if user_of(request) is not None:
        return RedirectResponse(back, 303)
    known = {user.username: user for user in DEMO_USERS}
    prepared = known.get(request.query_params.get("as", ""))
    return render(
        request,
        "login.html",
        username=prepared.username if prepared else "",
        password=prepared.password if prepared else "",
        remember=False,
        back=back,
        error=None,
    )


async def login(request: Request) -> Response:
    form = await read_form(request)
    back = safe_next(form["next"], "/shop")
    username = form["username"].strip().lower()
    user = await site_of(request).users.login(username, form["password"])
    if user is not None:
        return _enter(user, remember=bool(form["remember"]), back=back)
    return render(
        request,
        "login.html",
        status=400,
        username=username,
        password="",
        remember=bool(form["remember"]),
        back=back,
        error="That username and password do not belong together.",
    )


async def register_page(request: Request) -> Response:
    back = safe_next(request.query_params.get("next"), "/shop")
    return render(request, "register.html", form=Form(), back=back, errors={})


async def register(request: Request) -> Response:
    form = await read_form(request)
    form["username"] = form["username"].strip().lower()
    form["name"] = " ".join(form["name"].split())
    errors = _check(form)
    back = safe_next(form["next"], "/shop")
    if not errors:
        users = site_of(request).users
        user = await users.register(form["username"], form["name"], form["password"])
        if user is not None:
            return _enter(user, remember=False, back=back)
        errors["username"] = "This username is taken. Choose another, or log in if it is yours."
    return render(request, "register.html", status=400, form=form, back=back, errors=errors)


async def logout(request: Request) -> Response:
    if current().subject is not None:
        await read_form(request)
        current().logout()
    return RedirectResponse("/goodbye", 303)


async def goodbye(request: Request) -> Response:
    return render(request, "goodbye.html")


def _enter(user: User, *, remember: bool, back: str) -> Response:
    session = current()
    session.login(user.subject, remember=remember)
    session.flash(f"Welcome, {user.name}. Your ticket was exchanged for a fresh one.", "success")
    return RedirectResponse(back, 303)


def _check(form: Form) -> dict[str, str]:
    """What is wrong with each field, in words that help."""
    errors = {}
    if not is_username(form["username"]):
        errors["username"] = (
            "Use 3 to 30 letters a to z, digits or hyphens, and begin with a letter."
        )
    if not 1 <= len(form["name"]) <= _LONGEST_NAME or not form["name"].isprintable():
        errors["name"] = f"Tell us a name of 1 to {_LONGEST_NAME} printable characters."
    if not _SHORTEST_PASSWORD <= len(form["password"]) <= _LONGEST_PASSWORD:
        errors["password"] = (
            f"Choose a password of {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters."
        )
    elif form["password"].lower() == form["username"]:
        errors["password"] = "Choose a password that is not your username."  # noqa: S105
    return errors
