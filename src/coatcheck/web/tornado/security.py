"""The login gate, what other sites may not send, and the facts that both look at."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.web import Finish

from coatcheck import csrf, gate
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import LoginGate, Refused, async_admit
from coatcheck.paths import as_routed
from coatcheck.web.tornado.hook import SessionMixin, done
from coatcheck.web.tornado.sending import answer

__all__ = ["CSRFMixin", "LoginMixin", "facts", "login_required"]


class CSRFMixin(SessionMixin):
    """A `SessionMixin` that refuses what other sites send, by its `protection`.

    It stands before a `LoginMixin`. With `tokens=True`, `xsrf_form_html()` gives the field with the
    session's token; the application's own setting `xsrf_cookies` stays off then.
    """

    protection: CrossOriginProtection

    async def prepare(self) -> None:
        """Refuse, or open the session and look at the token."""
        asked = facts(self.request)
        self._obey(self.protection.judge(asked))
        await super().prepare()
        session = None if self._exchange is None else self._exchange.session
        field = partial(self.get_body_argument, csrf.FIELD, None)
        self._obey(csrf.check(self.protection, asked, session, field))

    def xsrf_form_html(self) -> str:
        """The hidden field of a form, for `{% module xsrf_form_html() %}` too."""
        if not self.protection.tokens:
            return super().xsrf_form_html()
        return f'<input type="hidden" name="{csrf.FIELD}" value="{self.session.csrf_token}"/>'

    def _obey(self, refused: Refused | None) -> None:
        if refused is not None:
            answer(self, refused)
            raise Finish


class LoginMixin(SessionMixin):
    """A `SessionMixin` that lets only those through whom its `gate` admits.

    `self.current_user` is what the gate's `user=` loads, where it has one, and else the subject.
    """

    gate: LoginGate

    def get_current_user(self) -> Any:
        """The subject, or None; None also where the gate loads users and was not asked to."""
        return None if self.gate.user is not None else super().get_current_user()

    async def prepare(self) -> None:
        """Open the session, and ask the gate."""
        await super().prepare()
        await _pass(self.gate, self)


Method = Callable[..., Awaitable[None] | None]


def login_required(gate: LoginGate) -> Callable[[Method], Method]:
    """For a single method of a handler with a `SessionMixin`: it must pass the gate.

    The gate's `public=` does not count here. `self.current_user` is as in `LoginMixin`.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        async def guarded(self: Any, *args: Any, **options: Any) -> None:
            await _pass(gate, self, everywhere=True)
            await done(method(self, *args, **options))

        return guarded

    return decorate


async def _pass(rule: LoginGate, handler: SessionMixin, *, everywhere: bool = False) -> None:
    """Let the request go on, or answer it and end it."""
    session = None if handler._exchange is None else handler._exchange.session
    verdict = await async_admit(rule, facts(handler.request), session, everywhere=everywhere)
    if isinstance(verdict, Refused):
        answer(handler, verdict)
        raise Finish
    if verdict.subject is not None:
        handler.current_user = verdict.subject if verdict.user is None else verdict.user


def facts(request: HTTPServerRequest) -> gate.Request:
    """What the gate looks at."""
    method, header = request.method or "", request.headers.get
    return gate.Request(method, as_routed(request.path), request.query, "", header)
