"""The table: how it is made, how it is known for ours, and what its server is set up to do.

Its comment says that it is ours, and its version; a dump keeps it, and nothing else is needed. It
is made under an advisory lock, so that ten processes may start at once.

Every save changes `expires_at`, and PostgreSQL can only then keep a row's new version on its page,
without touching any index (a "HOT" update), when no index has a column that changed. So sweeps go
by `due`, the hour of the expiry, which changes seldom; and pages are left 15 % empty. Payloads are
sealed, hence not worth a try to compress.
"""

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from psycopg import sql
from psycopg.pq.abc import PGresult

from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.store import Risk
from coatcheck.stores._postgres.link import Unit

__all__ = ["Found", "Schema"]

_VERSION = 1
_COMMENT = "coatcheck sessions, version "
_LONGEST = 50  # of 63 bytes; the indexes' names are longer
_LOCK = 0x436F6174  # "Coat"

_LOOK = b"""
SELECT kind.relkind, kind.relpersistence, obj_description(kind.oid, 'pg_class'),
    current_setting('server_encoding'), pg_is_in_recovery(), current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('synchronous_commit')
FROM (SELECT to_regclass($1::text) AS oid) AS named LEFT JOIN pg_class AS kind USING (oid)
"""
_RISKS = {
    ("fsync", "off"): "a crash of the server's machine can damage every table; set it to on",
    ("full_page_writes", "off"): "a crash of the server's machine can damage tables; set it to on, "
    "unless the file system never writes half a page",
    ("synchronous_commit", "off"): "a crash of the server can undo the saves and the logins of the "
    "last moments (sessions that ended stay ended); set it to on where that is too much",
}


class Found(NamedTuple):
    """What is on the server."""

    kind: str | None
    persistence: str | None
    comment: str | None
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
    """Of a table named like "sessions" or "app.sessions", whatever characters the names have."""

    def __init__(self, table: str, *, unlogged: bool = False) -> None:
        self._names = _checked(table)
        self._shown = table
        self._unlogged = unlogged
        self.quoted = sql.Identifier(*self._names).as_string(None)

    def statements(self) -> list[str]:
        """What makes the table, and leaves one that is there alone."""
        table, name = self.quoted, self._names[-1]
        by_subject, by_due = (
            sql.Identifier(f"{name}_by_{column}").as_string(None) for column in ("subject", "due")
        )
        return [
            f"SELECT pg_advisory_xact_lock({_LOCK})",
            f"""CREATE {"UNLOGGED " if self._unlogged else ""}TABLE IF NOT EXISTS {table} (
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
            f"ALTER TABLE {table} ALTER COLUMN payload SET STORAGE EXTERNAL",
            f"CREATE INDEX IF NOT EXISTS {by_subject} ON {table} (subject, id) "
            "WHERE subject IS NOT NULL",
            f"CREATE INDEX IF NOT EXISTS {by_due} ON {table} (due)",
            f"COMMENT ON TABLE {table} IS '{_COMMENT}{_VERSION}'",
        ]

    def script(self) -> str:
        return ";\n".join(["BEGIN", *self.statements(), "COMMIT"]) + ";\n"

    def look(self) -> Unit[Found]:
        return Unit(steps=[(_LOOK, [self.quoted.encode()])], read=_found, once=True)

    def make(self) -> Unit[None]:
        steps = [(statement.encode(), ()) for statement in self.statements()]
        return Unit(steps=steps, read=lambda _: None, once=True)

    def is_there(self, found: Found) -> bool:
        """Whether it is, and ours. Raises `ConfigurationError` for one that never can be."""
        if found.encoding != "UTF8":
            self._refuse("a database in UTF8", found.encoding, "create one with ENCODING 'UTF8'")
        if found.standby:
            raise StoreUnavailable(
                "PostgresStore: expected the primary server, got a standby; name the primary, or "
                "all hosts"
            )
        if found.kind is None:
            return False
        self._check(found)
        return True

    def missing(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"PostgresStore: expected the table {self._shown}, got none; create it with what "
            "coatcheck.stores.postgres.schema() gives, or let the store do so with create=True"
        )

    def _check(self, found: Found) -> None:
        text = found.comment or ""
        version = text.removeprefix(_COMMENT)
        if found.kind != "r" or version == text or not version.isdigit():
            self._refuse("a table of sessions", "another", "another table's name")
        if int(version) != _VERSION:
            self._refuse(
                f"sessions of version {_VERSION}", f"version {version}", "a newer coatcheck"
            )
        unlogged = found.persistence == "u"
        if unlogged != self._unlogged:
            kinds, made = ("a logged table", "an unlogged one"), ("LOGGED", "UNLOGGED")
            self._refuse(
                kinds[self._unlogged],
                kinds[unlogged],
                f"unlogged={unlogged}, or ALTER TABLE … SET {made[self._unlogged]}",
            )

    def _refuse(self, expected: str, got: str, remedy: str) -> NoReturn:
        raise ConfigurationError(
            f"PostgresStore: expected {expected}, got {got} for {self._shown} (left as it was); "
            f"use {remedy}"
        )


def _found(results: Sequence[PGresult]) -> Found:
    [result] = results
    kind, persistence, comment, encoding, standby, *settings = (
        result.get_value(0, column) for column in range(result.nfields)
    )
    names = ("fsync", "full_page_writes", "synchronous_commit")
    return Found(
        _text(kind),
        _text(persistence),
        _text(comment),
        _text(encoding) or "",
        standby == b"\x01",
        {name: _text(value) or "" for name, value in zip(names, settings, strict=True)},
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


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
