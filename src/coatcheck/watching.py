"""What outlives its request, such as a socket, learns that its session ended.

`Watch` is what a socket has of it. All of those of one `AsyncSessions` and event loop share a
`Watcher`, which begins with the first and ends with the last.
"""

import asyncio
from types import TracebackType
from typing import Self

from coatcheck.lifecycle import Reason
from coatcheck.session import Session
from coatcheck.sessions import AsyncSessions
from coatcheck.watcher import Watcher

__all__ = ["Reason", "Watch"]


class Watch:
    """Watches the session while the `async with` block runs, from how its request left it.

    A session that is not stored has nothing that could end, so it is waited for in vain.
    """

    over: "asyncio.Future[Reason]"
    """Done when the session is over, for whoever cannot await; there from the start on."""

    def __init__(self, sessions: AsyncSessions, session: Session) -> None:
        self._sessions = sessions
        self._origin = session._origin
        self._watcher: Watcher | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def ended(self) -> Reason | None:
        """Why the session is over, or None while it goes on.

        "ended": it was logged out or revoked. "expired": its time was up. "replaced": it has
        another subject now.
        """
        is_over = self.over.done() and not self.over.cancelled()
        return self.over.result() if is_over else None

    async def wait(self) -> Reason:
        """Wait until the session is over, and say why."""
        return await asyncio.shield(self.over)

    def seen(self) -> None:
        """A message came, so the session was used. It is written in the background, at most once
        in a twentieth of the idle time; what ended stays ended, and the hard end stays too."""
        if self._watcher is not None and self._origin is not None:
            self._watcher.see(self._origin.record.id, self.over)

    def start(self) -> None:
        """Begin, in the loop that runs."""
        loop = asyncio.get_running_loop()
        self.over = loop.create_future()
        if self._origin is not None:
            self._watcher = _watcher_of(self._sessions, loop)
            self._watcher.join(self.over, self._origin)

    async def stop(self) -> None:
        """Watch no longer. What the last one's watcher was about is done when this returns."""
        watcher, self._watcher = self._watcher, None
        if watcher is None or self._origin is None:
            return
        watcher.leave(self.over, self._origin.record.id)
        if not watcher.members:
            _watchers.pop((self._sessions, self.over.get_loop()), None)
            await watcher.stop()


_watchers: dict[tuple[AsyncSessions, asyncio.AbstractEventLoop], Watcher] = {}


def _watcher_of(sessions: AsyncSessions, loop: asyncio.AbstractEventLoop) -> Watcher:
    watcher = _watchers.get((sessions, loop))
    if watcher is None:
        _drop_those_of_closed_loops()
        watcher = _watchers[sessions, loop] = Watcher(sessions)
    return watcher


def _drop_those_of_closed_loops() -> None:
    """A loop that was closed without its tasks' ends left its watcher, and all it holds."""
    for each in [each for each in list(_watchers) if each[1].is_closed()]:
        _watchers.pop(each, None)
