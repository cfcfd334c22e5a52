"""Renewal: no honest owner is convicted, and no takeover that the rules exclude is silent.

The rules are those of docs/explanation/rotation.md. The first three parts hold for every schedule
of whatever length, since every scene that can be reached is visited (tests/renewals.py). Times
are cut into steps of 20 or 29 seconds, of which a request and an answer each take one at most.

1. Without a thief nobody is convicted and nobody is logged out: several tabs, requests of any
   length, answers that are lost or overtake each other, a clock that goes back. Assumed is that an
   answer and the browser's next request are on their way for less than a minute together, and
   that fewer than ten answers in a row are lost.
2. A thief copied the cookie at any moment, and uses every cookie that he is sent, or throws it
   away. The owner is logged out by a conviction, which is told, and by nothing else. Whenever the
   owner comes back alone, either that convicts, or the owner stays in and none of the thief's
   cookies is good any more: showing one convicts.
3. While both keep coming, they are found: ten minutes after the renewal was due at the latest, if
   both come every minute; within ten visits of both after it, if they come less often.
4. What the rules cannot exclude, each with its test.
5. The same over every store, and long random lives of eight tabs.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coatcheck import Lifetime
from coatcheck.events import CopiedCookie, Refused, Renewed, Rotated
from tests.renewals import GRACE, MOST, End, Moves, Request, Scene, Server, Step, explore, without
from tests.sites import SERVER_KINDS, Site


def reads(session: Any) -> None:
    session.get("n")


def counts(session: Any) -> None:
    session.edit("n", lambda n: n + 1)


@pytest.fixture
def exact() -> Server:
    """By steps that meet the grace exactly."""
    return Server(renew_after=140, flight=20)


@pytest.fixture
def coarse() -> Server:
    """By the longest steps that a minute has room for, two of them."""
    return Server(renew_after=145, flight=29)


# 1. No honest owner is convicted.


def living(server: Server, *acts: str, tabs: int = 2, lost: int = 3) -> Moves:
    """An owner whose tabs do these acts, until more answers in a row than that were lost."""

    def moves(scene: Scene) -> Iterator[Step]:
        if server.head(scene.record).successors > lost and not scene.loot:
            return
        mine = [each for each in scene.opened if each.request.whose == "owner"]
        if len(scene.sent) + len(mine) < tabs:
            for act in acts:
                request = Request("owner", act, scene.owner, scene.now)
                yield f"sends one that {act}", replace(scene, sent=(*scene.sent, request))
        yield from _on_their_way(server, scene)
        if scene.jumps and (scene.jumps[0] < 0 or not (scene.sent or scene.answers)):
            jump, *rest = scene.jumps
            wrong = scene.wrong + jump
            yield f"the clock jumps {jump}", replace(scene, wrong=wrong, jumps=tuple(rest))
        yield "time passes", server.wait(scene, server.flight)

    return moves


def _on_their_way(server: Server, scene: Scene) -> Iterator[Step]:
    for request in scene.sent:
        yield f"one that {request.act} is opened", server.open(scene, request)
    for opened in scene.opened:
        request = opened.request
        yield f"the {request.whose}'s that {request.act} ends", server.commit(scene, opened)
    for answer in scene.answers:
        rest = without(scene.answers, answer)
        yield "an answer arrives", replace(scene, owner=answer.cookie, answers=rest)


def test_two_tabs_stay_in(coarse: Server) -> None:
    """Their requests read and edit and may last for ever; three answers in a row are lost."""
    found = explore(coarse, coarse.start(), living(coarse, "reads", "edits"))

    assert {} == found.ends
    assert len(found.scenes) > 10_000


def test_two_tabs_stay_in_where_the_grace_is_met_exactly(exact: Server) -> None:
    """A minute after is not within the minute."""
    found = explore(exact, exact.start(), living(exact, "edits"))

    assert {} == found.ends


def test_three_tabs_stay_in(coarse: Server) -> None:
    """Of which one may be a slow upload, across one renewal or many."""
    found = explore(coarse, coarse.start(), living(coarse, "edits", tabs=3, lost=1))

    assert {} == found.ends


def test_nine_lost_answers_in_a_row_lock_nobody_out(coarse: Server) -> None:
    """The tenth would."""
    found = explore(coarse, coarse.start(), living(coarse, "reads", lost=MOST - 2))

    assert {} == found.ends
    assert MOST - 1 == max(coarse.head(scene.record).successors for scene in found.scenes)


def test_a_page_that_fails_renews_nothing(make_site: Callable[..., Site]) -> None:
    """Its answer may carry no cookie; a server that loses its own successors is no thief."""
    site = make_site("memory", renew_after=900)
    owner = site.browser()
    owner.login()
    for fails in [True] * 30 + [False] + [True] * 30:
        site.clock.move(600)
        session = owner.begin()
        assert "user:42" == session.subject
        owner.end(session, failed=fails)

    assert 1 == len(site.events_of(Renewed))
    assert [] == site.events_of(CopiedCookie)


def test_logins_rotations_and_logouts_that_cross_a_renewal_convict_nobody(coarse: Server) -> None:
    """Whoever still shows the old seed is anonymous, and no thief."""
    acts = ("edits", "rotates", "logs out")
    found = explore(coarse, coarse.start(), living(coarse, *acts, lost=1))

    assert {"refused", "logged out"} == set(found.ends)


def test_a_clock_that_goes_back_convicts_nobody(coarse: Server) -> None:
    """By more than the grace, at any moment, and is set right again at another.

    That happens while nothing is on its way: for the rules it is time that passes.
    """
    found = explore(coarse, coarse.start(-116, 116), living(coarse, "edits", lost=1))

    assert {} == found.ends


def test_an_answer_and_a_request_that_take_a_minute_convict() -> None:
    """The search does find a schedule, where the assumption does not hold."""
    slow = Server(renew_after=145, flight=30)

    assert {"copied"} == set(explore(slow, slow.start(), living(slow, "reads")).ends)


# 2. No takeover is silent.


def haunted(server: Server) -> Moves:
    """The same, and a thief who copies the cookie at some moment, once, and keeps all he is sent.

    That requests take a while to the server is left out: it adds nothing but to the owner's risk.
    """
    lives = living(server, "reads", tabs=1)

    def moves(scene: Scene) -> Iterator[Step]:
        for label, after in lives(scene):
            if isinstance(after, Scene) and after.sent:
                after = server.open(after, after.sent[-1])
            yield label, after
        if not scene.loot:
            yield "the thief copies the cookie", replace(scene, loot=(scene.owner,))
        for cookie in scene.loot:
            if not any(each.request.whose == "thief" for each in scene.opened):
                request = Request("thief", "reads", cookie, scene.now)
                yield "the thief's is opened", server.open(scene, request)

    return moves


def comes_back(server: Server, scene: Scene) -> End | None:
    """How it ends when the owner comes back, alone; None where the thief is out instead."""
    for seconds in (GRACE, 1, server.renew_after, 1, GRACE):
        after = server.visit(server.wait(scene, seconds), "owner", scene.owner)
        if isinstance(after, str):
            return after
        scene = after
    for cookie in scene.loot:
        request = Request("thief", "reads", cookie, scene.now)
        assert "copied" == server.open(scene, request)
    for opened in scene.opened:
        late = server.commit(scene, opened)
        assert isinstance(late, Scene)
        assert (scene.loot, scene.record) == (late.loot, late.record)
    return None


def test_a_takeover_is_never_silent(coarse: Server) -> None:
    """Whatever the two did before: a request is answered as the owner's, or it convicts.

    And when the owner comes back, the thief is found, or he is out and whatever he shows convicts.
    """
    found = explore(coarse, coarse.start(), haunted(coarse))
    alone = {
        coarse.view(quiet): quiet
        for scene in found.scenes
        for his in [tuple(each for each in scene.opened if each.request.whose == "thief")]
        for quiet in [replace(scene, sent=(), opened=his, answers=())]
    }
    outcomes = {comes_back(coarse, scene) for scene in alone.values()}

    assert {"copied"} == set(found.ends)
    assert {"copied", None} == outcomes


# 3. Both are found in the end.


def rounds(server: Server, scene: Scene, gap: int) -> Iterator[Scene | End]:
    """Time passes, and both come: the one after the other, together, or the thief twice."""
    begun = server.wait(scene, gap)
    for cookie in begun.loot:
        yield _in_turn(server, begun, ("owner", cookie))
        yield _in_turn(server, begun, (cookie, "owner"))
        yield from _together(server, begun, cookie)
        after = server.visit(begun, "thief", cookie)
        for other in after.loot if isinstance(after, Scene) else ():
            yield _in_turn(server, begun, (cookie, other, "owner"))


def _in_turn(server: Server, scene: Scene, visits: tuple[str, ...]) -> Scene | End:
    """Each comes with this cookie; "owner" with the owner's."""
    for cookie in visits:
        own = cookie == "owner"
        after = server.visit(scene, "owner" if own else "thief", scene.owner if own else cookie)
        if isinstance(after, str):
            return after
        scene = after
    return scene


def _together(server: Server, scene: Scene, cookie: str) -> Iterator[Scene | End]:
    """Both requests are opened before either ends."""
    both = server.open(scene, Request("owner", "reads", scene.owner, scene.now))
    if isinstance(both, Scene):
        both = server.open(both, Request("thief", "reads", cookie, scene.now))
    if not isinstance(both, Scene):
        yield both
        return
    for first, second in (both.opened, both.opened[::-1]):
        halfway = server.answer(both, first)
        assert isinstance(halfway, Scene)
        yield server.answer(halfway, second)


def longest(server: Server, scene: Scene, gap: int, known: dict[object, int | None]) -> int:
    """How many rounds the two can go on at most; AssertionError where that is for ever."""
    view = server.view(scene)
    if view not in known:
        known[view] = None
        outcomes = [each for each in rounds(server, scene, gap) if isinstance(each, Scene)]
        known[view] = max((1 + longest(server, each, gap, known) for each in outcomes), default=0)
    found = known[view]
    assert found is not None, "they come back to where they were, and go on for ever"
    return found


@pytest.mark.parametrize(
    ("gap", "most"),
    [(20, 140 + (MOST - 1) * GRACE + GRACE), (60, 180 + MOST * GRACE)],
)
def test_both_are_found_while_both_keep_coming(exact: Server, gap: int, most: int) -> None:
    """However the thief goes about it; the owner is honest.

    After the renewal was due he has a minute for each successor that he throws away.
    """
    scene = exact.start()

    assert most == gap * longest(exact, replace(scene, loot=(scene.owner,)), gap, {})


# 4. Limits, and what a clock can do.


class Scenario:
    """A site that renews every ten minutes, and its owner, whose cookie a thief has copied."""

    def __init__(self, **options: Any) -> None:
        self.site = Site("memory", Path(), {"renew_after": 600, **options})
        self.owner = self.site.browser()
        self.owner.login()
        self.owner.visit(lambda session: session.update(n=0))
        self.thief = self.owner.copy()

    def renews(self) -> None:
        """The owner is renewed, and shows the successor."""
        self.site.clock.move(600)
        self.owner.visit(reads)
        self.owner.visit(reads)

    @property
    def told(self) -> int:
        return len(self.site.events_of(CopiedCookie))


@pytest.fixture
def scenario() -> Scenario:
    return Scenario()


def test_a_clock_that_went_back_replaces_no_successor_twice(scenario: Scenario) -> None:
    """Two tabs whose renewal was lost; the second ends after the first one's successor was sent."""
    site, owner = scenario.site, scenario.owner
    site.clock.move(600)
    lost = owner.begin()
    reads(lost)
    site.commit(lost)
    site.clock.move(100)
    one, two = owner.begin(), owner.begin()
    site.clock.move(-3600)
    reads(one)
    owner.end(one)
    counts(two)

    assert [] == site.commit(two)
    assert ("user:42", 1, 0) == (owner.begin().subject, owner.begin()["n"], scenario.told)


def test_a_clock_that_is_set_right_again_leaves_the_grace(scenario: Scenario) -> None:
    """It was an hour behind while the successor was shown; another tab's request is on its way."""
    site, owner = scenario.site, scenario.owner
    site.clock.move(600)
    tab = owner.copy()
    owner.visit(reads)
    site.clock.move(-3600)
    owner.visit(reads)
    site.clock.move(3601)

    assert ("user:42", 0) == (tab.begin().subject, scenario.told)


@pytest.mark.parametrize("jump", [3000, -3600, 80_000, -80_000])
def test_a_clock_that_jumps_raises_nothing(jump: int) -> None:
    """Whatever was open when it did, and every cookie that is sent is to be kept for a while."""
    scenario = Scenario(lifetime=Lifetime(idle=None, absolute=86_400))
    site, owner = scenario.site, scenario.owner
    for act in (reads, counts, lambda s: s.rotate(), lambda s: s.login("user:42")):
        session = owner.begin()
        site.clock.move(jump)
        act(session)
        owner.end(session)
        site.clock.move(-jump)
        owner.visit(reads)

    assert ("user:42", 0) == (owner.begin().subject, scenario.told)
    assert [] == [header for header in owner.answers if re.search("Max-Age=(0|-)", header)]


def test_before_a_renewal_a_copy_is_as_good_as_the_original(scenario: Scenario) -> None:
    """A limit: nothing tells them apart."""
    scenario.site.clock.move(599)

    assert ("user:42", 0) == (scenario.thief.visit(reads).subject, scenario.told)


def test_within_the_grace_both_can_use_it(scenario: Scenario) -> None:
    """A limit: the previous proof may be another tab's."""
    scenario.renews()
    scenario.site.clock.move(59)

    assert ("user:42", 0) == (scenario.thief.visit(reads).subject, scenario.told)


def test_a_thief_who_stays_away_is_not_told_of(scenario: Scenario) -> None:
    """A limit: he read what there was, and is out; nobody knows."""
    scenario.thief.visit(reads)
    scenario.renews()
    scenario.renews()

    assert ("user:42", 0) == (scenario.owner.begin().subject, scenario.told)


def test_an_owner_who_stays_away_leaves_it_to_the_thief(scenario: Scenario) -> None:
    """A limit: until the hard end. Once the owner comes, it ends."""
    for _ in range(20):
        scenario.site.clock.move(600)
        assert "user:42" == scenario.thief.visit(reads).subject
    assert 0 == scenario.told

    assert (None, 1) == (scenario.owner.begin().subject, scenario.told)


def test_a_thief_who_copies_each_renewed_cookie_is_not_found(scenario: Scenario) -> None:
    """A limit: who reads the browser's cookies again and again is the browser."""
    for _ in range(20):
        scenario.renews()
        scenario.thief = scenario.owner.copy()
        assert "user:42" == scenario.thief.visit(reads).subject

    assert 0 == scenario.told


def test_a_thief_who_can_rotate_locks_the_owner_out(scenario: Scenario) -> None:
    """A limit: the owner's seed is not the session's any more; `Rotated` and `Refused` are told."""
    scenario.thief.visit(lambda session: session.rotate())

    assert ("user:42", None) == (scenario.thief.begin().subject, scenario.owner.begin().subject)
    told = [type(event) for event in scenario.site.events][-2:]
    assert ([Rotated, Refused], 0) == (told, scenario.told)


def test_an_answer_that_a_later_one_overtook_by_a_minute_convicts(scenario: Scenario) -> None:
    """A limit: the browser keeps the cookie that arrived last, and a thief might have it too."""
    site, owner = scenario.site, scenario.owner
    site.clock.move(600)
    late = owner.copy()
    late.visit(reads)
    site.clock.move(60)
    owner.visit(reads)
    owner.cookie = late.cookie

    assert (None, 1) == (owner.begin().subject, scenario.told)


def test_an_upload_that_a_proxy_held_back_for_a_minute_convicts(scenario: Scenario) -> None:
    """A limit: it is opened when the proxy has all of it, and shows what is long replaced."""
    upload = scenario.owner.copy()
    scenario.renews()
    scenario.site.clock.move(60)

    assert (None, 1) == (upload.begin().subject, scenario.told)


def test_a_client_that_keeps_no_cookie_it_is_sent_is_convicted(scenario: Scenario) -> None:
    """A limit: it cannot be told from a thief who throws them away."""
    client = scenario.owner
    stubborn = client.cookie
    scenario.site.clock.move(600)
    for _ in range(MOST):
        assert "user:42" == client.visit(reads).subject
        client.cookie = stubborn
        scenario.site.clock.move(60)

    assert (None, 1) == (client.begin().subject, scenario.told)


# 5. Over every store.


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_eight_tabs_and_slow_uploads_across_two_renewals_stay_in(
    make_site: Callable[..., Site], kind: str
) -> None:
    """Uploads that began before each renewal, and after it with the cookie from before it."""
    site = make_site(kind, renew_after=600)
    owner = site.browser()
    owner.login()
    owner.visit(lambda session: session.update(n=0))
    uploads = [owner.begin()]
    for _ in range(2):
        site.clock.move(600)
        old, tabs = owner.copy(), [owner.begin() for _ in range(8)]
        for tab in tabs:
            counts(tab)
            owner.end(tab)
        owner.visit(reads)
        site.clock.move(59)
        uploads.append(old.begin())
    for upload in uploads:
        counts(upload)
        site.clock.move(61)
        assert [] == site.commit(upload)

    session = owner.begin()
    assert ("user:42", 16 + 3) == (session.subject, session["n"])
    assert (2, 0) == (len(site.events_of(Renewed)), len(site.events_of(CopiedCookie)))
