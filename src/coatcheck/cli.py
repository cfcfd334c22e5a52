"""The command `coatcheck`: make a key, sweep a store, run the demo."""

import argparse
import os
import secrets
import sys
from collections.abc import Sequence

from coatcheck.errors import CoatcheckError, ConfigurationError
from coatcheck.sessions import Sessions
from coatcheck.store import Sweepable
from coatcheck.stores import from_url

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 1 where a store failed, 2 for wrong arguments."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen) or 0)
    except ConfigurationError as error:
        print(f"coatcheck: {error}", file=sys.stderr)
        return 2
    except CoatcheckError as error:
        print(f"coatcheck: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coatcheck", description="HTTP sessions for Python.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    key = commands.add_parser("key", help="print a new key for the cookie store's KeyRing")
    key.set_defaults(run=_key)
    sweep = commands.add_parser("sweep", help="remove what has expired from a store")
    sweep.add_argument("url", metavar="URL", help="such as sqlite:///sessions.sqlite3")
    sweep.set_defaults(run=_sweep)
    demo = commands.add_parser("demo", help="run the demo site (needs the extra coatcheck[demo])")
    demo.add_argument("--host", default="localhost")
    demo.add_argument("--port", type=int, default=8000)
    demo.add_argument("--store", metavar="URL", help="where sessions are kept; a file by default")
    demo.add_argument("--limit", type=int, metavar="N", help="sessions that each user may have")
    demo.add_argument(
        "--over-limit",
        choices=["end", "refuse"],
        default="end",
        help="what a login does that is one too many: end the oldest session, or be refused",
    )
    demo.add_argument(
        "--renew-after",
        type=float,
        default=130,
        metavar="SECONDS",
        help="how often a ticket's proof is renewed, more than 120; 0 for never",
    )
    demo.set_defaults(run=_demo)
    return parser


def _key(chosen: argparse.Namespace) -> None:
    print(secrets.token_urlsafe(32))


def _sweep(chosen: argparse.Namespace) -> None:
    store = from_url(chosen.url)
    path = getattr(store, "path", None)
    if path is not None and not os.path.exists(path):
        raise ConfigurationError(
            f"sweep: expected a store that is there, got none at {path}; check the URL"
        )
    if not isinstance(getattr(store, "revocations", store), Sweepable):
        print("nothing to remove: this store drops what expired by itself")
        return
    with Sessions(store) as sessions:
        removed = sessions.sweep()
    print(f"removed {removed} expired session{'' if removed == 1 else 's'}")


def _demo(chosen: argparse.Namespace) -> None:
    try:
        from coatcheck.demo import run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"demo: expected the demo's packages, got none named {error.name!r}; "
            "install them with: pip install 'coatcheck[demo]'"
        ) from error
    run(
        host=chosen.host,
        port=chosen.port,
        store_url=chosen.store,
        limit=chosen.limit,
        over_limit=chosen.over_limit,
        renew_after=chosen.renew_after,
    )


if __name__ == "__main__":
    sys.exit(main())
