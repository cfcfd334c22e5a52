"""One row's app behind its framework's usual server, in a process of its own, on the last core.

`python -m benchmarks.frameworks.server FRAMEWORK ROW FOLDER REDIS`. It prints its port, and ends
with its parent. WSGI apps are served by waitress, ASGI apps by uvicorn.
"""

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.frameworks.apps import built
from benchmarks.frameworks.place import Place
from benchmarks.frameworks.rows import FRAMEWORKS

__all__ = ["SERVERS", "main"]

_PARENT_LOOKS = 1.0
_BACKLOG = 128


def _wsgi(app: Any, port: socket.socket) -> None:
    import waitress  # type: ignore[import-untyped]

    waitress.serve(app, sockets=[port])


def _asgi(app: Any, port: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[port])


def _sanic(app: Any, port: socket.socket) -> None:
    app.run(sock=port, single_process=True, access_log=False, motd=False)


def _aiohttp(app: Any, port: socket.socket) -> None:
    from aiohttp import web

    web.run_app(app, sock=port, access_log=None, print=None)


def _tornado(app: Any, port: socket.socket) -> None:
    from tornado.httpserver import HTTPServer

    async def serve() -> None:
        port.setblocking(False)
        HTTPServer(app).add_socket(port)
        await asyncio.Event().wait()

    asyncio.run(serve())


SERVERS: dict[str, Callable[[Any, socket.socket], None]] = {
    "wsgi": _wsgi,
    "asgi": _asgi,
    "sanic": _sanic,
    "aiohttp": _aiohttp,
    "tornado": _tornado,
}


def main(framework: str, row: str, folder: str, redis: str) -> None:
    # The parent, whose cores are inherited, has left the last one; a start may take all of them.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    app = built(framework, row, Place(Path(folder), redis))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    port = _listening()
    print(port.getsockname()[1], flush=True)
    SERVERS[FRAMEWORKS[framework].protocol](app, port)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_LOOKS)
    os._exit(0)


def _listening() -> socket.socket:
    """A free port. asyncio turns Nagle's delay off only for sockets that say they are TCP."""
    port = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    port.bind(("127.0.0.1", 0))
    port.listen(_BACKLOG)
    return port


if __name__ == "__main__":
    main(*sys.argv[1:])
