"""Django in one file: log in, count visits, list devices, log out. Users are left out here.

Run `python examples/django_app.py` and open http://localhost:8000 in Chrome or Firefox.
"""

# mypy: disable-error-code="import-untyped"
import os
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils.html import format_html as html

from coatcheck import current
from coatcheck.web.django import sessions

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost"],
    INSTALLED_APPS=["coatcheck.web.django"],
    MIDDLEWARE=["coatcheck.web.django.SessionMiddleware"],  # a real site checks CSRF tokens too
    SESSION_ENGINE="coatcheck.web.django",
    SESSION_COOKIE_NAME="__Host-sessionid",
    SESSION_COOKIE_SECURE=True,
    COATCHECK_STORE="memory:",
)
FORM = "<form method=post action=/{}><button>{}</button></form>"


def home(request: HttpRequest) -> HttpResponse:
    page = html("<p>Visits: {}", request.session.edit("visits", lambda n: n + 1, default=0))
    for message in current().flashes():  # current() is the whole of coatcheck's session
        page += html("<p>{}", message.text)
    if request.session.subject is None:
        login = FORM.replace("<button>", "<input name=name><button>")
        return HttpResponse(page + html(login, "login", "Log in"))
    page += html("<h1>{}</h1>", request.session.subject) + html(FORM, "logout", "Log out")
    for info in sessions().list_for(request.session.subject):
        page += html(FORM, f"end/{info.id}", f"End {info.client.agent}")
    return HttpResponse(page)


def act(request: HttpRequest, action: str, session_id: str = "") -> HttpResponse:
    if action == "login":  # with django.contrib.auth: login(request, user)
        current().login(f"user:{request.POST['name']}")
        current().flash("Welcome!")
    elif action == "end" and request.session.subject is not None:
        sessions().revoke(session_id, subject=request.session.subject)
    elif action == "logout":
        current().logout()
    return redirect("/")


urlpatterns = [path("", home), path("<slug:action>", act), path("<slug:action>/<session_id>", act)]
if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    make_server("localhost", port, get_wsgi_application()).serve_forever()
