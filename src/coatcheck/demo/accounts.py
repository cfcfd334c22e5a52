"""Register, log in, log out."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coatcheck import LoginRefused, current
from coatcheck.demo.forms import Form, read_form
from coatcheck.demo.pages import render, site_of, user_of
from coatcheck.demo.users import DEMO_USERS, User, is_username
from coatcheck.gate import safe_next

__all__ = [
    "enter",
    "goodbye",
    "login",
    "login_page",
    "logout",
    "password_problem",
    "register",
    "register_page",
]

_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 128
_LONGEST_NAME = 40


async def login_page(request: Request) -> Response:
    back = safe_next(request.query_params.get("next"), "/shop")
    if user_of(request) is not None:
        return RedirectResponse(back, 303)
    known = {user.username: user for user in DEMO_USERS}
    prepared = known.get(request.query_params.get("as", ""))
    return await render(
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
    refused: str | None = "That username and password do not belong together."
    if user is not None:
        welcome = _welcome(user)
        refused = await enter(request, user, welcome, remember=bool(form["remember"]))
        if refused is None:
            return RedirectResponse(back, 303)
    return await render(
        request,
        "login.html",
        status=400 if user is None else 403,
        username=username,
        password="",
        remember=bool(form["remember"]),
        back=back,
        error=refused,
    )


async def register_page(request: Request) -> Response:
    back = safe_next(request.query_params.get("next"), "/shop")
    return await render(request, "register.html", form=Form(), back=back, errors={})


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
            await enter(request, user, _welcome(user), remember=False)
            return RedirectResponse(back, 303)
        errors["username"] = "This username is taken. Choose another, or log in if it is yours."
    return await render(request, "register.html", status=400, form=form, back=back, errors=errors)


async def logout(request: Request) -> Response:
    if current().subject is not None:
        await read_form(request)
        current().logout()
    return RedirectResponse("/goodbye", 303)


async def goodbye(request: Request) -> Response:
    return await render(request, "goodbye.html")


async def enter(
    request: Request,
    user: User,
    welcome: str,
    *,
    remember: bool,
    level: int = 1,
    methods: tuple[str, ...] = ("pwd",),
) -> str | None:
    """Log the user in; why not, where the sessions refuse. The methods' names are of RFC 8176.

    It commits here and now, so that the answer can say what came of it.
    """
    session = current()
    session.login(user.subject, remember=remember, level=level, methods=methods)
    session.pop("remember", None)
    if remember:
        session["remember"] = True  # for the login that follows when the level is to rise
    session.flash(welcome, "success")
    try:
        await site_of(request).sessions.commit(session)
    except LoginRefused as refused:
        return _REFUSED[refused.reason]
    return None


def _welcome(user: User) -> str:
    return f"Welcome, {user.name}. Your ticket was exchanged for a fresh one."


_REFUSED = {
    "limit": "You are logged in on as many devices as this demo allows. Log out on one of them "
    "first.",
    "revoked": "All of your devices were logged out while you logged in. Try again.",
}


def _check(form: Form) -> dict[str, str]:
    """What is wrong with each field, in words that help."""
    errors = {}
    if not is_username(form["username"]):
        errors["username"] = (
            "Use 3 to 30 letters a to z, digits or hyphens, and begin with a letter."
        )
    if not 1 <= len(form["name"]) <= _LONGEST_NAME or not form["name"].isprintable():
        errors["name"] = f"Tell us a name of 1 to {_LONGEST_NAME} printable characters."
    problem = password_problem(form["password"], form["username"])
    return errors if problem is None else {**errors, "password": problem}


def password_problem(password: str, username: str) -> str | None:
    """What is wrong with a new password, in words that help."""
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        return f"Choose a password of {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters."
    if password.lower() == username:
        return "Choose a password that is not your username."
    return None
