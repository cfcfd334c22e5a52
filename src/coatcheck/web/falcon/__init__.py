"""Falcon, WSGI and ASGI: middleware in Falcon's sense, a hook for the login gate, an error handler.

The session is opened in `process_request` and committed in `process_response`: after the
responder, the error handlers and the `process_response` of every middleware listed later, and
before Falcon sends the head of a body or of a stream. What Falcon renders after that, `resp.media`,
is rendered before the commit, so that a body that cannot be rendered drops the request's edits.

Falcon makes a response of every exception and keeps the exception to itself. Where the session met
the outage, its 500 is replaced by a 503. Where something else did, such as `sessions.list_for`, it
takes an error handler: `handle_outage`. An exception that an error handler raises goes past the
middleware, unless it is Falcon's own: it takes the WSGI or ASGI middleware around the app to see
it. What that has opened is shown here, and left to it.

A WebSocket has no hook after its responder, so what Falcon sends is sent through the ASGI
adapter's own `Outgoing`: the commit goes with `ws.accept()`, whose headers carry the cookie.
"""

from coatcheck.web.falcon.async_hook import AsyncSessionMiddleware, async_handle_outage
from coatcheck.web.falcon.hook import SessionMiddleware, handle_outage
from coatcheck.web.falcon.security import (
    AsyncCSRFMiddleware,
    AsyncLoginMiddleware,
    CSRFMiddleware,
    LoginMiddleware,
    async_login_required,
    login_required,
)

__all__ = [
    "AsyncCSRFMiddleware",
    "AsyncLoginMiddleware",
    "AsyncSessionMiddleware",
    "CSRFMiddleware",
    "LoginMiddleware",
    "SessionMiddleware",
    "async_handle_outage",
    "async_login_required",
    "handle_outage",
    "login_required",
]
