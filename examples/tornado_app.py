"""Sessions on Tornado: log in, count visits, see your devices, log out.

Run `python examples/tornado_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import asyncio
import os

from tornado.escape import xhtml_escape as escape
from tornado.web import Application, RequestHandler, authenticated

from coatcheck import AsyncSessions
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.tornado import SessionMixin, setup

sessions = AsyncSessions(AsyncMemoryStore())


class Home(SessionMixin, RequestHandler):
    @authenticated  # Tornado's own
    async def get(self) -> None:
        visits = self.session.edit("visits", lambda n: n + 1, default=0)  # two tabs both count
        self.write(f"<h1>{escape(self.current_user)}</h1><p>Visits: {visits}")
        self.write("".join(f"<p><b>{escape(each.text)}</b>" for each in self.session.flashes()))
        self.write("<form method=post action=/logout><button>Log out</button></form>")
        for info in await sessions.list_for(self.current_user):
            self.write(f"<form method=post action=/end/{info.id}>{escape(str(info.client.agent))}")
            self.write("<button>End</button></form>")


class Login(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.write("<form method=post>Name <input name=name><button>Log in</button></form>")

    def post(self) -> None:
        self.session.login(f"user:{self.get_argument('name')}")  # ask for a password first
        self.session.flash("Welcome!")
        self.redirect("/", status=303)


class Leave(SessionMixin, RequestHandler):
    @authenticated
    async def post(self, device: str = "") -> None:
        if device:
            await sessions.revoke(device, subject=self.current_user)
        else:
            self.session.logout()
        self.redirect("/", status=303)


async def main() -> None:
    routes = [("/", Home), ("/login", Login), ("/logout", Leave), ("/end/(.*)", Leave)]
    app = Application(routes, login_url="/login")
    setup(app, sessions)
    app.listen(int(os.environ.get("PORT", "8000")), "localhost")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
