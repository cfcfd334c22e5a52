"""Tornado: a mixin for handlers, and `setup`, which tells it of an application's sessions.

The session is opened in `prepare`. It is committed when the handler finishes, or first flushes.
Both are plain calls in Tornado, and a commit is not, so they only say what is to be sent: the head
goes out when the commit is done, and the future that they return is done when it is out. Till then
the handler counts as finished, as Tornado's own code and that of applications expects after
`finish()`, `redirect()` or `render()`. A commit that fails is an error of the handler's like any
other. A 5xx, and an exception that is no response, keep nothing of the request but a `logout()`.
Where the store was out of reach and the app did not answer for that itself, the answer is 503.

A WebSocket's handshake does not wait: Tornado takes the connection away in the same breath. So its
session is committed before the handshake begins, after `prepare`.
"""

from coatcheck.web.tornado.application import setup
from coatcheck.web.tornado.hook import SessionMixin
from coatcheck.web.tornado.security import CSRFMixin, LoginMixin, login_required

__all__ = ["CSRFMixin", "LoginMixin", "SessionMixin", "login_required", "setup"]
