"""What a User-Agent header says of a browser, told apart by ua-parser. Anybody can forge it."""

from dataclasses import dataclass

import ua_parser

__all__ = ["Agent", "agent_of"]


@dataclass(frozen=True, slots=True)
class Agent:
    browser: str
    system: str
    is_handheld: bool

    def __str__(self) -> str:
        return f"{self.browser} on {self.system}"


def agent_of(header: str | None) -> Agent:
    parsed = ua_parser.parse(header or "")
    agent, system, device = parsed.user_agent, parsed.os, parsed.device
    return Agent(
        browser=_named(agent.family, agent.major) if agent else "Unknown browser",
        system=_named(system.family, system.major) if system else "unknown system",
        is_handheld=device is not None and device.family not in ("Mac", "Other"),
    )


def _named(family: str, version: str | None) -> str:
    return f"{family} {version}" if version else family
