"""The tables: how they are made and known for ours, and what their server is set up to do.

Beside the sessions' table there is one of not-before marks, named after it: a row for each subject
that has one. A table's comment says that it is ours, and its version; a dump keeps it, and nothing
else is needed. They are made under an advisory lock, so that ten processes may start at once, and
each where it is missing.

Every save changes `expires_at`, and PostgreSQL can only then keep a row's new version on its page,
without touching any index (a "HOT" update), when no index has a column that changed. So sweeps go
by `due`, the hour of the expiry, which changes seldom; and pages are left 15 % empty. Payloads are
sealed, hence not worth a try to compress.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NoReturn

from psycopg import sql
from psycopg.pq.abc import PGresult

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.store import Risk
from coatcheck.stores._postgres.link import Unit
from coatcheck.stores._postgres.rows import texts

__all__ = ["Found", "Schema"]

_VERSION = 1
_KINDS = ("sessions", "marks")
_LONGEST = 50  # of 63 bytes; the names of the marks and of the indexes are longer
_LOCK = 0x436F6174  # "Coat"

_TURN = f"SELECT pg_advisory_xact_lock({_LOCK})"

_LOOK = b"""
SELECT kind.relkind, kind.relpersistence, obj_description(kind.oid, 'pg_class'),
    current_setting('server_encoding'), pg_is_in_recovery(), current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('synchronous_commit')
FROM unnest($1::text[]) WITH ORDINALITY AS named (name, place)
LEFT JOIN pg_class AS kind ON kind.oid = to_regclass(named.name)
ORDER BY named.place
"""
_RISKS = {
    ("fsync", "off"): "a crash of the server's machine can damage every table; set it to on",
    ("full_page_writes", "off"): "a crash of the server's machine can damage tables; set it to on, "
    "unless the file system never writes half a page",
    ("synchronous_commit", "off"): "a crash of the server can undo the saves and the logins of the "
    "last moments (sessions that ended stay ended); set it to on where that is too much",
}


class Relation(NamedTuple):
    """What has a table's name; `kind` is None where nothing has."""

    kind: str | None
    persistence: str | None
    comment: str | None


class Found(NamedTuple):
    """What is on the server."""

    relations: list[Relation]
    """Of the sessions, and of the marks."""
    encoding: str
    standby: bool
    settings: dict[str, str]

    def risks(self) -> list[Risk]:
        return [
            Risk(f"{name} {value}", _RISKS[name, value])
            for name, value in self.settings.items()
            if (name, value) in _RISKS
        ]


class Schema:
    """Of tables named like "sessions" or "app.sessions", whatever characters the names have."""

    def __init__(self, table: str, *, unlogged: bool = False) -> None:
        names = _checked(table)
        self._name = names[-1]
        self._shown = (table, f"{table}_marks")
        self._unlogged = unlogged
        self.sessions = _quoted(*names)
        self.marks = _quoted(*names[:-1], f"{self._name}_marks")

    def script(self) -> str:
        statements = [_TURN, *self._sessions(), *self._marks()]
        return ";\n".join(["BEGIN", *statements, "COMMIT"]) + ";\n"

    def look(self) -> Unit[Found]:
        names = texts([self.sessions, self.marks])
        return Unit(steps=[(_LOOK, [names])], read=_found, once=True)

    def make(self) -> Unit[None]:
        """Make what is missing by the time of one's turn.

        What another process made meanwhile is in use, and not even looked at: to alter a table is
        to wait for all who write to it, and may deadlock with one of them.
        """
        tables = (self.sessions, self._sessions()), (self.marks, self._marks())
        body = "\n".join(_unless_there(name, statements) for name, statements in tables)
        tag = next(tag for n in itertools.count() if (tag := f"$make{n}$") not in body)
        block = f"DO {tag} BEGIN\n{body}\nEND {tag}"
        steps = [(statement.encode(), ()) for statement in (_TURN, block)]
        return Unit(steps=steps, read=lambda _: None, once=True)

    def is_there(self, found: Found) -> bool:
        """Whether they are, and ours. Raises `ConfigurationError` for what never can be."""
        if found.encoding != "UTF8":
            self._refuse("a database in UTF8", found.encoding, "create one with ENCODING 'UTF8'")
        if found.standby:
            raise StoreUnavailable(
                "PostgresStore: expected the primary server, got a standby; name the primary, or "
                "all hosts"
            )
        for number, relation in enumerate(found.relations):
            if relation.kind is not None:
                self._check(relation, number)
        return all(relation.kind is not None for relation in found.relations)

    def missing(self, found: Found) -> StoreUnavailable:
        names = zip(self._shown, found.relations, strict=True)
        missing = [name for name, relation in names if relation.kind is None]
        return StoreUnavailable(
            f"PostgresStore: expected the table {missing[0]}, got none; create it with what "
            "coatcheck.stores.postgres.schema() gives, or let the store do so with create=True"
        )

    def _sessions(self) -> list[str]:
        """What makes the table of sessions, and leaves one that is there alone."""
        return [
            f"""CREATE {self._kind} IF NOT EXISTS {self.sessions} (
    id uuid PRIMARY KEY,
    expires_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    login_at bigint,
    due integer NOT NULL,
    revision bytea NOT NULL,
    subject text COLLATE "C",
    payload bytea NOT NULL
) WITH (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
)""",
            f"ALTER TABLE {self.sessions} ALTER COLUMN payload SET STORAGE EXTERNAL",
            f"CREATE INDEX IF NOT EXISTS {self._index('subject')} ON {self.sessions} (subject, id) "
            "WHERE subject IS NOT NULL",
            f"CREATE INDEX IF NOT EXISTS {self._index('due')} ON {self.sessions} (due)",
            f"COMMENT ON TABLE {self.sessions} IS '{_comment(0)}'",
        ]

    def _marks(self) -> list[str]:
        """The same of the table of marks."""
        return [
            f"""CREATE {self._kind} IF NOT EXISTS {self.marks} (
    subject text COLLATE "C" PRIMARY KEY,
    before bigint NOT NULL,
    keep uuid,
    until bigint NOT NULL
)""",
            f"CREATE INDEX IF NOT EXISTS {self._index('until')} ON {self.marks} (until)",
            f"COMMENT ON TABLE {self.marks} IS '{_comment(1)}'",
        ]

    @property
    def _kind(self) -> str:
        return "UNLOGGED TABLE" if self._unlogged else "TABLE"

    def _index(self, column: str) -> str:
        return _quoted(f"{self._name}_by_{column}")

    def _check(self, relation: Relation, number: int) -> None:
        text, start = relation.comment or "", _comment(number, version="")
        version = text.removeprefix(start)
        if relation.kind != "r" or version == text or not version.isdigit():
            self._refuse(f"a table of {_KINDS[number]}", "another", "another table's name", number)
        if int(version) != _VERSION:
            self._refuse(
                f"{_KINDS[number]} of version {_VERSION}",
                f"version {version}",
                "a newer coatcheck",
                number,
            )
        unlogged = relation.persistence == "u"
        if unlogged != self._unlogged:
            kinds, made = ("a logged table", "an unlogged one"), ("LOGGED", "UNLOGGED")
            self._refuse(
                kinds[self._unlogged],
                kinds[unlogged],
                f"unlogged={unlogged}, or ALTER TABLE … SET {made[self._unlogged]}",
                number,
            )

    def _refuse(self, expected: str, got: str, remedy: str, number: int = 0) -> NoReturn:
        raise ConfigurationError(
            f"PostgresStore: expected {expected}, got {got} for {self._shown[number]} (left as it "
            f"was); use {remedy}"
        )


def _found(results: Sequence[PGresult]) -> Found:
    [result] = results
    rows = [
        [result.get_value(row, column) for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]
    encoding, standby, *settings = rows[0][3:]
    names = ("fsync", "full_page_writes", "synchronous_commit")
    return Found(
        [Relation(*map(_text, row[:3])) for row in rows],
        _text(encoding) or "",
        standby == b"\x01",
        {name: _text(value) or "" for name, value in zip(names, settings, strict=True)},
    )


def _comment(number: int, version: object = _VERSION) -> str:
    return f"coatcheck {_KINDS[number]}, version {version}"


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _unless_there(name: str, statements: Iterable[str]) -> str:
    literal = name.replace("'", "''")
    made = ";\n".join(statements)
    return f"IF to_regclass('{literal}') IS NULL THEN\n{made};\nEND IF;"


def _checked(table: str) -> list[str]:
    names = table.split(".") if isinstance(table, str) else []
    if not 1 <= len(names) <= 2 or not all(
        name.isprintable() and 0 < len(name.encode()) <= _LONGEST for name in names
    ):
        raise ConfigurationError(
            f"PostgresStore: expected table to be a name, or schema.name, of up to {_LONGEST} "
            f"bytes each, got {table!r:.80}; pass 'coatcheck_sessions', say"
        )
    return names
