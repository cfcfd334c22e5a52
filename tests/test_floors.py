"""Floors: a file imports only from floors below its own, and there is no cycle.

The import graph is read from the source: imports inside functions count, those under
`if TYPE_CHECKING` do not, and neither do names that are put together at run time (`from_url` loads
the store that its URL names). The whole numbers are those of the architecture page; fractions order
the files of one floor among themselves. A package's `__init__` stands above its files.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import coatcheck

SOURCE = Path(coatcheck.__file__).parent

FLOORS: dict[str, float] = {
    "base64url": 0,
    "client": 0,
    "errors": 0,
    "events": 0.5,
    "event_log": 0.6,
    "telemetry": 0.6,
    "delivery": 0.6,
    "forks": 0,
    "patience": 0,
    "cookie": 1,
    "lifetime": 1,
    "paths": 1,
    "sealing": 1,
    "site_data": 1,
    "token": 1,
    "values": 1,
    "edits": 2,
    "typed": 2,
    "record": 2,
    "login": 2.8,
    "store": 2.5,
    "state": 2.9,
    "session": 3,
    "context": 3.5,
    "listing": 3.5,
    "turns": 4,
    "coalesce": 4,
    "lifecycle.rules": 4,
    "lifecycle.marks": 4.05,
    "lifecycle.liveness": 4.05,
    "lifecycle.resume": 4.1,
    "lifecycle.heads": 4.05,
    "lifecycle.writes": 4.08,
    "lifecycle.settle": 4.1,
    "lifecycle.replay": 4.2,
    "lifecycle": 4.5,
    "backends": 5,
    "options": 5.1,
    "committing": 5.2,
    "operating": 5.3,
    "stores._url": 4,
    "stores._address": 4,
    "stores._admission": 4,
    "stores._advice": 4.1,
    "stores._fair_lock": 4,
    "stores._threads": 4,
    "stores.cookie": 5,
    "stores.memory": 5,
    "stores._redis.timed": 4.1,
    "stores._redis.options": 4.1,
    "stores._redis.value": 4,
    "stores._redis.errors": 4,
    "stores._redis.scripts": 4.1,
    "stores._redis.commands": 4.15,
    "stores._redis.index": 4.2,
    "stores._redis.admission": 4.3,
    "stores._redis.look": 4.2,
    "stores._redis.routes": 4.2,
    "stores._redis.place": 4.3,
    "stores._redis.pool": 4.3,
    "stores._redis.home": 4.4,
    "stores._redis.common": 4.4,
    "stores._redis.listening": 4.5,
    "stores._redis.line": 5,
    "stores._redis.async_line": 5,
    "stores._redis": 5.05,
    "stores.redis": 5.1,
    "stores._sqlite.file": 5,
    "stores._sqlite.openings": 5,
    "stores._sqlite.pool": 5,
    "stores._sqlite.verbs": 5,
    "stores._sqlite.logins": 5.1,
    "stores._sqlite.database": 5.1,
    "stores._sqlite.writer": 5.2,
    "stores._sqlite": 5.25,
    "stores.sqlite": 5.3,
    "stores._memcached.wire": 4.1,
    "stores._memcached.server": 5,
    "stores._memcached.cluster": 5.1,
    "stores._memcached": 5.15,
    "stores.memcached": 5.2,
    "stores._file.locks": 5,
    "stores._file.records": 5.1,
    "stores._file.folder": 5.1,
    "stores._file.subjects": 5.2,
    "stores._file.pairs": 5.3,
    "stores._file.logins": 5.35,
    "stores._file.sweep": 5.35,
    "stores._file.threads": 5.1,
    "stores._file": 5.38,
    "stores.file": 5.4,
    "stores._postgres.errors": 5,
    "stores._postgres.options": 5,
    "stores._postgres.rows": 5,
    "stores._postgres.waiting": 5,
    "stores._postgres.statements": 5.1,
    "stores._postgres.link": 5.1,
    "stores._postgres.listening": 5.2,
    "stores._postgres.logins": 5.2,
    "stores._postgres.schema": 5.2,
    "stores._postgres.verbs": 5.2,
    "stores._postgres.pooling": 5.3,
    "stores._postgres.pools": 5.35,
    "stores._postgres": 5.38,
    "stores.postgres": 5.4,
    "stores": 5.5,
    "sessions": 6,
    "": 6.5,  # the package itself
    "sweeper": 6.5,
    "watcher": 6.4,
    "watching": 6.5,
    "gate": 7,
    "csrf": 7.1,
    "web.configured": 7.5,
    "web.exchange": 7.6,
    "web.forms": 7.5,
    "web.headers": 7.5,
    "web.messages": 7.6,
    "web.streams": 7.7,
    "web.watched": 7.6,
    "web.aiohttp.events": 8,
    "web.aiohttp.request": 8,
    "web.aiohttp.head": 8.05,
    "web.aiohttp.security": 8.05,
    "web.aiohttp.hook": 8.1,
    "web.aiohttp": 8.15,
    "web.asgi": 8,
    "web.django.mapping": 8,
    "web.django.pairs": 8,
    "web.django.conf": 8.05,
    "web.fastapi": 8.1,
    "web.litestar": 8.1,
    "web.django.request": 8,
    "web.django.responses": 8,
    "web.django.csrf": 8.1,
    "web.django.store": 8.1,
    "web.django.gate": 8.15,
    "web.django.middleware": 8.2,
    "web.django.checks": 8.3,
    "web.django.apps": 8.4,
    "web.django.management.commands.clearsessions": 8,
    "web.django.management.commands": 8.1,
    "web.django.management": 8.2,
    "web.django": 8.45,
    "web.tornado.application": 8,
    "web.tornado.events": 8,
    "web.tornado.sending": 8.05,
    "web.tornado.hook": 8.1,
    "web.tornado.security": 8.15,
    "web.tornado": 8.2,
    "web.wsgi": 8,
    "web.pyramid.security": 8,
    "web.pyramid.session": 8,
    "web.pyramid.hook": 8.1,
    "web.pyramid": 8.15,
    "web.falcon.responses": 8,
    "web.falcon.events": 8,
    "web.falcon.security": 8,
    "web.falcon.sockets": 8.1,
    "web.falcon.hook": 8.1,
    "web.falcon.async_hook": 8.2,
    "web.falcon": 8.25,
    "web.pallets": 7.7,
    "web.flask": 8.1,
    "web.sanic.responses": 8,
    "web.sanic.events": 8.1,
    "web.sanic.visit": 8.15,
    "web.sanic.sockets": 8.2,
    "web.sanic.security": 8.25,
    "web.sanic.hook": 8.3,
    "web.sanic": 8.35,
    "web.flask_login": 8.2,
    "web.quart.events": 8,
    "web.quart.sockets": 8,
    "web.quart.visits": 8.05,
    "web.quart.errors": 8.1,
    "web.quart.hook": 8.15,
    "web.quart.security": 8.15,
    "web.quart": 8.2,
    "web": 8.5,
    "testing.clock": 9,
    "testing.clients": 9,
    "testing.contract.records": 9.05,
    "testing.contract.base": 9.05,
    "testing.contract.verbs": 9.1,
    "testing.contract.lists": 9.1,
    "testing.contract.logins": 9.1,
    "testing.contract": 9.15,
    "testing": 9.2,
    "demo.agents": 9,
    "demo.codes": 9,
    "demo.diary": 9,
    "demo.forms": 9,
    "demo.users": 9.05,
    "demo.pages": 9.1,
    "demo.accounts": 9.2,
    "demo.account": 9.3,
    "demo.activity": 9.2,
    "demo.devices": 9.2,
    "demo.live": 9.2,
    "demo.hardening": 9.2,
    "demo.inside": 9.2,
    "demo.shop": 9.2,
    "demo.race": 9.3,
    "demo.app": 9.4,
    "demo.server": 9.5,
    "demo": 9.6,
    "cli": 9.7,
}

Graph = Mapping[str, set[str]]
Sources = Mapping[str, str]


def sources() -> dict[str, str]:
    """The text of each file, by its name below the package."""
    return {_name(path): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph_of(files: Sources) -> Graph:
    """Which file imports which."""
    return {name: set(_imports(name, text, files)) - {name} for name, text in files.items()}


def _imports(name: str, text: str, files: Sources) -> Iterator[str]:
    for node in _import_statements(text):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _ours(alias.name, files)
        else:
            base = _absolute(name, node, files)
            for alias in node.names:
                yield from list(_ours(f"{base}.{alias.name}", files)) or _ours(base, files)


@cache
def _import_statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    nodes = _running(ast.parse(text))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: all but what stands under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from (other, *_running(other))
        else:
            yield node
            yield from _running(node)


def _absolute(name: str, node: ast.ImportFrom, files: Sources) -> str:
    if not node.level:
        return node.module or ""
    is_package = any(other.startswith(name + ".") for other in files) or not name
    parts = f"coatcheck.{name}".rstrip(".").split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, node.module] if node.module else parts)


def _ours(module: str, files: Sources) -> Iterator[str]:
    package, _, rest = module.partition(".")
    if package == "coatcheck" and rest in files:
        yield rest


def upward(graph: Graph, floors: Mapping[str, float]) -> list[str]:
    """Imports from the same floor or a higher one."""
    return [
        f"{name} (floor {floors[name]:g}) imports {other} (floor {floors[other]:g})"
        for name, others in sorted(graph.items())
        for other in sorted(others)
        if floors[other] >= floors[name]
    ]


def cycle(graph: Graph) -> list[str]:
    """One cycle, if there is any."""
    done: set[str] = set()

    def walk(name: str, above: list[str]) -> list[str]:
        if name in above:
            return [*above[above.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if found := walk(other, [*above, name]):
                    return found
            done.add(name)
        return []

    return next(filter(None, (walk(name, []) for name in sorted(graph))), [])


def test_every_file_has_a_floor() -> None:
    """A new file is given one here, in FLOORS; one that is gone is taken out."""
    assert set(FLOORS) == set(sources())


def test_no_file_imports_from_its_own_floor_or_above() -> None:
    """Function-local imports included."""
    graph = {name: others for name, others in graph_of(sources()).items() if name in FLOORS}
    known = {name: {other for other in others if other in FLOORS} for name, others in graph.items()}

    assert [] == upward(known, FLOORS)


def test_there_is_no_cycle() -> None:
    """Whatever the floors say."""
    assert [] == cycle(graph_of(sources()))


def test_a_packages_init_stands_above_its_files() -> None:
    """So no file imports its own package."""
    for name in FLOORS:
        package, _, file = name.rpartition(".")
        if package and file:
            assert FLOORS[package] > FLOORS[name]


def test_what_is_public_comes_from_the_first_six_floors() -> None:
    """Importing coatcheck needs no gate, no integration, no test helper."""
    assert [] == [other for other in graph_of(sources())[""] if FLOORS[other] > 6]


PLANTED = {
    "at the top": "from coatcheck.sessions import Sessions\n",
    "of a module": "import coatcheck.sessions\n",
    "from the package": "from coatcheck import sessions as s\n",
    "of a name of the package": "from coatcheck import Sessions\n",
    "relative": "from .sessions import Sessions\n",
    "from the relative package": "from . import sessions\n",
    "in a function": "def f():\n    def g():\n        from coatcheck.sessions import Sessions\n",
    "in a try": "try:\n    import coatcheck.sessions\nexcept ImportError:\n    pass\n",
    "in the else": "if TYPE_CHECKING:\n    pass\nelse:\n    import coatcheck.sessions\n",
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=list(PLANTED))
def test_a_planted_upward_import_is_noticed(planted: str) -> None:
    """However it is written."""
    files = sources()
    files["token"] += "\n" + planted

    assert [] != upward(graph_of({n: files[n] for n in files if n in FLOORS}), FLOORS)
    assert "token (floor 1) imports " in "\n".join(upward(_known(files), FLOORS))


def _known(files: Sources) -> Graph:
    return graph_of({name: text for name, text in files.items() if name in FLOORS})


def test_a_planted_import_of_the_same_floor_is_noticed() -> None:
    """Floors order files, they do not group them."""
    files = sources()
    files["token"] += "\nfrom coatcheck.sealing import Seal\n"

    assert "token (floor 1) imports sealing (floor 1)" in upward(_known(files), FLOORS)


def test_a_planted_cycle_is_noticed() -> None:
    """And named whole, though no floor were known."""
    files = sources()
    files["errors"] += "\ndef late():\n    from coatcheck.token import mint\n"
    files["token"] += "\nfrom coatcheck.errors import StoreError\n"

    assert ["errors", "token", "errors"] == cycle(graph_of(files))


def test_an_import_for_typing_is_free() -> None:
    """It does not run."""
    files = sources()
    for spelled in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        files["token"] += f"\nif {spelled}:\n    from coatcheck.sessions import Sessions\n"

    assert graph_of(sources()) == graph_of(files)


LOADED = """
import sys
before = set(sys.modules)
import {module}
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def loaded(module: str) -> set[str]:
    """What importing it loads, in a fresh interpreter."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ran.stdout.split())


def test_importing_coatcheck_loads_no_store_and_no_integration() -> None:
    """Only what everybody needs."""
    ours = {name for name in loaded("coatcheck") if name.split(".")[0] == "coatcheck"}
    above = {"stores", "web", "gate", "csrf", "sweeper", "testing", "demo", "cli"}

    assert "coatcheck.sessions" in ours
    assert set() == {name for name in ours if name.count(".") and name.split(".")[1] in above}


def test_importing_coatcheck_loads_two_packages_of_others() -> None:
    """cryptography and msgspec, and what these two load themselves."""
    theirs = _packages("msgspec, cryptography.exceptions, cryptography.hazmat.primitives.ciphers")
    others = _packages("coatcheck") - {"coatcheck"}

    assert {"cryptography", "msgspec"} <= others
    assert set() == others - theirs


def _packages(module: str) -> set[str]:
    """Those that are not the standard library's (whose build data has a name for each machine)."""
    packages = {name.partition(".")[0] for name in loaded(module)} - set(sys.stdlib_module_names)
    return {name for name in packages if not name.startswith("_sysconfigdata")}


@pytest.mark.parametrize(
    "module",
    [
        "coatcheck.stores.memory",
        "coatcheck.stores.cookie",
        "coatcheck.stores.sqlite",
        "coatcheck.stores.redis",
        "coatcheck.stores.file",
        "coatcheck.stores.memcached",
    ],
)
def test_a_store_loads_no_other_store(module: str) -> None:
    """Nor an integration."""
    stores = {name for name in loaded(module) if name.startswith("coatcheck.stores.")}

    assert module in stores
    assert {module} == {name for name in stores if "._" not in name}


@pytest.mark.parametrize(
    "name", ["web.asgi", "web.wsgi", "web.headers", "gate", "csrf", "sweeper", "context", "stores"]
)
def test_each_part_can_be_imported_first(name: str) -> None:
    """In a fresh interpreter, without a framework."""
    foreign = {"starlette", "flask", "django", "aiohttp", "pytest", "redis"}

    assert set() == foreign & _packages(f"coatcheck.{name}")
