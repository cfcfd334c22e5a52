"""WSGI: any app of PEP 3333.

The session is opened before the app runs, and committed when the first byte of its body is
there, or when the body turns out to be empty: not at `start_response`, after which a generator
still computes. A response that is a 5xx, and an exception before the first byte, keep nothing of
the request but a `logout()`. Where the store was out of reach and the app did not answer for that
itself, the answer is 503.
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from coatcheck import context, csrf, gate
from coatcheck.csrf import CrossOriginProtection
from coatcheck.gate import Admitted, LoginGate, Refused, Verdict, admit
from coatcheck.paths import Patterns
from coatcheck.session import Client, Session
from coatcheck.sessions import Sessions
from coatcheck.sweeper import Sweeper
from coatcheck.web.configured import checked_sessions
from coatcheck.web.exchange import Exchange
from coatcheck.web.forms import wsgi_token
from coatcheck.web.headers import READ, UNTOUCHED, Head, merge_str

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["CSRFMiddleware", "LoginMiddleware", "SessionMiddleware", "login_required"]

_REASONS = {303: "See Other", 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}


class SessionMiddleware:
    """Puts the request's session into `environ["coatcheck.session"]`, and commits it in time.

    `named` gives further sessions, in `environ["coatcheck.sessions"][name]` and `current(name)`.
    On paths that `skip` lists nothing is opened. `client` makes a `Client` of the environ, for
    device lists; by default the peer's address and its User-Agent. `sweep` is how often, in
    seconds, a daemon thread removes what expired; None leaves that to you.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        sessions: Sessions,
        *,
        named: Mapping[str, Sessions] | None = None,
        skip: Iterable[str] = (),
        client: "Callable[[WSGIEnvironment], Client] | None" = None,
        sweep: float | None = 600.0,
    ) -> None:
        self.app = app
        self._sessions = checked_sessions(Sessions, sessions, named)
        self._skip = Patterns("SessionMiddleware(skip=…)", skip) or None
        self._client = client or peer
        self._upkeep = Upkeep(self._sessions, sweep)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if self._skip is not None and self._skip.match(_path(environ)):
            return self.app(environ, start_response)
        if "coatcheck.session" in environ and self._is_open(environ["coatcheck.session"]):
            return self.app(environ, start_response)
        self._upkeep.begin(environ)
        header, client = environ.get("HTTP_COOKIE"), partial(self._client, environ)
        exchange = Exchange.open(self._sessions, header, client)
        environ["coatcheck.session"] = exchange.session
        environ["coatcheck.sessions"] = exchange.named
        return _Response(self.app, environ, start_response, exchange).begin()

    def _is_open(self, found: object) -> bool:
        """Whether a middleware around this one has opened our session, and is to commit it."""
        if not isinstance(found, Session):
            return False
        return self._sessions[None]._began(found) and context.is_bound(found)


class Upkeep:
    """What comes with the first request of a process: sweeping, and a look at the server."""

    def __init__(
        self,
        every: Mapping[str | None, Sessions],
        sweep: float | None,
        where: str = "SessionMiddleware",
    ) -> None:
        self._where = where
        self.sweepers = [] if sweep is None else [Sweeper(each, sweep) for each in every.values()]
        self._warned = all(each.is_shared for each in every.values())

    def begin(self, environ: "WSGIEnvironment") -> None:
        """A request came."""
        for sweeper in self.sweepers:
            sweeper.start()
        if not self._warned and environ.get("wsgi.multiprocess"):
            self._warned = True
            warnings.warn(
                f"{self._where}: expected one process, got several (wsgi.multiprocess), and "
                "each keeps sessions of its own in memory, so users will seem to log out at "
                "random; use SQLiteStore or another shared store",
                RuntimeWarning,
                stacklevel=3,
            )


class _Response:
    """One request's answer on its way out; an iterable whose headers go with its first byte."""

    def __init__(
        self,
        app: "WSGIApplication",
        environ: "WSGIEnvironment",
        start_response: "StartResponse",
        exchange: Exchange,
    ) -> None:
        self._app = app
        self._environ = environ
        self._start_response = start_response
        self._exchange = exchange
        self._body: Iterable[bytes] = ()
        self._head: tuple[str, list[tuple[str, str]], Any] | None = None
        self._write: Callable[[bytes], object] | None = None  # the server's, once it has the head
        self._replaced: _Replaced | None = None  # by a 503: what the app still sends is dropped

    def begin(self) -> Iterable[bytes]:
        """Run the app. A whole body is committed and handed on as it is, any other as it comes."""
        try:
            self._run(self._call)
            if self._replaced is not None:
                self._close_body()
                return []
            if not is_whole(self._body, self._environ):
                return self
            self._run(self._send_head)
            return self._body
        except _Replaced as answer:
            self._close_body()
            return [answer.body]
        except BaseException:
            self._close_body()
            raise

    def __iter__(self) -> Iterator[bytes]:
        try:
            body = self._run(partial(iter, self._body))
            while (chunk := self._run(partial(next, body, None))) is not None:
                if self._replaced is not None:
                    return
                if chunk:  # PEP 3333: an empty one may come before the head is there
                    self._run(self._send_head)
                    yield chunk
            self._run(self._send_head)
        except _Replaced as answer:
            yield answer.body

    def close(self) -> None:
        """The response is over: what was changed in place since it began is lost, so say so."""
        self._exchange.fail()  # where the client left before the first byte
        self._close_body()
        self._exchange.end()

    def _close_body(self) -> None:
        """PEP 3333: what the app returned is closed, whoever sends it."""
        close = getattr(self._body, "close", None)
        if close is not None:
            token = context.bind(self._exchange.opened)
            try:
                close()
            finally:
                context.unbind(token)

    def _call(self) -> None:
        self._body = self._app(self._environ, self._take_head)

    def _run(self, step: Callable[[], Any]) -> Any:
        """A step of the app, with `current()` at hand; its errors end the request as law 9 says."""
        token = context.bind(self._exchange.opened)
        try:
            return step()
        except _Replaced:
            raise
        except BaseException as error:  # a server's time limit may be no Exception
            head = self._exchange.fail(error)
            goes_on = self._write is not None or not isinstance(error, Exception)
            if goes_on or head.refused is None:
                raise
            raise self._refuse(head.refused, head) from None
        finally:
            context.unbind(token)

    def _take_head(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """What the app gets for `start_response`: the head waits for the first byte."""
        if self._replaced is not None:
            return self._write_now
        if self._write is not None:
            return self._start_response(status, headers, exc_info)
        if self._head is not None and exc_info is None:
            raise AssertionError("start_response: expected one call, got two without exc_info")
        self._head = (status, list(headers), exc_info)
        return self._write_now

    def _write_now(self, data: bytes) -> object:
        if self._replaced is None:
            try:
                self._send_head()
            except _Replaced as answer:
                data = answer.body
            return self._write(data) if self._write is not None else None
        return None

    def _send_head(self) -> None:
        """Commit, and give the server the head; `_Replaced` where it is a 503 instead."""
        if self._write is not None:
            return
        if self._head is None:  # the app forgot it, and the server will complain
            self._exchange.fail()
            return
        status, headers, exc_info = self._head
        cause = exc_info[1] if exc_info else None  # of which the framework made this response
        answer = self._exchange.respond(int(status[:3]), cause)
        if answer.refused is not None:
            raise self._refuse(answer.refused, answer)
        if answer.vary:
            headers = merge_str(headers, answer)
        self._write = self._start_response(status, headers, exc_info)

    def _refuse(self, refused: Refused, head: Head) -> "_Replaced":
        """The answer in the app's place goes out."""
        body, self._write = _answer(refused, self._environ, self._start_response, head)
        self._replaced = _Replaced(body)
        return self._replaced


def is_whole(body: object, environ: "WSGIEnvironment") -> bool:
    """Whether a body is there already, or is the server's to send: nothing more is computed."""
    wrapper = environ.get("wsgi.file_wrapper")
    is_file = inspect.isclass(wrapper) and isinstance(body, wrapper)
    return is_file or type(body) in (list, tuple)


class _Replaced(Exception):
    """The answer is ours and not the app's; `body` is its whole body."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class CSRFMiddleware:
    """Refuses what other sites make a browser do, by a `CrossOriginProtection`.

    It belongs outside `SessionMiddleware`, where what it refuses costs no look into the store; with
    `tokens=True` inside, as the token is the session's. The token is read from the header
    `X-CSRF-Token`, or from the form; a body that a view reads itself reaches it whole.
    """

    def __init__(self, app: "WSGIApplication", protection: CrossOriginProtection) -> None:
        self.app = app
        self.protection = protection

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        session, field = environ.get("coatcheck.session"), partial(wsgi_token, environ)
        refused = csrf.check(self.protection, facts(environ), session, field)
        if refused is not None:
            return [_answer(refused, environ, start_response, UNTOUCHED)[0]]
        return self.app(environ, start_response)


class LoginMiddleware:
    """Lets only logged-in users through, by a `LoginGate`. It belongs inside `SessionMiddleware`.

    Where the gate has `user=`, what it loads is `environ["coatcheck.user"]`. A loader that is
    asynchronous is refused.
    """

    def __init__(self, app: "WSGIApplication", gate: LoginGate) -> None:
        self.app = app
        self.gate = gate

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        verdict = _judge(self.gate, environ)
        if isinstance(verdict, Refused):
            return [_answer(verdict, environ, start_response)[0]]
        return self.app(environ, start_response)


def login_required(gate: LoginGate) -> "Callable[[WSGIApplication], WSGIApplication]":
    """For a single WSGI app, such as one view: it must pass the gate, whose `public=` does not
    count here."""

    def decorate(app: "WSGIApplication") -> "WSGIApplication":
        @wraps(app)
        def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            verdict = _judge(gate, environ, everywhere=True)
            if isinstance(verdict, Refused):
                return [_answer(verdict, environ, start_response)[0]]
            return app(environ, start_response)

        return guarded

    return decorate


def _judge(rule: LoginGate, environ: "WSGIEnvironment", *, everywhere: bool = False) -> Verdict:
    session = environ.get("coatcheck.session")
    verdict = admit(rule, facts(environ), session, everywhere=everywhere)
    if isinstance(verdict, Admitted) and verdict.user is not None:
        environ["coatcheck.user"] = verdict.user
    return verdict


def facts(environ: "WSGIEnvironment") -> gate.Request:
    """What the gate looks at."""

    def header(name: str) -> str | None:  # a server joins those that came several times
        found: str | None = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return found

    method, query = environ.get("REQUEST_METHOD", ""), environ.get("QUERY_STRING", "")
    return gate.Request(method, _path(environ), query, _utf8(environ, "SCRIPT_NAME"), header)


def _path(environ: "WSGIEnvironment") -> str:
    return _utf8(environ, "PATH_INFO") or "/"


def _utf8(environ: "WSGIEnvironment", name: str) -> str:
    """PEP 3333 hands paths over as latin-1 decoded bytes; what they mean is UTF-8."""
    text: str = environ.get(name, "")
    return text.encode("latin-1").decode("utf-8", "replace")


def peer(environ: "WSGIEnvironment") -> Client:
    """The default `client`: who connected, and their User-Agent."""
    return Client(environ.get("REMOTE_ADDR"), environ.get("HTTP_USER_AGENT"))


def _answer(
    refused: Refused,
    environ: "WSGIEnvironment",
    start_response: "StartResponse",
    head: Head = READ,
) -> tuple[bytes, Callable[[bytes], object]]:
    """A whole response of our own: its body, and the server's `write`."""
    body = refused.body.encode()
    headers = [*refused.headers, ("Content-Type", "text/plain; charset=utf-8")]
    headers.append(("Content-Length", str(len(body))))
    status = f"{refused.status} {_REASONS[refused.status]}"
    write = start_response(status, merge_str(headers, head))
    return b"" if environ.get("REQUEST_METHOD") == "HEAD" else body, write
