"""The SQL of each verb, over a batch of calls; tables' names come quoted.

Every write first locks the rows that it is about, in the order of their ids, and compares with what
it locked: under READ COMMITTED that is the newest version, whatever the statement's snapshot shows.
A batch skips rows that others hold a lock on (`SKIP LOCKED`): it never waits for a row, so two
batches cannot wait for each other, and one busy row holds nobody up. A write that waits holds no
other row meanwhile, since it is about one alone. A batch holds an id once.

What ends a session, or makes it another subject's, tells those who listen (`listening`).

Each row of an answer has a state: `done`; `found`, with what is there instead; `locked`, where a
row is there that was skipped; `gone`.
"""

from collections.abc import Sequence

from coatcheck.stores._postgres.rows import RECORD

__all__ = [
    "LOCKS",
    "WRITTEN",
    "create",
    "delete",
    "save",
    "select",
    "silence",
    "sweep",
    "sweep_marks",
    "tell_if",
    "touch",
]

WRITTEN = (*RECORD, "due")
"""What is written of a record: `create` and `save` take these columns first, in this order."""

LOCKS = 16
_FIRST = 0x436F6100  # "Coa", and which of the locks

_RECORD = ", ".join(RECORD)
_TYPES = ["uuid[]", "bytea[]", "text[]", "int8[]", "int8[]", "int8[]", "bytea[]", "int8[]"]


def select(table: str, where: str) -> bytes:
    return f"SELECT {_RECORD} FROM {table} WHERE {where}".encode()  # noqa: S608 - quoted


def create(table: str) -> bytes:
    given = _given([*_TYPES, "int8[]"], [*WRITTEN, "now"])
    replaced = ", ".join(f"{name} = excluded.{name}" for name in WRITTEN if name != "id")
    return f"""
        WITH given AS (SELECT * FROM {given})
        INSERT INTO {table} AS kept ({", ".join(WRITTEN)})
        SELECT {", ".join(WRITTEN)} FROM given ORDER BY id
        ON CONFLICT (id) DO UPDATE SET {replaced}
        WHERE kept.expires_at <= (SELECT given.now FROM given WHERE given.id = excluded.id)
        RETURNING kept.id
    """.encode()  # noqa: S608 - the name comes quoted


def save(table: str, wait: bool) -> bytes:
    given = _given([*_TYPES, "bytea[]", "int8[]"], [*WRITTEN, "expected", "now"])
    changes = ", ".join(f"{name} = given.{name}" for name in WRITTEN if name != "id")
    told = tell_if("locked.subject IS DISTINCT FROM given.subject")
    change = f"""
            UPDATE {table} AS kept SET {changes}
            FROM {given} JOIN locked ON locked.id = given.id
            WHERE kept.id = locked.id
            AND locked.revision = given.expected AND locked.expires_at > given.now
            RETURNING kept.id, true AS live, {told}
    """  # noqa: S608
    found = "".join(f", locked.{name}" for name in RECORD)
    return _write(table, wait, _RECORD, change, found)


def touch(table: str, wait: bool) -> bytes:
    names = ("id", "revision", "seen_at", "expires_at", "due", "now")
    given = _given(["uuid[]", "bytea[]", *["int8[]"] * 4], names)
    changes = ", ".join(
        f"{name} = greatest(kept.{name}, given.{name})" for name in ("seen_at", "expires_at", "due")
    )
    change = f"""
            UPDATE {table} AS kept SET {changes}
            FROM {given} JOIN locked ON locked.id = given.id
            WHERE kept.id = locked.id
            AND locked.revision = given.revision AND locked.expires_at > given.now
            RETURNING kept.id, true AS live
    """  # noqa: S608
    return _write(table, wait, "id, revision, expires_at", change)


def delete(table: str, wait: bool) -> bytes:
    """What has expired goes too: a process whose clock is behind would take it for alive."""
    told = tell_if("locked.expires_at > given.now")
    change = f"""
            DELETE FROM {table} AS kept
            USING {_given(["uuid[]", "int8[]"], ["id", "now"])} JOIN locked ON locked.id = given.id
            WHERE kept.id = locked.id
            RETURNING kept.id, locked.expires_at > given.now AS live, {told}
    """  # noqa: S608
    return _write(table, wait, "id, expires_at", change)


def sweep(table: str) -> bytes:
    return f"""
        WITH expired AS MATERIALIZED (
            SELECT id FROM {table} WHERE due <= $1::int8 AND expires_at <= $2::int8
            ORDER BY due LIMIT $3::int8 FOR UPDATE SKIP LOCKED
        )
        DELETE FROM {table} AS kept USING expired WHERE kept.id = expired.id
    """.encode()  # noqa: S608


def sweep_marks(marks: str) -> bytes:
    return f"""
        WITH lapsed AS MATERIALIZED (
            SELECT subject FROM {marks} WHERE until <= $1::int8
            ORDER BY until LIMIT $2::int8 FOR UPDATE SKIP LOCKED
        )
        DELETE FROM {marks} AS kept USING lapsed WHERE kept.subject = lapsed.subject
    """.encode()  # noqa: S608


def silence(number: str, table: str) -> str:
    """The advisory lock of that number, of a table: who has it alone knows that nobody listens."""
    return f"(({_FIRST} + {number})::int8 << 32 | {table}::int8)"


def tell_if(condition: str) -> str:
    """For RETURNING of what changes `kept`: tell listeners its id, where that holds."""
    lock = silence(f"get_byte(uuid_send(kept.id), 15) % {LOCKS}", "kept.tableoid")
    return (
        f"CASE WHEN {condition} AND NOT pg_try_advisory_xact_lock{lock} THEN"
        " pg_notify('coatcheck_' || kept.tableoid, encode(uuid_send(kept.id), 'hex')) END AS told"
    )


def _write(table: str, wait: bool, locked: str, change: str, answer: str = "") -> bytes:
    """Lock, compare and change, and say of each id what became of it."""
    return f"""
        WITH locked AS (
            SELECT {locked} FROM {table} WHERE id = ANY ($1::uuid[])
            ORDER BY id FOR UPDATE {"" if wait else "SKIP LOCKED"}
        ), done AS (
            {change}
        )
        SELECT given.id,
            CASE WHEN done.live THEN 'done'
                 WHEN done.id IS NOT NULL THEN 'gone'
                 WHEN locked.id IS NOT NULL THEN 'found'
                 WHEN EXISTS (SELECT FROM {table} AS kept WHERE kept.id = given.id) THEN 'locked'
                 ELSE 'gone' END {answer}
        FROM unnest($1::uuid[]) AS given (id)
        LEFT JOIN done ON done.id = given.id
        LEFT JOIN locked ON locked.id = given.id AND done.id IS NULL
    """.encode()  # noqa: S608


def _given(types: Sequence[str], names: Sequence[str]) -> str:
    """The parameters as rows."""
    arrays = ", ".join(f"${number}::{kind}" for number, kind in enumerate(types, 1))
    return f"unnest({arrays}) AS given ({', '.join(names)})"
