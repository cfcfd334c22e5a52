"""Pyramid."""

from typing import Any

from pyramid.config import Configurator  # type: ignore[import-untyped]
from pyramid.httpexceptions import exception_response  # type: ignore[import-untyped]
from pyramid.request import Request  # type: ignore[import-untyped]
from pyramid.response import Response  # type: ignore[import-untyped]

from coatcheck import Sessions
from coatcheck.gate import LoginGate
from tests.outside.talk import Framework, View
from tests.outside.wsgi import WsgiDriver


def pyramid(sessions: Sessions, view: View, gate: LoginGate | None = None) -> Any:
    def endpoint(request: Request) -> Response:
        body = request.environ["wsgi.input"].read(request.content_length)
        reply = view(request.session, body)
        if reply.raised:
            raise exception_response(reply.status, headers=reply.headers)
        response = Response(reply.body, reply.status)
        response.headerlist.extend(reply.headers)
        return response

    with Configurator() as config:
        config.include("coatcheck.web.pyramid")
        config.set_coatcheck_sessions(sessions, sweep=None)
        if gate is not None:
            config.set_login_gate(gate)
        config.add_route("home", "/")
        config.add_view(endpoint, route_name="home", request_method="POST")
    return config.make_wsgi_app()


FRAMEWORKS = {"pyramid": Framework(WsgiDriver, pyramid, is_async=False)}
