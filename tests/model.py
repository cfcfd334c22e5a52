"""What the laws promise, as a small model: dictionaries and counters, no token, store or byte.

`World` drives a real site and the model side by side: the same acts, the same commits, in the
same order. The answers must be alike, and after each step every cookie ever handed out must open
to what the model says. A difference is an AssertionError that prints what led to it.

In the model of stores that keep records (`Model`) a session has a generation, which login and
rotation move on; a request that was overtaken by one, or by the session's end, is lost. In that
of sealed cookies (`CarriedModel`) each cookie is a whole state of its own, and an id can be denied.
"""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from coatcheck import LoginRefused, Session
from tests.sites import Site

MUTE = 60.0
IDLE, ABSOLUTE, REMEMBER = 3600.0, 86_400.0, 30 * 86_400.0
LONGEST = 400 * 86_400.0
TOUCH = 1 / 20

Act = Callable[[Any], object]
"""What a request does: to a real session and to the model's request alike."""

Message = tuple[int, str]
Change = Callable[[dict[str, Any]], object]
_numbers = count()


def copied(value: Any) -> Any:
    """A deep copy of what the tests keep; `copy.deepcopy` takes ten times as long."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value


@dataclass
class Held:
    """A session in the model's store; of a sealed cookie, one state of it."""

    born: float  # when its token was made
    seen: float
    idle: float
    end: float
    subject: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    generation: int = 0
    revision: int = 0
    over: bool = False
    id: int = field(default_factory=_numbers.__next__)

    def is_alive(self, now: float) -> bool:
        return not self.over and now < min(self.seen + self.idle, self.end)


@dataclass(frozen=True)
class Ticket:
    """What a cookie stands for: a session in one of its generations."""

    held: Held
    generation: int


DELETED = "deleted"
Answer = Ticket | str | None


class Request(MutableMapping[str, Any]):
    """One request's view of its session; it has the verbs of `Session`."""

    def __init__(self, held: Held | None, now: float, *, came: bool, muted: bool) -> None:
        self.opened, self.came, self.muted = now, came, muted
        self.answer: Answer = None
        self.ending: Held | None = None
        self.goodbye = self.accessed = self.refused = False
        self.begin_with(held)

    def begin_with(self, held: Held | None) -> None:
        """Take what is held as it is now; nothing is done to it yet."""
        self.held = held
        self.base = replace(held or Held(self.opened, self.opened, IDLE, 0.0))
        self.base.values = copied(self.base.values)
        self.drop()

    def drop(self) -> None:
        """Undo what was done, but for a logout."""
        self.view, self.shadow = copied(self.base.values), copied(self.base.values)
        self.unread, self.left = list(self.base.messages), list[Message]()
        self.read = set[int]()
        self.changes = list[Change]()
        self.entering: tuple[str, bool] | None = None
        self.rotating = self.wiped = False

    @property
    def is_changed(self) -> bool:
        done = self.changes or self.left or self.read or self.entering
        return bool(done or self.rotating or self.wiped)

    @property
    def subject(self) -> str | None:
        self.accessed = True
        return self.entering[0] if self.entering else self.base.subject

    def __getitem__(self, key: str) -> Any:
        self.accessed = True
        return self.view[key]

    def __setitem__(self, key: str, value: Any) -> None:
        kept = copied(value)
        self._do(lambda values: values.__setitem__(key, copied(kept)))

    def __delitem__(self, key: str) -> None:
        self._do(lambda values: values.pop(key, None))

    def __iter__(self) -> Iterator[str]:
        self.accessed = True
        return iter(list(self.view))

    def __len__(self) -> int:
        self.accessed = True
        return len(self.view)

    def edit(self, key: str, function: Callable[[Any], Any], *, default: Any = None) -> Any:
        """As `Session.edit`; here a default of None is none."""

        def change(values: dict[str, Any]) -> None:
            if key in values or default is not None:
                values[key] = function(copied(values.get(key, default)))

        self.note_in_place()
        self._do(change)
        return self.view[key]

    def flash(self, text: str) -> None:
        self.accessed = True
        self.left.append((next(_numbers), text))

    def flashes(self) -> list[tuple[str, str]]:
        self.accessed = True
        found = self.unread + self.left
        self.read.update(number for number, _ in self.unread)
        self.unread, self.left = [], []
        return [(text, "info") for _, text in found]

    def login(self, subject: str, *, remember: bool = False) -> None:
        if self.subject not in (None, subject):
            self._wipe()
        self.entering = subject, remember

    def logout(self) -> None:
        self.accessed = True
        if not self.muted:
            self.ending = self.held or self.ending
            self.goodbye, self.answer = True, None
            self.begin_with(None)

    def clear(self) -> None:
        if self.subject is not None:
            self.logout()
        else:
            self._wipe()

    def rotate(self) -> None:
        self.accessed = self.rotating = True

    def note_in_place(self) -> None:
        """A value that was changed in place counts as assigned."""
        for key, value in list(self.view.items()):
            if value != self.shadow[key]:
                self[key] = value

    def redone_on(self, held: Held) -> Held:
        """The same acts, done to what is held now."""
        values = {} if self.wiped else copied(held.values)
        for change in self.changes:
            change(values)
        unread = [] if self.wiped else [each for each in held.messages if each[0] not in self.read]
        return replace(held, values=values, messages=unread + self.left)

    def _wipe(self) -> None:
        self.view, self.shadow, self.changes = {}, {}, []
        self.unread, self.left = [], []
        self.wiped = True

    def _do(self, change: Change) -> None:
        self.accessed = True
        change(self.view)
        change(self.shadow)
        self.changes.append(change)


class Model:
    """A site whose store keeps records."""

    def __init__(self) -> None:
        self.held: list[Held] = []

    def open(self, ticket: Ticket | None, now: float) -> Request:
        if ticket is None:
            return Request(None, now, came=False, muted=False)
        if self.is_good(ticket, now):
            return Request(ticket.held, now, came=True, muted=False)
        return Request(None, now, came=True, muted=self._is_replaced(ticket, now))

    def is_good(self, ticket: Ticket, now: float) -> bool:
        return ticket.held.is_alive(now) and ticket.generation == ticket.held.generation

    def _is_replaced(self, ticket: Ticket, now: float) -> bool:
        return ticket.held.is_alive(now) and now < ticket.held.born + MUTE

    def commit(self, request: Request, now: float, *, failed: bool = False) -> Answer:
        if failed:
            request.drop()
        request.note_in_place()
        if request.ending is not None:
            self.end(request.ending, now)
            request.ending = None
        self._write(request, now)
        if request.answer is None and request.goodbye and request.came:
            return DELETED
        return request.answer

    def end(self, held: Held, now: float) -> None:
        """Its own browser logs out."""
        held.over = True

    def revoke(self, held: Held, now: float) -> None:
        """Somebody else ends it."""
        held.over = True

    def count(self, now: float) -> int:
        """How many records the store holds."""
        return sum(held.is_alive(now) for held in self.held)

    def _write(self, request: Request, now: float) -> None:
        if request.muted and request.entering is None:
            return
        if request.held is None:
            self._create(request, now)
        elif not request.is_changed:
            self._touch(request, request.held, now)
        elif self._is_lost(request, request.held, now):
            self._lose(request, now)
        else:
            self._save(request, request.held, now)

    def _is_lost(self, request: Request, held: Held, now: float) -> bool:
        return not held.is_alive(now) or held.generation != request.base.generation

    def _is_over(self, request: Request, now: float) -> bool:
        """Whether it ended, and was not only re-seeded: nobody logs in there once more."""
        return request.held is not None and not request.held.is_alive(now)

    def _create(self, request: Request, now: float) -> None:
        made = request.redone_on(Held(now, now, IDLE, now + ABSOLUTE))
        if made.values or made.messages or request.entering:
            self.held.append(made)
            self._hand_out(request, _entered(made, request, now))

    def _lose(self, request: Request, now: float) -> None:
        """Overtaken: a login goes on under a new id with its own edits, all else is dropped."""
        request.answer = None
        is_again = request.entering is not None and request.entering[0] == request.base.subject
        request.refused = is_again and self._is_over(request, now)
        if request.entering is None or request.refused:
            request.begin_with(None)
            request.muted = True
        else:
            request.held = None
            self._create(request, now)

    def _save(self, request: Request, held: Held, now: float) -> None:
        done = request.redone_on(held)
        held.values, held.messages, held.seen = done.values, done.messages, now
        held.revision += 1
        if request.entering or request.rotating:
            held.generation += 1
            self._hand_out(request, _entered(held, request, now))
        else:
            request.begin_with(held)

    def _touch(self, request: Request, held: Held, now: float) -> None:
        if not request.accessed or now - request.base.seen < held.idle * TOUCH:
            return
        if held.is_alive(now) and held.revision == request.base.revision:
            held.seen = max(now, held.seen)
        request.base.seen = now

    def _hand_out(self, request: Request, held: Held) -> None:
        request.answer = Ticket(held, held.generation)
        request.came, request.muted = True, False
        request.begin_with(held)


class CarriedModel(Model):
    """A site whose cookies are the whole session: every answer is a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.denied: dict[int, tuple[float, float]] = {}  # until when: mute, and kept

    def is_good(self, ticket: Ticket, now: float) -> bool:
        return ticket.held.is_alive(now) and ticket.held.id not in self.denied

    def _is_replaced(self, ticket: Ticket, now: float) -> bool:
        return now < self.denied.get(ticket.held.id, (0.0, 0.0))[0]

    def end(self, held: Held, now: float) -> None:
        self.denied.setdefault(held.id, (0.0, held.end))

    def revoke(self, held: Held, now: float) -> None:
        self.denied.setdefault(held.id, (0.0, now + LONGEST))

    def count(self, now: float) -> int:
        """Denials, kept a minute beyond the hard end for clocks that disagree."""
        return sum(now < kept + MUTE for _, kept in self.denied.values())

    def _is_lost(self, request: Request, held: Held, now: float) -> bool:
        return not held.is_alive(now) or held.id in self.denied

    def _save(self, request: Request, held: Held, now: float) -> None:
        state = replace(request.redone_on(request.base), seen=now)
        if request.entering or request.rotating:
            self.denied[held.id] = now + MUTE, held.end
            state = replace(_entered(state, request, now), id=next(_numbers))
        self._hand_out(request, state)

    def _is_over(self, request: Request, now: float) -> bool:
        """It may have ended, or only taken another id."""
        return False

    def _touch(self, request: Request, held: Held, now: float) -> None:
        """Idle counts from writes."""


def _entered(held: Held, request: Request, now: float) -> Held:
    """What a new token brings, and a login with it."""
    held.born = now
    if request.entering is not None:
        held.subject, remember = request.entering
        held.idle, length = (REMEMBER, REMEMBER) if remember else (IDLE, ABSOLUTE)
        held.end = now + length
    return held


@dataclass
class Opened:
    """One request, real and modelled."""

    label: str
    real: Session
    model: Request


class World:
    """A real site beside the model, every step taken in both and compared."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.model = CarriedModel() if site.is_carried else Model()
        self.tickets: dict[str, Ticket] = {}
        self.trace: list[str] = []
        self._names: dict[str, str] = {}

    def open(self, cookie: str | None, label: str = "request") -> Opened:
        ticket = self.tickets.get(cookie or "")
        opened = Opened(label, self.site.open(cookie), self.model.open(ticket, self.site.clock()))
        self._note(f"{label}: open with {self.name(cookie)}")
        return opened

    def act(self, opened: Opened, act: Act, name: str = "act") -> None:
        self._note(f"{opened.label}: {name}")
        self._expect(f"what {name} returns", act(opened.model), act(opened.real))

    def commit(self, opened: Opened, *, failed: bool = False) -> str | None:
        """The cookie that the answer sets, "" where it deletes it, None where it is silent."""
        expected = self.model.commit(opened.model, self.site.clock(), failed=failed)
        answers, refused = [], False
        try:
            answers = self.site.commit(opened.real, failed=failed)
        except LoginRefused:
            refused = True
        self._expect("whether the login is refused", opened.model.refused, refused)
        opened.model.refused = False
        given = None if not answers else answers[0].partition(";")[0]
        if answers and "; Max-Age=0" in answers[0]:
            given = ""
        if given and isinstance(expected, Ticket):
            self.tickets[given] = expected
            self._names[given] = f"cookie {len(self.tickets)}"
        self._note(f"{opened.label}: commit{' of an error' if failed else ''}, {_said(given)}")
        self._expect("the answer", _said(_kind(expected)), _said(given))
        return given

    def revoke(self, cookie: str) -> None:
        """Another device ends the session of this cookie."""
        self._note(f"revoke the session of {self.name(cookie)}")
        named = self.site.open(cookie).id
        if named is not None:
            self.site.call("revoke", named)
            self.model.revoke(self.tickets[cookie].held, self.site.clock())

    def move(self, seconds: float) -> None:
        self._note(f"{seconds:g} s pass")
        self.site.clock.move(seconds)

    def check(self) -> None:
        """Every cookie ever handed out opens to what the model says, and no record is left over."""
        now = self.site.clock()
        for cookie, ticket in self.tickets.items():
            real, held = self.site.open(cookie), ticket.held
            good = self.model.is_good(ticket, now)
            expected = (held.subject, held.values) if good else (None, {})
            self._expect(f"what {self.name(cookie)} opens", expected, (real.subject, dict(real)))
            self._expect(f"whether {self.name(cookie)} is good", good, not real.is_new)
        self._expect("the number of records", self.model.count(now), len(self.site.records()))

    def name(self, cookie: str | None) -> str:
        return self._names.get(cookie or "", "no cookie")

    def _note(self, line: str) -> None:
        self.trace.append(line)

    def _expect(self, what: str, expected: object, actual: object) -> None:
        if expected != actual:
            steps = "\n".join(f"  {line}" for line in self.trace)
            raise AssertionError(f"{what}: expected {expected}, got {actual}, after\n{steps}")


def _kind(answer: Answer) -> str | None:
    return "some" if isinstance(answer, Ticket) else answer and ""


def _said(given: str | None) -> str:
    if given is None:
        return "sets no cookie"
    return "sets a cookie" if given else "deletes the cookie"
