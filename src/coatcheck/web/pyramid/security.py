"""Pyramid's policies over a session: who is logged in, what they may, and tokens for forms."""

from collections.abc import Callable
from typing import Any

from pyramid.authorization import (  # type: ignore[import-untyped]
    ACLHelper,
    Authenticated,
    Everyone,
)
from pyramid.interfaces import (  # type: ignore[import-untyped]
    ICSRFStoragePolicy,
    ISecurityPolicy,
)
from pyramid.request import RequestLocalCache  # type: ignore[import-untyped]
from zope.interface import implementer  # type: ignore[import-untyped]

__all__ = ["CSRFStoragePolicy", "SessionSecurityPolicy"]


@implementer(ICSRFStoragePolicy)
class CSRFStoragePolicy:
    """Pyramid's CSRF checks with our tokens: masked anew on each page, new after each login."""

    def new_csrf_token(self, request: Any) -> str:
        token: str = request.session.new_csrf_token()
        return token

    def get_csrf_token(self, request: Any) -> str:
        token: str = request.session.csrf_token
        return token

    def check_csrf_token(self, request: Any, token: str) -> bool:
        good: bool = request.session.check_csrf(token)
        return good


@implementer(ISecurityPolicy)
class SessionSecurityPolicy:
    """Pyramid's security over `session.subject`, for `config.set_security_policy`.

    `user` loads the user of a subject, who is then `request.identity`; where it returns None the
    session ends, and nobody is logged in. Without it the identity is the subject. Permissions are
    those of the context's ACL, whose principals are `Everyone`, `Authenticated` and the subject;
    override `permits` for others.
    """

    def __init__(self, user: Callable[[str], Any] | None = None) -> None:
        self._user = user
        self._loaded = RequestLocalCache(lambda request: {})
        self._acl = ACLHelper()

    def identity(self, request: Any) -> Any:
        subject = request.session.subject
        if subject is None or self._user is None:
            return subject
        loaded: dict[str, Any] = self._loaded.get_or_create(request)
        if subject not in loaded:
            loaded[subject] = self._user(subject)
        if loaded[subject] is None:
            request.session.logout()
        return loaded[subject]

    def authenticated_userid(self, request: Any) -> str | None:
        subject: str | None = request.session.subject
        return None if self.identity(request) is None else subject

    def permits(self, request: Any, context: Any, permission: str) -> Any:
        subject = self.authenticated_userid(request)
        principals = [Everyone] if subject is None else [Everyone, Authenticated, subject]
        return self._acl.permits(context, principals, permission)

    def remember(self, request: Any, userid: str, **options: Any) -> list[tuple[str, str]]:
        """`session.login`, with its options; the response gets its cookie by itself."""
        request.session.login(userid, **options)
        return []

    def forget(self, request: Any, **_: Any) -> list[tuple[str, str]]:
        """`session.logout`."""
        request.session.logout()
        return []
