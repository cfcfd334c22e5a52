"""The demo: a small shop that shows what a session is, and what becomes of it.

It is one Starlette app on uvicorn, and an example to copy from:

    server.py     the store, the users, the sockets; `run` is what `coatcheck demo` calls
    app.py        the app: routes, middleware, error pages
    accounts.py   register, log in, log out
    shop.py       goods, cart and checkout; race.py fires overlapping requests at the cart
    devices.py    where a user is logged in, and ending that
    inside.py     what this browser holds beside what the store holds
    users.py      who may log in: nothing of coatcheck, any site has its own
    forms.py      reading a form, and its CSRF token
    pages.py      rendering a page
    hardening.py  security headers, and the page for an outage
"""

from coatcheck.demo.server import run

__all__ = ["run"]
