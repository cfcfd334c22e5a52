"""Quart: `app.session_interface = CoatcheckSessionInterface(sessions)`.

`quart.session` is the session, and so is `current()`. It is committed when the `after_request`
functions are through, before the response is sent; a response that is a 5xx keeps only a
`logout()`. Quart does not come to that point with every error, so those of the app's methods are
followed through which all of them pass: in testing and in debug mode, too, they keep only a
`logout()`, and where the store was out of reach the answer is 503. What is cancelled keeps only a
`logout()`, too.

A WebSocket has its session on connect: it is committed with the acceptance, whose headers carry the
cookie. A handshake that is refused by a close can set no cookie, so it keeps only a `logout()`.
"""

from coatcheck.web.quart.hook import CoatcheckSessionInterface
from coatcheck.web.quart.security import login_required, require_login, setup_csrf

__all__ = ["CoatcheckSessionInterface", "login_required", "require_login", "setup_csrf"]
