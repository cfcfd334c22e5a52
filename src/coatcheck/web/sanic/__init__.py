"""Sanic, on its own server and under ASGI: one call attaches middleware, signals and listeners.

The session is opened in a request middleware that runs before all others, and committed in a
response middleware that runs after all others: in `request.respond()`, before anything is sent, of
a streamed response too. Two of Sanic's ways are met here:

- Sanic only logs what a response middleware raises, and sends the response all the same. So a
  commit that is refused puts a response in the app's place that raises where it is sent, and a 503
  one that drops what the app still sends.
- A response middleware that answers, or raises, ends the chain before ours. So the signal
  `http.lifecycle.response`, which every response meets, commits what is not committed yet.

`current()` follows `Request.get_current()`. The handshake of a WebSocket is over before its
handler runs, and can set no cookie: it keeps only a `logout()`, like an error.
"""

from coatcheck.web.sanic.hook import setup
from coatcheck.web.sanic.security import login_required, setup_csrf, setup_gate

__all__ = ["login_required", "setup", "setup_csrf", "setup_gate"]
