"""The demo: a small shop that shows what a session is, and what becomes of it.

It is one Starlette app on uvicorn, and an example to copy from:

    server.py     the store, the users, the sockets; `run` is what `coatcheck demo` calls
    app.py        the app: routes, middleware, error pages
    accounts.py   register, log in, log out
    account.py    the careful page: step-up by password and one-time code, new password
    shop.py       goods, cart and checkout; race.py fires overlapping requests at the cart
    devices.py    where a user is logged in, and ending that
    activity.py   what happened to a user's sessions, in plain words
    live.py       a WebSocket that ends with its session
    inside.py     what this browser holds beside what the store holds
    users.py      who may log in: nothing of coatcheck, any site has its own
    codes.py      their one-time codes
    agents.py     telling browsers apart
    diary.py      the latest events, in memory
    forms.py      reading a form, and its CSRF token
    pages.py      rendering a page
    hardening.py  security headers, and pages for bare answers
"""

from coatcheck.demo.server import run

__all__ = ["run"]
