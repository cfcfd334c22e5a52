"""Starlette's tests of its `SessionMiddleware`, which takes its options by other names."""

from pathlib import Path

from tests.suites import Suite, replace_in

SHIM = '''"""Starlette's options, as ours."""

from typing import Any

from coatcheck import AsyncSessions, Cookie, Lifetime, Session
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.asgi import SessionMiddleware as _SessionMiddleware

_DAY = 24 * 60 * 60


class SessionMiddleware(_SessionMiddleware):
    def __init__(
        self,
        app: Any,
        secret_key: str,
        max_age: int | None = 14 * _DAY,
        path: str = "/",
        same_site: str = "lax",
        https_only: bool = False,
        domain: str | None = None,
        partitioned: bool = False,
    ) -> None:
        kind = Cookie if https_only else Cookie.insecure
        options: dict[str, Any] = {"samesite": same_site, "partitioned": partitioned}
        persistent = max_age is not None
        domain = domain and domain.removeprefix(".")
        cookie = kind(path=path, domain=domain, persistent=persistent, **options)
        lifetime = Lifetime(idle=None, absolute=max_age if persistent else _DAY)
        store = AsyncMemoryStore()
        super().__init__(app, AsyncSessions(store, cookie=cookie, lifetime=lifetime))
'''

LOWERED = '.headers["set-cookie"].lower()'


def plug_in(folder: Path) -> None:
    (folder / "tests/middleware/shim.py").write_text(SHIM, "utf-8")
    tests = folder / "tests/middleware/test_session.py"
    replace_in(
        tests,
        "from starlette.middleware.sessions import Session, SessionMiddleware",
        "from tests.middleware.shim import Session, SessionMiddleware",
    )
    # JSON of the standard library knows no mapping but dict.
    replace_in(tests, '"session": request.session}', '"session": dict(request.session)}')
    # Attribute names have no case; ours are as the standard writes them.
    replace_in(
        tests, 'attributes = response.headers["set-cookie"]', f"attributes = response{LOWERED}"
    )
    replace_in(tests, "; path=", "; Path=")
    replace_in(tests, '"domain=.example.com" in', '"Domain=example.com" in')


SUITE = Suite(
    distribution="starlette",
    plug_in=plug_in,
    tests=["tests/middleware/test_session.py", "-p", "no:warnings"],
    explained={
        "middleware::test_session::test_session_tracks_modification": (
            "looks into a session that nobody opened, for marks that ours does not need"
        ),
        "middleware::test_session::test_session_expires": (
            "asks for a lifetime below zero, which is refused when the app is made"
        ),
        "middleware::test_session::test_partitioned_session": (
            "waits for a cookie that deletes what was cleared; ours is saved empty, and only "
            "logout() deletes a cookie"
        ),
        "middleware::test_session::test_session_zero_max_age": (
            "asks for a lifetime of zero, which is refused when the app is made"
        ),
    },
)
