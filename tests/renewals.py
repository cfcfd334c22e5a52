"""An owner with several tabs, a thief, and the wire between them and a real `Sessions`, as values.

A `Scene` is one moment of one session: its record, who holds which cookie, what is on its way, and
which requests the server has opened. Every step makes a new scene of an old one, so a search may
go on from each in every way. A request that was opened is kept as what it was opened with, and is
opened from that once more when it commits; so the code under test is the real one, from the
cookie's header to the store's compare-and-set.

Two scenes are alike where the rules can tell no difference: a cookie counts as the current one,
the previous one, a dead one, or one of another seed, and a time as its distance to now, as far as
a rule looks. That makes the scenes finitely many, and `explore` visits every one: what it does
not find, no schedule of whatever length can bring about.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from coatcheck import Lifetime, Session, Sessions, token
from coatcheck.events import CopiedCookie, Event
from coatcheck.record import Head, Record, read_payload
from coatcheck.store import GONE, SAVED, Gone, Saved
from coatcheck.testing import Clock

T = TypeVar("T")
GRACE = 60
MOST = 10
"""How many successors of one proof are thrown away before it is not good any more."""

Whose = Literal["owner", "thief"]

ACTS: dict[str, Callable[[Session], object]] = {
    "idles": lambda session: None,
    "reads": lambda session: session.get("n"),
    "edits": lambda session: session.edit("n", lambda n: n + 1),
    "rotates": lambda session: session.rotate(),
    "logs in": lambda session: session.login("user:42"),
    "logs out": lambda session: session.logout(),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One that the server has not opened yet."""

    whose: Whose
    act: str
    cookie: str
    sent: int


@dataclass(frozen=True, slots=True)
class Opened:
    """One that has not committed: what it was opened with, and when by the server's clock."""

    request: Request
    record: Record
    at: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A cookie on its way to the owner's browser."""

    cookie: str
    sent: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment; times are seconds."""

    now: int
    record: Record
    owner: str
    loot: tuple[str, ...] = ()  # the cookies that the thief has
    sent: tuple[Request, ...] = ()
    opened: tuple[Opened, ...] = ()
    answers: tuple[Answer, ...] = ()
    jumps: tuple[int, ...] = ()  # that the server's clock has still to make
    wrong: int = 0  # what it is wrong by


End = Literal["copied", "refused", "logged out"]
Step = tuple[str, Scene | End]
"""What somebody does, and the scene that it leads to, or how it ends the session."""


class Shelf:
    """A store of one record."""

    record: Record | None = None

    def load(self, id: str, now: int) -> Record | None:
        return self.record

    def create(self, record: Record, now: int) -> None:
        self.record = record

    def save(self, record: Record, expected: bytes, now: int) -> Saved | Gone | Record:
        if self.record is None or self.record.revision != expected:
            return self.record or GONE
        self.record = record
        return SAVED

    def touch(self, id: str, revision: bytes, seen_at: int, expires_at: int, now: int) -> bool:
        raise NotImplementedError("the idle time is so long that no search comes to a touch")

    def delete(self, id: str, now: int) -> bool:
        self.record = None
        return True

    def close(self) -> None:
        """Nothing to close."""


class Server:
    """A real `Sessions` that is asked what a step leads to.

    Requests and answers are `flight` seconds on their way, or less, or for ever.
    """

    def __init__(self, *, renew_after: int, flight: int) -> None:
        self.renew_after, self.flight = renew_after, flight
        self.clock, self.shelf, self.told = Clock(0), Shelf(), list[Event]()
        year = Lifetime(idle=400 * 86_400, absolute=400 * 86_400)
        self.sessions = Sessions(
            self.shelf,
            lifetime=year,
            renew_after=renew_after,
            clock=self.clock,
        )
        self.sessions.__dict__["_tell"] = self._hear  # at once: each step asks what was told
        self._heads: dict[bytes, Head] = {}
        self._tokens: dict[str, tuple[bytes, bytes]] = {}

    def start(self, *jumps: int) -> Scene:
        """The owner has logged in just now."""
        self.clock.now = 1_800_000_000
        session = self.sessions.open(None)
        session.login("user:42")
        session["n"] = 0
        cookie = self.sessions.commit(session)[0].partition(";")[0]
        assert self.shelf.record is not None
        return Scene(int(self.clock.now), self.shelf.record, cookie, jumps=jumps)

    # Steps.

    def open(self, scene: Scene, request: Request) -> Scene | End:
        """The server opens a request, which is on its way no more."""
        session = self._opened(request.cookie, scene.record, scene.now + scene.wrong)
        if any(type(event) is CopiedCookie for event in self.told):
            return "copied"
        if session._origin is None:
            return "refused"
        opened = Opened(request, scene.record, scene.now + scene.wrong)
        rest = without(scene.sent, request)
        return replace(scene, sent=rest, opened=(*scene.opened, opened))

    def commit(self, scene: Scene, opened: Opened) -> Scene | End:
        """The request ends; the owner's answer is on its way, the thief has his at once."""
        session = self._opened(opened.request.cookie, opened.record, opened.at)
        ACTS[opened.request.act](session)
        self.shelf.record, self.clock.now = scene.record, scene.now + scene.wrong
        cookies = [header.partition(";")[0] for header in self.sessions.commit(session)]
        record = self.shelf.record
        if record is None or record.id != scene.record.id:
            return "logged out"
        thief = opened.request.whose == "thief"
        loot = self._worth(record, (*scene.loot, *cookies) if thief else scene.loot)
        scene = replace(scene, record=record, loot=loot, opened=without(scene.opened, opened))
        if thief:
            return scene
        answers = [Answer(cookie, scene.now) for cookie in cookies]
        return replace(scene, answers=(*scene.answers, *answers))

    def wait(self, scene: Scene, seconds: int) -> Scene:
        """Time passes; what was too long on its way is lost."""
        now = scene.now + seconds
        sent = tuple(each for each in scene.sent if now - each.sent <= self.flight)
        answers = tuple(each for each in scene.answers if now - each.sent <= self.flight)
        return replace(scene, now=now, sent=sent, answers=answers)

    def visit(self, scene: Scene, whose: Whose, cookie: str, act: str = "reads") -> Scene | End:
        """A whole request, its answer included."""
        begun = self.open(scene, Request(whose, act, cookie, scene.now))
        return begun if isinstance(begun, str) else self.answer(begun, begun.opened[-1])

    def answer(self, scene: Scene, opened: Opened) -> Scene | End:
        """The request ends, and its answer arrives."""
        after = self.commit(scene, opened)
        if isinstance(after, str) or len(after.answers) == len(scene.answers):
            return after
        return replace(after, owner=after.answers[-1].cookie, answers=scene.answers)

    def _hear(self, *told: Event) -> None:
        self.told += told

    def _opened(self, cookie: str, record: Record | None, at: int) -> Session:
        self.shelf.record, self.clock.now = record, at
        self.told.clear()
        return self.sessions.open(cookie)

    # What the rules can tell apart.

    def head(self, record: Record) -> Head:
        if record.revision not in self._heads:
            self._heads[record.revision] = read_payload(record.payload)
        return self._heads[record.revision]

    def role(self, cookie: str, record: Record) -> str:
        """What a cookie is to a record. Dead is dead for ever: no rule makes a proof good again."""
        if cookie not in self._tokens:
            parsed = token.parse(cookie.partition("=")[2])
            assert parsed is not None
            domain = self.sessions._rules.domain
            self._tokens[cookie] = domain.derive(parsed)[1], domain.prove(parsed)
        (seed, proof), head = self._tokens[cookie], self.head(record)
        if seed != head.seed_digest:
            return "of another seed"
        roles = {head.previous_proof: "previous", head.proof_digest: "current"}
        return roles.get(proof, "dead")

    def _worth(self, record: Record, loot: Iterable[str]) -> tuple[str, ...]:
        """One cookie of each role: a second one opens nothing more."""
        return tuple({self.role(cookie, record): cookie for cookie in loot}.values())

    def view(self, scene: Scene) -> object:
        """Equal for scenes that the rules cannot tell apart."""
        record, head, now = scene.record, self.head(scene.record), scene.now + scene.wrong
        seen = min(now - head.proof_seen_at // 1000, GRACE) if head.proof_seen_at else None
        return (
            head.previous_proof is not None,
            min(now - head.proof_at // 1000, self.renew_after),
            seen,
            head.successors,
            max(0, record.seen_at // 1000 - now),
            self.role(scene.owner, record),
            tuple(sorted({self.role(cookie, record) for cookie in scene.loot})),
            tuple(sorted(self._view_sent(each, scene) for each in scene.sent)),
            tuple(sorted(self._view_opened(each, record) for each in scene.opened)),
            tuple(sorted((scene.now - a.sent, self.role(a.cookie, record)) for a in scene.answers)),
            scene.jumps,
            scene.wrong,
        )

    def _view_sent(self, request: Request, scene: Scene) -> tuple[str, str, int, str]:
        role = self.role(request.cookie, scene.record)
        return request.whose, request.act, scene.now - request.sent, role

    def _view_opened(self, opened: Opened, record: Record) -> tuple[object, ...]:
        """What it showed, how long after the renewal that it saw, and what came since."""
        request, then, head = opened.request, self.head(opened.record), self.head(record)
        was = self.role(request.cookie, opened.record)
        is_late = was == "previous" and not then.proof_seen_at
        is_late = is_late and opened.at * 1000 >= then.proof_at + GRACE * 1000
        is_latest = then.proof_digest == head.proof_digest
        is_fresh = opened.record.revision == record.revision
        role = self.role(request.cookie, record)
        return request.whose, request.act, was, is_late, role, is_latest, is_fresh


Moves = Callable[[Scene], Iterator[Step]]


@dataclass(frozen=True, slots=True, repr=False)  # a failed assert would print every scene
class Explored:
    """Every scene that can be reached, and for every way a session can end a shortest schedule."""

    scenes: list[Scene]
    ends: dict[End, list[str]]


def explore(server: Server, start: Scene, moves: Moves) -> Explored:
    """Everything that can come of `start`, breadth first, until nothing new comes."""
    scenes, ends = {server.view(start): start}, dict[End, list[str]]()
    paths: dict[object, tuple[str, object]] = {}
    waiting = deque(scenes.items())
    while waiting:
        here, scene = waiting.popleft()
        for label, after in moves(scene):
            if isinstance(after, str):
                if after not in ends:
                    ends[after] = [*_path(paths, here), label]
            elif (view := server.view(after)) not in scenes:
                scenes[view], paths[view] = after, (label, here)
                waiting.append((view, after))
    return Explored(list(scenes.values()), ends)


def _path(paths: dict[object, tuple[str, object]], view: object) -> list[str]:
    path = []
    while view in paths:
        label, view = paths[view]
        path.append(label)
    return path[::-1]


def without(many: tuple[T, ...], one: T) -> tuple[T, ...]:
    """All but the first that is the one."""
    at = next((index for index, each in enumerate(many) if each is one), len(many))
    return many[:at] + many[at + 1 :]
