"""Your devices: every session of the user who is logged in, and ending them."""

from dataclasses import dataclass

import ua_parser
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coatcheck import SessionInfo, current
from coatcheck.demo.forms import read_form
from coatcheck.demo.pages import render, site_of

__all__ = ["devices", "end", "end_others"]


@dataclass(frozen=True, slots=True)
class Device:
    """A session as its owner sees it."""

    info: SessionInfo
    browser: str
    system: str
    is_handheld: bool
    is_this: bool


async def devices(request: Request) -> Response:
    session, sessions = current(), site_of(request).sessions
    if not sessions.is_listable:
        return render(request, "devices.html", devices=None)
    infos = await sessions.list_for(request.user.subject)
    found = [_device(info, is_this=info.id == session.id) for info in infos]
    found.sort(key=lambda device: not device.is_this)
    return render(request, "devices.html", devices=found)


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
    session, sessions = current(), site_of(request).sessions
    if not sessions.is_listable:
        return RedirectResponse("/devices", 303)
    ended = await sessions.revoke_all(request.user.subject, keep=session.id)
    session.flash(f"{ended} other {'device' if ended == 1 else 'devices'} logged out.", "success")
    return RedirectResponse("/devices", 303)


def _device(info: SessionInfo, *, is_this: bool) -> Device:
    parsed = ua_parser.parse(info.client.agent or "")
    agent, system, device = parsed.user_agent, parsed.os, parsed.device
    return Device(
        info,
        browser=_named(agent.family, agent.major) if agent else "Unknown browser",
        system=_named(system.family, system.major) if system else "unknown system",
        is_handheld=device is not None and device.family not in ("Mac", "Other"),
        is_this=is_this,
    )


def _named(family: str, version: str | None) -> str:
    return f"{family} {version}" if version else family
