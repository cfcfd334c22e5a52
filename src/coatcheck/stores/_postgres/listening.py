"""Being told what ended, by LISTEN, and telling it, by NOTIFY from within what ends it.

A transaction that notifies commits alone: PostgreSQL lets one at a time do so, in all databases of
a server, and holds the others up until its commit is on the disk. So nothing is told where nobody
listens. Who does holds shared advisory locks, and who ends a session tries to get one of them
exclusively: it has it, and keeps silent, only where nobody listens. There are several, by the last
digit of the id, since two who keep silent at once must not take each other for a listener.

Nothing falls between: a listener is ready when it has every lock, so that who kept silent before
has committed, and can be seen; and nobody keeps silent after.

A lock and a channel have the number of the table in their names (its OID), however it is called. A
table that was made anew has another, so the line asks for it, with each look at whether it is still
alive. The line must be a direct one: a pooler would give the connection that listens to others.
That shows by the number of the server's process, which a pooler cannot know when it greets.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from psycopg.pq.abc import PGresult

from coatcheck.errors import StoreUnavailable
from coatcheck.stores._postgres.errors import no_time
from coatcheck.stores._postgres.link import Link, Step, Unit
from coatcheck.stores._postgres.rows import integer
from coatcheck.stores._postgres.statements import LOCKS, silence
from coatcheck.stores._postgres.waiting import async_drive

__all__ = ["watch"]

T = TypeVar("T")

_PULSE = 1.0  # seconds after which a silent line is asked, and in which it has to answer

_WHERE = b"SELECT $1::text::regclass::oid, pg_backend_pid()"
_HOLD = f"""
    SELECT pg_advisory_lock_shared({silence("number", "$1")})
    FROM generate_series(0, {LOCKS - 1}) AS number
""".encode()  # noqa: S608 - the number comes as a parameter


class _Place(NamedTuple):
    """The numbers of the table and of the server's process."""

    table: int
    process: int


async def watch(
    link: Link, table: str, tell: Callable[[str], None], ready: Callable[[], None]
) -> None:
    """Until the line breaks; raises the driver's errors, or `StoreUnavailable`."""
    place = await _run(link, _where(table))
    if place.process != link.process:
        raise _pooled()
    await _run(link, _listen(place.table))
    ready()
    while True:
        try:
            for each in await async_drive(link.hear(), _PULSE):
                tell(each)
        except TimeoutError:
            if place != await _run(link, _where(table)):
                raise _moved() from None


async def _run(link: Link, unit: Unit[T]) -> T:
    try:
        return await async_drive(link.run(unit, _PULSE), _PULSE)
    except TimeoutError as error:
        raise no_time(_PULSE, "an answer from the server") from error


def _where(table: str) -> Unit[_Place]:
    def read(results: Sequence[PGresult]) -> _Place:
        return _Place(*(int.from_bytes(results[0].get_value(0, n) or b"") for n in range(2)))

    return Unit(steps=[(_WHERE, [table.encode()])], read=read, writes=False, once=True)


def _listen(table: int) -> Unit[None]:
    steps: list[Step] = [(b"LISTEN coatcheck_%d" % table, ()), (_HOLD, [integer(table)])]
    return Unit(steps=steps, read=lambda _: None, writes=False, once=True)


def _pooled() -> StoreUnavailable:
    return StoreUnavailable(
        "PostgresStore: expected a direct connection to listen on, got one through a pooler; pass "
        "listen='host=… port=…' with the server's own"
    )


def _moved() -> StoreUnavailable:
    return StoreUnavailable(
        "PostgresStore: expected the table that was listened to, got another; watch again"
    )
