"""aiohttp: a middleware, or `setup`, which adds it to an app and sweeps while the app runs.

The session is opened before the handler runs. A whole response is committed when the handler
returns or raises it, so that a commit which fails is an error of the handler's like any other. A
response that is prepared inside the handler (a stream, a WebSocket, a file) is committed right
before its head is written. A 5xx, and an exception that is no response, keep nothing of the request
but a `logout()`. Where the store was out of reach and the app did not answer for that itself, the
answer is 503.

aiohttp's own hook before a response's head is the signal `on_response_prepare`. A middleware cannot
listen to it: it does not know its app until the first request comes, and then the signal is frozen.
But every response, whoever made it and whatever middleware replaced it, hands its head to the
request's writer, at last and once; so that is where the headers are merged.
"""

from coatcheck.web.aiohttp.hook import session_middleware, setup
from coatcheck.web.aiohttp.request import get_session, get_user
from coatcheck.web.aiohttp.security import csrf_middleware, login_middleware, login_required

__all__ = [
    "csrf_middleware",
    "get_session",
    "get_user",
    "login_middleware",
    "login_required",
    "session_middleware",
    "setup",
]
