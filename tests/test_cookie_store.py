"""The cookie store: a carrier whose cookies are whole sessions, and what it cannot promise."""

import asyncio
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck import ConfigurationError, CookieTooLarge, KeyRing, Lifetime, Sessions
from coatcheck.errors import StoreUnavailable
from coatcheck.events import LoggedOut, Revoked
from coatcheck.lifecycle.marks import mark_id
from coatcheck.record import Record
from coatcheck.state import Terms
from coatcheck.stores.cookie import AsyncCookieStore, CookieStore
from coatcheck.stores.memory import AsyncMemoryStore, MemoryStore
from coatcheck.testing import record
from coatcheck.token import Token
from tests.sites import KEY, KINDS, Site

NAME = b"session"
DAY = 86_400_000
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.integers(0, 2**62)
RECORDS = st.builds(
    Record,
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.just(b""),
    st.none() | TEXT,
    st.none() | TIMES,
    TIMES,
    TIMES,
    st.binary(max_size=300),
)
RECORD = record("0123456789abcdef" * 2, revision=b"", subject="user:42", payload=b"payload")
TOKEN = Token(RECORD.id, b"s" * 16, b"p" * 16)


@pytest.fixture(params=[CookieStore, AsyncCookieStore])
def carrier(request: pytest.FixtureRequest) -> Any:
    return request.param(KeyRing(KEY), revocations=None)


@pytest.fixture
def value(carrier: Any) -> str:
    """A cookie value that opens."""
    sealed: str = carrier.seal(TOKEN, RECORD, NAME)
    assert (Token(TOKEN.id, TOKEN.seed, b""), RECORD) == carrier.open(sealed, NAME)
    return sealed


class TestCarrier:
    @given(RECORDS, st.binary(max_size=20))
    def test_what_was_sealed_opens(self, carried: Record, name: bytes) -> None:
        """Every field; of the token id and seed."""
        carrier = CookieStore(KeyRing(KEY), revocations=None)
        token = Token(carried.id, b"s" * 16, b"p" * 16)
        opened = carrier.open(carrier.seal(token, carried, name), name)

        assert (Token(carried.id, token.seed, b""), carried) == opened

    def test_every_bit_counts(self, carrier: Any, value: str) -> None:
        """Of the bytes that it spells: version, id, nonce, data, tag."""
        raw = urlsafe_b64decode(value + "=" * (-len(value) % 4))
        number = int.from_bytes(raw)
        spelled = ((number ^ 1 << bit).to_bytes(len(raw)) for bit in range(len(raw) * 8))
        texts = [urlsafe_b64encode(each).decode().rstrip("=") for each in spelled]

        assert {None} == {carrier.open(each, NAME) for each in texts}

    def test_every_character_counts(self, carrier: Any, value: str) -> None:
        """Each bit of each, as text."""
        for at, character in enumerate(value):
            for bit in range(8):
                other = chr(ord(character) ^ 1 << bit)
                assert None is carrier.open(value[:at] + other + value[at + 1 :], NAME)

    def test_no_part_of_it_opens(self, carrier: Any, value: str) -> None:
        """Nor more than it."""
        shorter = [value[:end] for end in range(len(value))]
        longer = [value + each for each in [*ALPHABET, "=", "==", "A=", "AA", "AAA", "AAAA", "\n"]]
        before = [each + value for each in ["A", "AAAA", " ", "="]]

        assert {None} == {carrier.open(each, NAME) for each in shorter + longer + before}

    @pytest.mark.parametrize("payload", [b"x" * size for size in range(3, 6)], ids=len)
    def test_no_other_spelling_opens(self, carrier: Any, payload: bytes) -> None:
        """Base64 has several for the same bytes; only one is ours."""
        ours = carrier.seal(TOKEN, record(RECORD.id, revision=b"", payload=payload), NAME)
        assert carrier.open(ours, NAME) is not None
        raw = urlsafe_b64decode(ours + "=" * (-len(ours) % 4))
        others = {ours[:-1] + each for each in ALPHABET} - {ours}
        same_bytes = {
            each for each in others if urlsafe_b64decode(each + "=" * (-len(each) % 4)) == raw
        }
        padded = {ours + "=" * (-len(ours) % 4), ours + "====", f'"{ours}"', ours + " "} - {ours}
        standard = {ours.replace("-", "+").replace("_", "/")} - {ours}

        assert len(same_bytes) == {0: 0, 2: 15, 3: 3}[len(ours) % 4]
        assert {None} == {carrier.open(each, NAME) for each in others | padded | standard}

    def test_another_name_does_not_open(self, carrier: Any, value: str) -> None:
        """Two sites with one key do not accept each other's cookies."""
        assert [None] * 3 == [carrier.open(value, name) for name in (b"other", b"", NAME + b"\x00")]

    def test_another_key_does_not_open(self, carrier: Any, value: str) -> None:
        """And an older key does, as long as the ring holds it."""
        stranger = CookieStore(KeyRing("o" * 32), revocations=None)
        successor = CookieStore(KeyRing("o" * 32, KEY), revocations=None)

        assert (None, RECORD) == (
            stranger.open(value, NAME),
            (successor.open(value, NAME) or (None, None))[1],
        )

    def test_another_id_does_not_open(self, carrier: Any, value: str) -> None:
        """What is sealed for one session cannot be shown as another's."""
        raw = bytearray(urlsafe_b64decode(value + "=" * (-len(value) % 4)))
        other = carrier.seal(Token("f" * 32, b"s" * 16, b""), record("f" * 32, payload=b"y"), NAME)
        raw[1:17] = urlsafe_b64decode(other + "=" * (-len(other) % 4))[1:17]

        assert None is carrier.open(urlsafe_b64encode(raw).decode().rstrip("="), NAME)

    @given(st.text(max_size=200) | st.text(ALPHABET, min_size=80, max_size=200))
    def test_garbage_is_none(self, text: str) -> None:
        """It never raises."""
        assert None is CookieStore(KeyRing(KEY), revocations=None).open(text, NAME)

    @pytest.mark.parametrize("text", ["A" * 80, "A" * 4096, "A" * 4097, "A" * 10**6, "é" * 100])
    def test_no_length_raises(self, carrier: Any, text: str) -> None:
        """Nor stalls."""
        assert None is carrier.open(text, NAME)

    def test_nothing_of_the_session_can_be_read(self, carrier: Any) -> None:
        """The id can: it is no secret. A value that stands there unsealed would be found."""
        plain = record(RECORD.id, payload=b"a value that nobody may read")
        value = carrier.seal(TOKEN, plain, NAME)
        raw = urlsafe_b64decode(value + "=" * (-len(value) % 4))

        assert bytes.fromhex(RECORD.id) in raw
        for secret in (b"nobody may read", TOKEN.seed, b"user:42"):
            assert secret not in raw

    @pytest.mark.parametrize("make", [CookieStore, AsyncCookieStore])
    @pytest.mark.parametrize("keys", ["k" * 32, b"k" * 32, None, ["k" * 32]], ids=repr)
    def test_keys_are_a_key_ring(self, make: Any, keys: object) -> None:
        """With how to make one."""
        with pytest.raises(ConfigurationError, match=r"KeyRing.*coatcheck key"):
            make(keys, revocations=None)

    @pytest.mark.parametrize("make", [CookieStore, AsyncCookieStore])
    def test_revocations_are_a_deliberate_choice(self, make: Any) -> None:
        """A required keyword, and a store or None."""
        with pytest.raises(TypeError, match="revocations"):
            make(KeyRing(KEY))
        with pytest.raises(ConfigurationError, match="revocations"):
            make(KeyRing(KEY), revocations="memory:")

    def test_no_key_in_a_repr(self, carrier: Any) -> None:
        """Whatever is printed of it."""
        assert "kkk" not in repr(carrier) + repr(carrier.__dict__)


@pytest.fixture(params=[kind for kind in KINDS if kind.startswith("cookie")])
def carried(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site over the cookie store, sync and async."""
    return make_site(request.param)


def alone(make_site: Callable[..., Site], kind: str) -> Site:
    """A cookie store without revocations."""
    make: Any = AsyncCookieStore if kind.endswith("-async") else CookieStore
    return make_site(kind, store=make(KeyRing(KEY), revocations=None))


def put_mark(site: Site, payload: bytes) -> None:
    """Into the revocations, as the mark of user:42."""
    named = mark_id(site.sessions._rules.domain, "user:42")
    mark = record(named, subject="mark", seen_at=site.now, expires_at=site.now + DAY)
    mark = msgspec.structs.replace(mark, payload=payload)
    site._run(site.store.revocations.create(mark, site.now))


def lose_one_answer(store: Any) -> None:
    """The next record is created, and nobody is told so."""
    create = store.create

    def lost(*arguments: Any) -> Any:
        store.create = create
        made = create(*arguments)
        if asyncio.iscoroutine(made):
            return awaited(made)
        raise StoreUnavailable("the answer was lost")

    async def awaited(made: Any) -> None:
        await made
        raise StoreUnavailable("the answer was lost")

    store.create = lost


class TestSite:
    def test_nothing_is_kept_on_the_server(self, carried: Site) -> None:
        """Until something ends."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(a=1))
        owner.visit(lambda s: s.update(b=2))

        assert ([], {"a": 1, "b": 2}) == (carried.records(), owner.values())

    def test_a_write_seals_it_again_and_a_look_does_not(self, carried: Site) -> None:
        """So idle counts from writes."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(a=1))
        carried.clock.move(1800)
        owner.visit(lambda s: s["a"])
        assert 1 == len(owner.answers)
        carried.clock.move(1800)

        assert (True, "expired") == (owner.begin().is_new, owner.begin().refused)

    def test_the_answer_that_arrives_last_wins_whole(self, carried: Site) -> None:
        """Law 2 is declared as not kept."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(start=0))
        one, other = owner.begin(), owner.begin()
        one["a"], other["b"] = 1, 2
        owner.end(one)
        owner.end(other)

        assert {"start": 0, "b": 2} == owner.values()

    def test_an_older_state_can_come_back(self, carried: Site) -> None:
        """Declared too: its owner holds every state it ever had."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(credit=10))
        older = owner.copy()
        owner.visit(lambda s: s.update(credit=0))

        assert ({"credit": 10}, {"credit": 0}) == (older.values(), owner.values())

    def test_a_slow_request_that_crosses_the_idle_end_revives_nothing(self, carried: Site) -> None:
        """Expired means ended (law 1), also for a request that was opened before."""
        owner = carried.browser()
        owner.login()
        slow, cookie = owner.begin(), owner.cookie
        slow["late"] = True
        carried.clock.move(3600)
        assert None is carried.open(cookie).subject

        assert [] == carried.commit(slow)

    def test_a_slow_login_that_crosses_the_idle_end_has_its_own_edits(self, carried: Site) -> None:
        """What expired is gone; the login starts anew."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(old=1))
        slow = owner.begin()
        slow.login("user:42")
        slow["mine"] = 1
        carried.clock.move(3600)
        owner.end(slow)

        assert ("user:42", {"mine": 1}) == (owner.begin().subject, owner.values())

    def test_every_older_state_is_dead_after_logout(self, carried: Site) -> None:
        """One denial ends them all."""
        owner, older = carried.browser(), []
        owner.login()
        for number in range(3):
            owner.visit(lambda s, n=number: s.update(n=n))  # type: ignore[misc]
            older.append(owner.copy())
        owner.visit(lambda s: s.logout())

        assert [True] * 3 == [copy.begin().is_new for copy in older]
        assert 1 == len(carried.records())

    def test_a_denial_is_kept_until_the_hard_end(self, carried: Site) -> None:
        """And a minute, for clocks that disagree: a sweep must not bring the session back."""
        owner = carried.browser()
        owner.login(remember=True)
        ends = int(carried.clock() * 1000) + 30 * 86_400_000 + 60_000
        carried.clock.move(100)
        owner.visit(lambda s: s.logout())

        assert [ends] == [denial.expires_at for denial in carried.records()]

    def test_one_id_has_one_hard_end(self, carried: Site) -> None:
        """Else an older copy of the cookie would outlive its denial."""
        month = Terms(Lifetime(idle=None, absolute=30 * 86_400), persistent=True)
        owner = carried.browser()
        owner.login()
        owner.visit(lambda session: session._set_terms(month))
        copies = [owner.copy()]
        carried.clock.move(60)
        owner.visit(lambda session: session._set_terms(None))
        copies.append(owner.copy())
        owner.visit(lambda session: session.logout())
        ends = [each.begin().subject for each in copies]
        carried.clock.move(2 * 86_400)

        assert [None] * 4 == ends + [each.begin().subject for each in copies]

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.rotate(),
            lambda session: session.lower(1),
            lambda session: session.login("user:42", level=3),
        ],
        ids=["rotate", "lower", "login"],
    )
    def test_a_denial_whose_answer_was_lost_is_known_again(
        self, carried: Site, act: Callable[[Any], None]
    ) -> None:
        """Nobody is logged out, and nothing is dropped, by an end that was one's own."""
        owner = carried.browser()
        owner.login(level=2)
        owner.visit(lambda s: s.update(cart=["tea"]))
        session = owner.begin()
        act(session)
        lose_one_answer(carried.store.revocations)
        owner.end(session)

        assert ("user:42", {"cart": ["tea"]}) == (owner.begin().subject, owner.values())

    def test_a_denial_has_a_subject_of_its_own(self, carried: Site) -> None:
        """So that a full memory store does not drop it like a visitor's session."""
        owner = carried.browser()
        ended = owner.login().id
        owner.visit(lambda s: s.logout())

        assert [f"coatcheck:ended:{ended}"] == [denial.subject for denial in carried.records()]

    def test_a_denial_holds_no_secret(self, carried: Site) -> None:
        """Only the id and the time."""
        owner = carried.browser()
        owner.login()
        owner.visit(lambda s: s.update(secret="a value"))
        owner.visit(lambda s: s.logout())
        dump = carried.dump()

        assert b"coatcheck:ended:" in dump
        assert b"a value" not in dump
        assert b"user:42" not in dump

    def test_login_takes_a_new_id_and_denies_the_old(self, carried: Site) -> None:
        """So the old cookie dies with it (law 5)."""
        owner = carried.browser()
        before = owner.visit(lambda s: s.update(a=1)).id
        old = owner.copy()
        after = owner.login().id

        assert before != after
        assert (True, 1) == (old.begin().is_new, len(carried.records()))

    def test_the_new_id_is_known_before_the_commit(self, carried: Site) -> None:
        """And is the one in the cookie."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(a=1))
        session = owner.begin()
        session.login("user:42")
        promised = session.id
        owner.end(session)

        assert promised == session.id == owner.begin().id

    def test_revoke_ends_a_session_by_its_id(self, carried: Site) -> None:
        """Without its cookie at hand, for as long as any could last."""
        owner = carried.browser()
        ended = owner.login().id
        assert True is carried.call("revoke", ended)

        assert (None, 1) == (owner.begin().subject, len(carried.events_of(Revoked)))

    @pytest.mark.parametrize("subject", [None, "user:42"])
    def test_revoke_by_subject_is_refused(self, carried: Site, subject: str | None) -> None:
        """Whose it is, only the cookie knows."""
        ended = carried.browser().login().id
        with pytest.raises(ConfigurationError, match="by subject"):
            carried.call("revoke", ended, subject)

    def test_a_level_that_fell_stays_down(self, carried: Site) -> None:
        """No slower answer brings it back, and no older cookie; forms of that page stay good."""
        owner = carried.browser()
        owner.login(level=2)
        older, slow, lowering = owner.copy(), owner.begin(), owner.begin()
        slow["a"] = 1
        lowering.lower(1)
        form = lowering.csrf_token
        owner.end(lowering)
        assert [] == owner.end(slow)

        assert (None, 1) == (older.begin().subject, owner.begin().level)
        assert owner.begin().check_csrf(form)

    def test_a_level_that_does_not_fall_takes_no_new_id(self, carried: Site) -> None:
        """So a page that asks for it each time costs no denial each time."""
        owner = carried.browser()
        known = owner.login().id
        owner.visit(lambda session: session.lower(1))

        assert (known, []) == (owner.begin().id, carried.records())

    def test_a_mark_is_kept_a_minute_longer_than_any_cookie(self, carried: Site) -> None:
        """For clocks that disagree, as a denial is."""
        ends = []
        for _ in range(2):
            carried.clock.move(10)
            carried.call("revoke_all", "user:42")
            [mark] = carried.records()
            ends.append(mark.expires_at - carried.now)

        assert [1 + 400 * DAY + 60_000] * 2 == ends

    @pytest.mark.parametrize("payload", [b"\x01over", b"\x01mark\x93\x01", b"\x00", b""])
    def test_what_is_no_mark_counts_for_none(self, carried: Site, payload: bytes) -> None:
        """Whoever put it there; the next `revoke_all` takes its place."""
        owner = carried.browser()
        owner.login()
        put_mark(carried, payload)
        assert "user:42" == owner.begin().subject
        owner.login()
        carried.call("revoke_all", "user:42")

        assert None is owner.begin().subject

    def test_a_mark_of_a_newer_release_is_an_outage(self, carried: Site) -> None:
        """It is left alone, and logs nobody out."""
        owner = carried.browser()
        owner.login()
        put_mark(carried, b"\x02mark\x93\x01")
        with pytest.raises(StoreUnavailable, match="newer"):
            assert owner.begin().subject
        with pytest.raises(StoreUnavailable, match="newer"):
            carried.browser().login()
        with pytest.raises(StoreUnavailable, match="newer"):
            carried.call("revoke_all", "user:42")

    def test_revoke_neither_makes_nor_ends_a_mark(self, carried: Site) -> None:
        """Whoever knows the subject can compute its id."""
        named = mark_id(carried.sessions._rules.domain, "user:42")
        owner = carried.browser()
        owner.login()
        carried.call("revoke", named)
        assert "user:42" == owner.begin().subject
        carried.call("revoke_all", "user:42")
        carried.call("revoke", named)

        assert None is owner.begin().subject

    @pytest.mark.parametrize("kind", ["cookie", "cookie-async"])
    def test_without_revocations_logout_is_the_browsers_word(
        self, make_site: Callable[..., Site], kind: str
    ) -> None:
        """The cookie is deleted; a copy of it opens until it expires, as is documented."""
        site = alone(make_site, kind)
        owner = site.browser()
        owner.login()
        copy = owner.copy()
        owner.visit(lambda s: s.logout())
        assert (None, "user:42") == (owner.cookie, copy.begin().subject)
        assert 1 == len(site.events_of(LoggedOut))
        site.clock.move(3600)

        assert None is copy.begin().subject

    @pytest.mark.parametrize("kind", ["cookie", "cookie-async"])
    def test_without_revocations_nothing_can_be_revoked(
        self, make_site: Callable[..., Site], kind: str
    ) -> None:
        """And it says so."""
        site = alone(make_site, kind)
        ended = site.browser().login().id
        with pytest.raises(ConfigurationError, match="revocations="):
            site.call("revoke", ended)

    def test_the_age_of_the_cookie_is_what_is_left(self, carried: Site) -> None:
        """Each write sends it anew, and never moves the hard end."""
        owner = carried.browser()
        owner.login()
        carried.clock.move(1000)
        owner.visit(lambda s: s.update(a=1))

        assert "Max-Age=85400" in owner.answers[-1].split("; ")

    def test_a_cookie_that_is_too_large_is_not_sent(self, carried: Site) -> None:
        """Browsers would drop it; what was there stays."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(a=1))
        session = owner.begin()
        session["b"] = "x" * 4096
        with pytest.raises(CookieTooLarge):
            owner.end(session)

        assert {"a": 1} == owner.values()

    def test_a_login_that_is_too_large_ends_nothing(self, carried: Site) -> None:
        """The old cookie is not denied before the new one is made."""
        owner = carried.browser()
        owner.visit(lambda s: s.update(a=1))
        session = owner.begin()
        session["b"] = "x" * 4096
        session.login("user:42")
        with pytest.raises(CookieTooLarge):
            owner.end(session)

        assert ({"a": 1}, []) == (owner.values(), carried.records())

    def test_keys_may_change_at_leisure(self) -> None:
        """A new key in front, and cookies of the old one open and are sealed anew on a write."""
        shelf = MemoryStore()
        before = Sessions(CookieStore(KeyRing(KEY), revocations=shelf))
        after = Sessions(CookieStore(KeyRing("n" * 32, KEY), revocations=shelf))
        at_last = Sessions(CookieStore(KeyRing("n" * 32), revocations=shelf))
        first = before.open(None)
        first["a"] = 1
        old = before.commit(first)[0].partition(";")[0]
        second = after.open(old)
        second["b"] = 2
        new = after.commit(second)[0].partition(";")[0]

        assert ({}, {"a": 1, "b": 2}) == (dict(at_last.open(old)), dict(at_last.open(new)))

    def test_no_limit_ends_with_the_cookie(self, make_site: Callable[..., Site]) -> None:
        """400 days after the login, as browsers do."""
        site = make_site("cookie", lifetime=Lifetime(idle=None, absolute=None))
        owner = site.browser()
        owner.login()
        site.clock.move(400 * 86_400 - 1)
        assert "user:42" == owner.begin().subject
        site.clock.move(1)

        assert None is owner.begin().subject

    def test_sync_and_async_open_each_others_cookies(self, make_site: Callable[..., Site]) -> None:
        """One key and one shelf make one site."""
        shelf = MemoryStore()
        sync = make_site("cookie", store=CookieStore(KeyRing(KEY), revocations=shelf))
        other = make_site(
            "cookie-async",
            store=AsyncCookieStore(KeyRing(KEY), revocations=AsyncMemoryStore(shelf)),
        )
        owner = sync.browser()
        owner.login()
        assert "user:42" == other.open(owner.cookie).subject
        owner.visit(lambda s: s.logout())

        assert None is other.open(owner.cookie).subject
