"""Twins: a class and its `Async` twin have the same statements, `await` apart.

Both syntax trees are stripped of async, await, docstrings and the names that must differ, and then
compared. Since a forgotten `await` would be stripped too, each call of something asynchronous must
stand right behind one. Every pair of classes in src is listed below, or excepted with a reason.
"""

import ast
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

import coatcheck

SOURCE = Path(coatcheck.__file__).parent

TWINS = {
    "sessions.py": ["Sessions"],
    "committing.py": ["Committing"],
    "operating.py": ["Operating"],
    "backends.py": ["Kept", "Carried"],
    "stores/cookie.py": ["CookieStore"],
    "stores/redis.py": ["RedisStore"],
    "web/exchange.py": ["Exchange"],
    "store.py": ["Store", "Listable", "Sweepable", "Admitting", "CarrierStore"],
}
EXCEPTED = {
    ("stores/memory.py", "MemoryStore"): "its twin hands each call over to the one shelf",
    ("stores/sqlite.py", "SQLiteStore"): "its twin reads inline and writes in a thread",
    ("stores/file.py", "FileStore"): "its twin reads inline and writes in threads",
    ("stores/postgres.py", "PostgresStore"): "its twin sends together what one turn asks",
    ("stores/_postgres/pools.py", "Pool"): "threads wait for a turn by a semaphore, tasks do not",
    ("stores/memcached.py", "MemcachedStore"): "its twin waits for the servers in threads",
    ("delivery.py", "Delivery"): "its twin delivers to asynchronous functions too",
    ("turns.py", "Turns"): "threads need a guard around the locks, tasks do not",
    ("sweeper.py", "Sweeper"): "a thread here, a task there",
    ("web/falcon/security.py", "LoginMiddleware"): "its twin judges WebSockets too",
    ("web/falcon/security.py", "CSRFMiddleware"): "its twin judges WebSockets too",
    ("web/streams.py", "Stream"): "iterating has other functions, and another end, for each kind",
    ("testing/contract/__init__.py", "StoreContract"): "its twin inherits from it",
}
APART = {
    (
        "stores/_redis/async_line.py",
        "AsyncLine",
    ): "its calls leave as pipelines",
    ("web/falcon/async_hook.py", "AsyncSessionMiddleware"): "it has WebSockets and a lifespan",
}
"""Asynchronous classes whose twin is another matter, in a file of its own."""
ALONE = {"watch"}
"""Methods that asynchronous stores alone have: `Watchable` is for them."""
PAIRS = [(path, name) for path, names in TWINS.items() for name in names]
RENAMED = {
    "asyncio": "time",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "AsyncIterator": "Iterator",
    "asynccontextmanager": "contextmanager",
}


class Stripped(ast.NodeTransformer):
    """The sync spelling of a class, without its docstrings."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(_renamed(node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Attribute(self.visit(node.value), _renamed(node.attr), node.ctx)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        stripped: ast.AST = self.visit(node.value)
        return stripped

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._named(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._named(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._named(ast.FunctionDef(**dict(ast.iter_fields(node))))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        return self.generic_visit(ast.With(**dict(ast.iter_fields(node))))

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        return self.generic_visit(ast.For(**dict(ast.iter_fields(node))))

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.is_async = 0
        return self.generic_visit(node)

    def _named(self, node: ast.ClassDef | ast.FunctionDef) -> ast.AST:
        node.name = _renamed(node.name)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


def _renamed(name: str) -> str:
    return RENAMED.get(name, name.removeprefix("Async"))


def class_of(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)


def classes_in(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text())


def asynchronous_names() -> frozenset[str]:
    """What must be awaited: every async method of an `Async` class, and the pause."""
    methods = (
        node.name
        for _, tree in sources()
        for cls in tree.body
        if isinstance(cls, ast.ClassDef) and cls.name.startswith("Async")
        for node in cls.body
        if isinstance(node, ast.AsyncFunctionDef)
    )
    return frozenset(methods) | {"_pause", "take"}


NAMES = asynchronous_names()


def differences(source: str, name: str) -> list[str]:
    """How the twins of that name in this source differ; empty where they do not."""
    tree = ast.parse(source)
    sync, twin = class_of(tree, name), class_of(tree, "Async" + name)
    return _misplaced_awaits(tree, twin) + _unlike(_lines(sync), _lines(twin))


def _lines(cls: ast.ClassDef) -> list[str]:
    stripped = Stripped().visit(deepcopy(cls))
    if cls.name.startswith("Async"):
        stripped.body = [each for each in stripped.body if getattr(each, "name", None) not in ALONE]
    return ast.unparse(ast.fix_missing_locations(stripped)).splitlines()


def _unlike(sync: list[str], twin: list[str]) -> list[str]:
    for one, other in zip(sync, twin, strict=False):
        if one != other:
            return [f"expected {one.strip()!r}, got {other.strip()!r}"]
    return [] if len(sync) == len(twin) else [f"expected {len(sync)} lines, got {len(twin)}"]


def _misplaced_awaits(tree: ast.Module, twin: ast.ClassDef) -> list[str]:
    """Calls of something asynchronous without an await before them, and awaits of anything else."""
    modules = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.name.islower()
    }
    nodes = list(ast.walk(twin))
    awaited = [node.value for node in nodes if isinstance(node, ast.Await)]
    for node in nodes:
        if isinstance(node, ast.AsyncWith):
            awaited += [item.context_expr for item in node.items]
    calls = [node for node in nodes if _is_asynchronous(node, modules)]
    missing = [call for call in calls if not any(call is each for each in awaited)]
    needless = [each for each in awaited if not any(each is call for call in calls)]
    return [f"expected 'await' before {ast.unparse(each)!r}" for each in missing] + [
        f"expected no 'await' before {ast.unparse(each)!r}" for each in needless
    ]


def _is_asynchronous(call: ast.AST, modules: set[str]) -> bool:
    function = call.func if isinstance(call, ast.Call) else None
    if not isinstance(function, ast.Attribute) or function.attr not in NAMES:
        return False
    return not (isinstance(function.value, ast.Name) and function.value.id in modules)


@pytest.mark.parametrize(("path", "name"), PAIRS)
def test_twins_are_alike(path: str, name: str) -> None:
    """The same statements in the same order, `await` apart."""
    assert [] == differences((SOURCE / path).read_text(), name)


def test_every_pair_is_listed_or_excepted() -> None:
    """A new twin cannot be forgotten, nor an old exception stay."""
    found = {
        (path, name)
        for path, tree in sources()
        for name in classes_in(tree)
        if "Async" + name in classes_in(tree)
    }

    assert found == {*PAIRS, *EXCEPTED}


def test_no_async_class_stands_alone() -> None:
    """Each public one has its sync twin in the same file, but those that are another matter."""
    alone = [
        (path, name)
        for path, tree in sources()
        for name in classes_in(tree)
        if name.startswith("Async") and name.removeprefix("Async") not in classes_in(tree)
    ]

    assert list(APART) == alone


# The comparison notices what it should: each fault is planted in a copy of this source.

SAMPLE = """
import asyncio, time
from there import helper

class Kept:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._pause = time.sleep

    def __enter__(self) -> "Kept":
        return self

    def load(self, id: str, *, tries: int = 3) -> Record | None:
        "Read it."
        for number in range(tries):
            with self._turns.take(id):
                try:
                    found = self._store.load(id, now=self._now())
                except Timeout as error:
                    self._tell(Skipped(error=error))
                    self._pause(0.5)
                    continue
            if found is not None and found.expires_at > 0:
                return helper.checked(found)
        return None

class AsyncKept:
    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._pause = asyncio.sleep

    async def __aenter__(self) -> "Kept":
        return self

    async def load(self, id: str, *, tries: int = 3) -> Record | None:
        for number in range(tries):
            async with self._turns.take(id):
                try:
                    found = await self._store.load(id, now=self._now())
                except Timeout as error:
                    self._tell(Skipped(error=error))
                    await self._pause(0.5)
                    continue
            if found is not None and found.expires_at > 0:
                return helper.checked(found)
        return None
"""


class Deleting(ast.NodeTransformer):
    """Deletes the `number`th statement."""

    def __init__(self, number: int) -> None:
        self.left = number

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.stmt):
            self.left -= 1
            if self.left == -1:
                return ast.Pass()
        visited: ast.AST = super().visit(node)
        return visited


class Changing(Deleting):
    """Changes the `number`th expression, argument or keyword; an await is dropped."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr | ast.arg | ast.keyword | ast.cmpop):
            self.left -= 1
            if self.left == -1:
                return _another(node)
        return self.generic_visit(node)


def _another(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.Await):
        return node.value
    if isinstance(node, ast.keyword):
        return ast.keyword("another", node.value)
    if isinstance(node, ast.cmpop):
        return ast.In()
    if isinstance(node, ast.arg):
        return ast.arg("another")
    return ast.Name("another", ast.Load())


def _planted(transformer: Deleting) -> str | None:
    """The sample with this fault in its async twin; None where there is none of that number."""
    tree = ast.parse(SAMPLE)
    twin = class_of(tree, "AsyncKept")
    twin.body = [transformer.visit(statement) for statement in twin.body]  # type: ignore[misc]
    return ast.unparse(ast.fix_missing_locations(tree)) if transformer.left < 0 else None


@pytest.mark.parametrize(("fault", "least"), [(Deleting, 12), (Changing, 40)])
def test_every_planted_fault_is_noticed(fault: type[Deleting], least: int) -> None:
    """Each statement deleted in turn; each expression changed, each await dropped."""
    assert [] == differences(SAMPLE, "Kept")
    number = 0
    while (source := _planted(fault(number))) is not None:
        assert differences(source, "Kept"), f"unnoticed:\n{source}"
        number += 1

    assert number > least


def test_an_await_too_many_is_noticed() -> None:
    """It would fail on the first call."""
    before, call, after = SAMPLE.rpartition("helper.checked(found)")

    assert differences(before + "await " + call + after, "Kept")


@pytest.mark.parametrize(("name", "least"), [("Sessions", 9), ("Committing", 12), ("Operating", 8)])
def test_a_dropped_await_is_noticed_in_the_real_twins(name: str, least: int) -> None:
    """Each `await` of `AsyncSessions`, in turn."""
    source = (SOURCE / f"{name.lower()}.py").read_text()
    before, marker, after = source.partition(f"class Async{name}")
    assert [] == differences(before + marker + after, name)
    parts = after.split("await ")
    for at in range(1, len(parts)):
        dropped = "await ".join(parts[:at]) + "await ".join(["", *parts[at:]])[len("await ") :]
        assert differences(before + marker + dropped, name), parts[at][:60]

    assert len(parts) > least
