"""The login gate, for the whole site or for a single view.

Where Django's own login made the session, Django's checks count too: a user who is gone or not
active, or whose password changed since, is not let in, and the session ends.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.auth import SESSION_KEY  # type: ignore[import-untyped]
from django.utils.deprecation import MiddlewareMixin  # type: ignore[import-untyped]

from coatcheck.errors import Contention, StoreUnavailable
from coatcheck.gate import LoginGate, Refused, Request, Verdict, admit, async_admit
from coatcheck.session import Session
from coatcheck.web.django import conf
from coatcheck.web.django.request import facts
from coatcheck.web.django.responses import refusal
from coatcheck.web.django.store import SessionStore
from coatcheck.web.exchange import UNAVAILABLE

__all__ = ["LoginMiddleware", "login_required"]


class LoginMiddleware(MiddlewareMixin):  # type: ignore[misc]
    """Lets only those through whom the gate admits. It comes after `SessionMiddleware`, and after
    Django's `AuthenticationMiddleware` where there is one.

    Where the gate has `user=`, what it loads is `request.user`; without, that is Django's own.
    """

    gate: LoginGate | None = None
    """What a subclass works with; by default the gate to which `COATCHECK_GATE` leads."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self._gate = self.gate or conf.gate()

    def __call__(self, request: Any) -> Any:
        if self.async_mode:
            return self.__acall__(request)
        try:
            refused = _refused(self._gate, request)
        except (StoreUnavailable, Contention):  # else Django would mail an error page of it
            refused = UNAVAILABLE
        return self.get_response(request) if refused is None else refusal(refused)

    async def __acall__(self, request: Any) -> Any:
        try:
            refused = await _async_refused(self._gate, request)
        except (StoreUnavailable, Contention):
            refused = UNAVAILABLE
        return await self.get_response(request) if refused is None else refusal(refused)


def login_required(gate: LoginGate) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a single view, plain or async: it must pass the gate, whose `public=` does not count
    here. A class of views takes it by Django's `method_decorator`.

    Where the gate has `user=`, what it loads is `request.user`.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        return _async_guarded(gate, view) if _is_awaited(view) else _guarded(gate, view)

    return decorate


def _guarded(gate: LoginGate, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def guarded(request: Any, *args: Any, **options: Any) -> Any:
        refused = _refused(gate, request, everywhere=True)
        return view(request, *args, **options) if refused is None else refusal(refused)

    return guarded


def _async_guarded(gate: LoginGate, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    async def guarded(request: Any, *args: Any, **options: Any) -> Any:
        refused = await _async_refused(gate, request, everywhere=True)
        return await view(request, *args, **options) if refused is None else refusal(refused)

    return guarded


def _is_awaited(view: Any) -> bool:
    """Whether a call gives what is awaited. So does the `dispatch` of a class of asynchronous
    views, which is a plain method and comes by `method_decorator` as a partial of itself."""
    while view is not None and not iscoroutinefunction(view):
        owner = getattr(getattr(view, "func", None), "__self__", None)
        if getattr(owner, "view_is_async", False):
            return True
        view = getattr(view, "__wrapped__", None)
    return view is not None


def _refused(gate: LoginGate, request: Any, *, everywhere: bool = False) -> Refused | None:
    session: Any = getattr(request, "session", None)
    asked = facts(request)
    if isinstance(session, SessionStore):
        session = _usable(session._opened())
    verdict = admit(gate, asked, session, everywhere=everywhere)
    if _is_of_django(verdict, session) and not _is_known(getattr(request, "user", None)):
        return _unknown(gate, asked, session)
    return _settled(request, verdict)


async def _async_refused(
    gate: LoginGate, request: Any, *, everywhere: bool = False
) -> Refused | None:
    session: Any = getattr(request, "session", None)
    asked = facts(request)
    if isinstance(session, SessionStore):
        session = _usable(await session._aopened())
    verdict = await async_admit(gate, asked, session, everywhere=everywhere)
    if _is_of_django(verdict, session):
        user = await request.auser() if hasattr(request, "auser") else None
        if not _is_known(user):
            return _unknown(gate, asked, session)
    return _settled(request, verdict)


def _usable(session: Session) -> Session | None:
    """None on a path in `COATCHECK_SKIP`, whose session is closed from the start."""
    return None if session._closed else session


def _is_of_django(verdict: Verdict, session: Any) -> bool:
    """Whether somebody passes whom `django.contrib.auth.login` let in."""
    if isinstance(verdict, Refused) or verdict.subject is None:
        return False
    return SESSION_KEY in session


def _is_known(user: Any) -> bool:
    """Whether Django still takes the session for this user's; without its middleware, it does not
    say. A user of the gate's own loader need not be one of Django's."""
    return bool(getattr(user, "is_authenticated", True))


def _unknown(gate: LoginGate, asked: Request, session: Session) -> Refused:
    session.logout()
    return gate.refuse(asked)


def _settled(request: Any, verdict: Verdict) -> Refused | None:
    """The answer where there is one; else the user is put in place."""
    if isinstance(verdict, Refused):
        return verdict
    user = verdict.user
    if user is not None:

        async def auser() -> Any:
            return user

        request.user, request.auser = user, auser
    return None
