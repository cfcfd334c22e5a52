"""Who sends a request: for device lists and events, never to decide anything."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Client", "ClientSource", "shown"]

_LONGEST_AGENT = 512


class Client(NamedTuple):
    """Who sent the request, for device lists. Both are shown, never used to decide anything."""

    address: str | None = None
    agent: str | None = None


ClientSource = Client | Callable[[], Client] | None
"""A client, or what makes one when it is needed."""


def shown(source: ClientSource) -> Client:
    """The client as it is kept and told: what UTF-8 can write of it, and not too much."""
    client = source() if callable(source) else source or Client()
    return Client(_text(client.address), _text(client.agent))


def _text(text: str | None) -> str | None:
    if text is None:
        return None
    return str(text)[:_LONGEST_AGENT].encode("utf-8", "replace").decode()
