"""A uvicorn with one library's app, in a process of its own: `python -m benchmarks.server NAME`.

It prints its port and the cookie of a session as one line of JSON, and ends with its parent.
"""

import asyncio
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn

from benchmarks.libraries import BARE, make, sign_in

__all__ = ["main"]

_PARENT_LOOKS = 1.0


async def _serve(name: str, folder: Path, port: socket.socket) -> None:
    library = make(name, folder)
    bare = library.name == BARE
    cookie = "session=none" if bare else await sign_in(library)
    config = uvicorn.Config(
        library.app("untouched" if bare else "read"),
        lifespan="off",
        log_level="critical",
        access_log=False,
    )
    server = uvicorn.Server(config)
    looking = asyncio.create_task(_end_with_parent(server, os.getppid()))
    print(json.dumps({"port": port.getsockname()[1], "cookie": cookie}), flush=True)
    await server.serve(sockets=[port])
    looking.cancel()
    if library.close is not None:
        await library.close()


async def _end_with_parent(server: uvicorn.Server, parent: int) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_LOOKS)
    server.should_exit = True


def _listening() -> socket.socket:
    """A free port. asyncio turns Nagle's delay off only for sockets that say they are TCP."""
    port = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    port.bind(("127.0.0.1", 0))
    return port


def main(name: str) -> None:
    factory = uvicorn.Config(lambda: None).get_loop_factory()
    with (
        tempfile.TemporaryDirectory() as folder,
        _listening() as port,
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        runner.run(_serve(name, Path(folder), port))


if __name__ == "__main__":
    main(sys.argv[1])
