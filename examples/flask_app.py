"""Sessions on Flask: log in, count visits, see your devices, log out.

Run `python examples/flask_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

import os

from flask import Flask, flash, redirect, render_template_string, request, url_for
from werkzeug.wrappers import Response

from coatcheck import Sessions, current
from coatcheck.gate import LoginGate, safe_next
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.web.flask import CoatcheckSessionInterface, require_login

LOGIN = "<form method=post>Name <input name=name required><button>Log in</button></form>"
HOME = """<h1>{{ subject }}</h1><p>Visits: {{ visits }}
{% for message in get_flashed_messages() %}<p><b>{{ message }}</b>{% endfor %}
<form method=post action="{{ url_for('logout') }}"><button>Log out</button></form>
{% for info in devices %}<form method=post action="{{ url_for('end', id=info.id) }}">
{{ info.client.agent }} <button>End</button></form>{% endfor %}"""

sessions = Sessions(SQLiteStore("sessions.sqlite3"))  # any number of workers may share the file
app = Flask(__name__)
app.session_interface = CoatcheckSessionInterface(sessions)
app.before_request(require_login(LoginGate(login="/login")))


@app.get("/")
def home() -> str:
    subject = current().subject or ""  # the gate lets nobody else in
    visits = current().edit("visits", lambda n: n + 1, default=0)  # two tabs at once both count
    devices = sessions.list_for(subject)
    return render_template_string(HOME, subject=subject, visits=visits, devices=devices)


@app.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    if request.method == "GET":
        return LOGIN
    current().login(f"user:{request.form['name']}")  # a real site asks for a password here
    flash("Welcome!")
    return redirect(safe_next(request.args.get("next")), 303)


@app.post("/end/<id>")
def end(id: str) -> Response:
    sessions.revoke(id, subject=current().subject)
    return redirect(url_for("home"), 303)


@app.post("/logout")
def logout() -> Response:
    current().logout()
    return redirect(url_for("login"), 303)


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "8000")))
