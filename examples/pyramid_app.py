"""Sessions in Pyramid: log in, count your visits, see your devices, log out.

Run `python examples/pyramid_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from html import escape
from typing import Any
from wsgiref.simple_server import make_server

from pyramid.config import Configurator  # type: ignore[import-untyped]
from pyramid.httpexceptions import HTTPSeeOther  # type: ignore[import-untyped]
from pyramid.response import Response  # type: ignore[import-untyped]
from pyramid.security import forget, remember  # type: ignore[import-untyped]

from coatcheck import Sessions
from coatcheck.stores.memory import MemoryStore
from coatcheck.web.pyramid import SessionSecurityPolicy

LOGIN = "<form method=post action=/login><input name=name><button>Log in</button></form>"
sessions = Sessions(MemoryStore())


def home(request: Any) -> Response:
    if request.authenticated_userid is None:
        return Response(LOGIN)
    visits = request.session.edit("visits", lambda n: n + 1, default=0)  # two tabs both count
    page = f"<h1>{escape(request.authenticated_userid)}</h1><p>Visits: {visits}"
    page += "".join(f"<p><b>{escape(text)}</b>" for text in request.session.pop_flash())
    page += "<form method=post action=/logout><button>Log out</button></form>"
    for info in sessions.list_for(request.authenticated_userid):
        page += f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))} "
        page += "<button>End</button></form>"
    return Response(page)


def act(request: Any) -> Response:
    action, *rest = request.matchdict["path"]
    if action == "login":  # a real site asks for a password here
        remember(request, f"user:{request.POST['name']}")
        request.session.flash("Welcome!")
    elif action == "logout":
        forget(request)
    elif request.is_authenticated:
        sessions.revoke("".join(rest), subject=request.authenticated_userid)
    return HTTPSeeOther("/")


with Configurator() as config:
    config.include("coatcheck.web.pyramid")
    config.set_coatcheck_sessions(sessions)
    config.set_security_policy(SessionSecurityPolicy())
    config.add_route("home", "/")
    config.add_view(home, route_name="home")
    config.add_route("act", "/*path")
    config.add_view(act, route_name="act", request_method="POST")
    app = config.make_wsgi_app()

if __name__ == "__main__":
    make_server("localhost", int(os.environ.get("PORT", "8000")), app).serve_forever()
