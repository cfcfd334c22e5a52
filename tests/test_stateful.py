"""Random lives of sessions, over every store, in step with the model of tests/model.py.

Several browsers and several overlapping requests write, edit, change in place, leave messages,
log in and out, rotate, fail, and show cookies of any age, while time passes and other devices end
their sessions. After each step the answers and all that any cookie opens must be the model's. The
cookie store has a model of its own, which is where law 2 does not hold: the last answer wins whole.
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from coatcheck.stores.memory import MemoryStore
from tests.model import Act, Opened, World
from tests.sites import KINDS, Site
from tests.test_interleavings import LastWins, Undying, Upserting

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=2),
)
SUBJECTS = st.sampled_from(["user:1", "user:2"])


def _grow(value: Any) -> Any:
    """A pure function of whatever is there."""
    if isinstance(value, list):
        return [*value, len(value)]
    return value + 1 if type(value) is int else 1


def _changes_in_place(key: str) -> Act:
    def act(session: Any) -> None:
        value = session.get(key)
        if isinstance(value, list):
            value.append(7)
        elif isinstance(value, dict):
            value["new"] = 7

    return act


ACTS: st.SearchStrategy[tuple[str, Act]] = st.one_of(
    st.just(("reads all", dict)),
    st.just(("asks who it is", lambda s: s.subject)),
    st.builds(
        lambda key, value: (f"{key} = {value!r}", lambda s: s.__setitem__(key, value)), KEYS, VALUES
    ),
    KEYS.map(lambda key: (f"removes {key}", lambda s: s.pop(key, None))),
    KEYS.map(lambda key: (f"edits {key}", lambda s: s.edit(key, _grow, default=[]))),
    KEYS.map(lambda key: (f"changes {key} in place", _changes_in_place(key))),
    st.just(("leaves a message", lambda s: s.flash("Saved"))),
    st.just(("reads its messages", lambda s: s.flashes())),
    st.builds(
        lambda who, remember: (f"logs in as {who}", lambda s: s.login(who, remember=remember)),
        SUBJECTS,
        st.booleans(),
    ),
    st.just(("logs out", lambda s: s.logout())),
    st.just(("clears", lambda s: s.clear())),
    st.just(("rotates", lambda s: s.rotate())),
)


class Life(RuleBasedStateMachine):
    """One site and all its browsers."""

    kind = "memory"
    store: type[MemoryStore] | None = None  # in place of the kind's own
    cookies = Bundle("cookies")
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        site = Site(self.kind, Path(self.folder.name), store=self.store and self.store())
        self.world = World(site)
        self.begun = 0

    def teardown(self) -> None:
        self.world.site.close()
        self.folder.cleanup()

    @initialize(target=cookies, act=ACTS)
    def arrive(self, act: tuple[str, Act]) -> Any:
        """Somebody has been here before."""
        request = self._open(None, ("a = []", lambda s: s.__setitem__("a", [])))
        self.world.act(request, act[1], act[0])
        return self._commit(request)

    @rule(target=requests, act=ACTS)
    def open_without_a_cookie(self, act: tuple[str, Act]) -> Opened:
        return self._open(None, act)

    @rule(target=requests, cookie=cookies, act=ACTS)
    def open(self, cookie: str, act: tuple[str, Act]) -> Opened:
        return self._open(cookie, act)

    @rule(target=requests, cookie=cookies, acts=st.tuples(ACTS, ACTS))
    def open_two(self, cookie: str, acts: tuple[tuple[str, Act], tuple[str, Act]]) -> Any:
        """Two tabs that overlap."""
        opened = [self._open(cookie, act) for act in acts]
        return multiple(*opened)

    def _open(self, cookie: str | None, act: tuple[str, Act]) -> Opened:
        self.begun += 1
        request = self.world.open(cookie, f"request {self.begun}")
        self.world.act(request, act[1], act[0])
        return request

    @rule(request=requests, act=ACTS)
    def act(self, request: Opened, act: tuple[str, Act]) -> None:
        self.world.act(request, act[1], act[0])

    @rule(target=cookies, request=requests, act=ACTS)
    def commit_early(self, request: Opened, act: tuple[str, Act]) -> Any:
        given = self._commit(request)
        self.world.act(request, act[1], act[0])
        return given

    @rule(target=cookies, request=consumes(requests), failed=st.sampled_from([False] * 5 + [True]))
    def commit(self, request: Opened, failed: bool) -> Any:
        return self._commit(request, failed=failed)

    @rule(target=cookies, one=consumes(requests), other=consumes(requests))
    def commit_two(self, one: Opened, other: Opened) -> Any:
        given = [self.world.commit(each) for each in (one, other)]
        return multiple(*filter(None, given))

    def _commit(self, request: Opened, *, failed: bool = False) -> Any:
        given = self.world.commit(request, failed=failed)
        return given or multiple()

    @rule(cookie=cookies)
    def revoke(self, cookie: str) -> None:
        self.world.revoke(cookie)

    @rule(seconds=st.sampled_from([1.0, 59.0, 60.0, 180.0, 1800.0, 3600.0, 86_400.0]))
    def wait(self, seconds: float) -> None:
        self.world.move(seconds)

    @invariant()
    def every_cookie_opens_what_the_model_says(self) -> None:
        self.world.check()


def live(*phases: Phase, **options: Any) -> None:
    """Many random lives; the same ones each time, so that a failure can be met again."""
    run_state_machine_as_test(
        type("Lives", (Life,), options),
        settings=settings(
            max_examples=80,
            phases=phases,
            stateful_step_count=30,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_life_departs_from_the_model(kind: str) -> None:
    """Whatever happens to the sessions of a site, the laws hold, over each store."""
    live(Phase.generate, Phase.shrink, kind=kind)


@pytest.mark.parametrize("fault", [Upserting, LastWins, Undying])
def test_a_planted_fault_is_found(fault: type[MemoryStore]) -> None:
    """A store that breaks its contract does not get through."""
    with pytest.raises(AssertionError, match=r"expected .*, got .*, after"):
        live(Phase.generate, store=fault)
