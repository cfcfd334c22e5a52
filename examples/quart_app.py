"""Sessions on Quart: log in, count visits, see your devices, log out.

Run `python examples/quart_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os
from typing import Any

from quart import Quart, flash, redirect, render_template_string, request, url_for

from coatcheck import AsyncSessions, current
from coatcheck.gate import LoginGate, safe_next
from coatcheck.stores.memory import AsyncMemoryStore
from coatcheck.web.quart import CoatcheckSessionInterface, require_login

LOGIN = "<form method=post>Name <input name=name required><button>Log in</button></form>"
HOME = """<h1>{{ subject }}</h1><p>Visits: {{ visits }}
{% for message in get_flashed_messages() %}<p><b>{{ message }}</b>{% endfor %}
<form method=post action="{{ url_for('logout') }}"><button>Log out</button></form>
{% for info in devices %}<form method=post action="{{ url_for('end', id=info.id) }}">
{{ info.client.agent }} <button>End</button></form>{% endfor %}"""

sessions = AsyncSessions(AsyncMemoryStore())
app = Quart(__name__)
app.session_interface = CoatcheckSessionInterface(sessions)  # type: ignore[assignment]
app.before_request(require_login(LoginGate(login="/login")))


@app.get("/")
async def home() -> str:
    subject = current().subject or ""  # the gate lets nobody else in
    visits = current().edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    devices = await sessions.list_for(subject)
    return await render_template_string(HOME, subject=subject, visits=visits, devices=devices)


@app.route("/login", methods=["GET", "POST"])
async def login() -> Any:
    if request.method == "GET":
        return LOGIN
    current().login(f"user:{(await request.form)['name']}")  # a real site asks for a password here
    await flash("Welcome!")
    return redirect(safe_next(request.args.get("next")), 303)


@app.post("/end/<id>")
async def end(id: str) -> Any:
    await sessions.revoke(id, subject=current().subject)
    return redirect(url_for("home"), 303)


@app.post("/logout")
async def logout() -> Any:
    current().logout()
    return redirect(url_for("login"), 303)


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8000")))
