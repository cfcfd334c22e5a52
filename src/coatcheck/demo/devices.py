"""Your devices: every session of the user who is logged in, and ending them."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coatcheck import SessionInfo, current
from coatcheck.demo.agents import Agent, agent_of
from coatcheck.demo.forms import read_form
from coatcheck.demo.pages import render, site_of

__all__ = ["devices", "end", "end_others"]


@dataclass(frozen=True, slots=True)
class Device:
    """A session as its owner sees it."""

    info: SessionInfo
    agent: Agent


async def devices(request: Request) -> Response:
    session, site = current(), site_of(request)
    if not site.sessions.is_listable:
        return await render(
            request, "devices.html", devices=None, can_end_others=site.can_end_others
        )
    infos = await site.sessions.list_for(request.user.subject, current=session.id)
    infos.sort(key=lambda info: not info.current)
    found = [Device(info, agent_of(info.client.agent)) for info in infos]
    return await render(request, "devices.html", devices=found, can_end_others=len(found) > 1)


async def end(request: Request) -> Response:
    form = await read_form(request)
    session = current()
    if form["id"] == session.id:
        session.logout()
        return RedirectResponse("/goodbye", 303)
    if not site_of(request).sessions.is_listable:
        return RedirectResponse("/devices", 303)
    if await site_of(request).sessions.revoke(form["id"], request.user.subject):
        session.flash("That device is logged out.", "success")
    else:
        session.flash("That session was over already.")
    return RedirectResponse("/devices", 303)


async def end_others(request: Request) -> Response:
    await read_form(request)
    session, site = current(), site_of(request)
    if site.can_end_others:
        ended = await site.sessions.revoke_all(request.user.subject, keep=session.id)
        session.flash(_said(ended) if site.sessions.is_listable else _ALL, "success")
    return RedirectResponse("/devices", 303)


_ALL = "Every other device is logged out."


def _said(ended: int) -> str:
    return f"{ended} other {'device' if ended == 1 else 'devices'} logged out."
