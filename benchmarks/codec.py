"""A session cookie made and opened: coatcheck's sealed one beside Starlette's signed one.

Starlette writes and reads the whole session as JSON each time. coatcheck keeps each value encoded
by itself, so a request encodes the value it changed and decodes the value it read; the rows "all
values" encode and decode every one of them too, for comparison.
"""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

from itsdangerous import TimestampSigner
from msgspec.structs import replace

from benchmarks.libraries import MANY, STARLETTE
from benchmarks.rounds import Effort, Key, Measure, figure, interleaved
from benchmarks.sample import VALUES
from benchmarks.table import MICROSECONDS, Section
from coatcheck import KeyRing, Sessions, record, values
from coatcheck.record import Body, Head, Record
from coatcheck.sealing import Plain
from coatcheck.stores.cookie import CookieStore
from coatcheck.token import Token

__all__ = ["ALL_VALUES", "MAKE", "MANY_BROWSERS", "NAME", "ONE_VALUE", "OPEN", "Sealed", "measure"]

NAME = "Cookie codec"
MAKE, OPEN = "make", "open"
ONE_VALUE, ALL_VALUES = "coatcheck, sealed, one value", "coatcheck, sealed, all values"
MANY_BROWSERS = "coatcheck, sealed, one value, many browsers"

_SECRET = "k" * 32
_WEEK = 7 * 86_400
_numbers = count(1)


def measure(effort: Effort) -> Section:
    """CPU microseconds to make and to open one cookie."""
    signed, sealed, many = _Signed(), Sealed(), Sealed(MANY)
    work: dict[Key, Callable[[], object]] = {
        (STARLETTE, MAKE): signed.make,
        (STARLETTE, OPEN): signed.open,
        (ONE_VALUE, MAKE): sealed.make,
        (ONE_VALUE, OPEN): sealed.open,
        (MANY_BROWSERS, MAKE): many.make,
        (MANY_BROWSERS, OPEN): many.open,
        (ALL_VALUES, MAKE): sealed.make_all,
        (ALL_VALUES, OPEN): sealed.open_all,
    }
    cases = {key: _timer(each, effort.count) for key, each in work.items()}
    samples = interleaved(cases, effort.rounds)
    return Section(
        NAME,
        dict.fromkeys((MAKE, OPEN), MICROSECONDS),
        {key: figure(each) for key, each in samples.items()},
        note=f"CPU µs for one cookie; signed {len(signed.cookie)} bytes, sealed "
        f"{len(sealed.cookie)} bytes. In brackets, how many times as fast as Starlette's.",
        baseline=STARLETTE,
    )


class _Signed:
    """What Starlette's SessionMiddleware does with a cookie, statement by statement."""

    def __init__(self) -> None:
        self._signer = TimestampSigner(_SECRET)
        self._session = dict(VALUES)
        self.cookie = self.make()

    def make(self) -> str:
        self._session["visits"] = next(_numbers)
        data = b64encode(json.dumps(self._session).encode("utf-8"))
        return self._signer.sign(data).decode("utf-8")

    def open(self) -> Any:
        data = self._signer.unsign(self.cookie.encode("utf-8"), max_age=_WEEK)
        return json.loads(b64decode(data))["visits"]


class Sealed:
    """What a commit and an open do with a carried record, beside their decisions.

    With several browsers each call is the next one's, so that nothing is at hand from before.
    """

    def __init__(self, browsers: int = 1) -> None:
        self._store = CookieStore(KeyRing(_SECRET), revocations=None)
        self._plain = Plain()
        sessions = Sessions(self._store)
        self._site = sessions.name.encode()
        seen = [self._seen(_cookie_of(sessions)) for _ in range(browsers)]
        self.cookie = seen[0].cookie
        self._turns = cycle(seen)

    def make(self) -> str:
        browser = next(self._turns)
        browser.values["visits"] = values.encode(next(_numbers))
        return self._sealed(browser, browser.values)

    def make_all(self) -> str:
        encoded = {key: values.encode(value) for key, value in VALUES.items()}
        return self._sealed(next(self._turns), encoded)

    def open(self) -> Any:
        return values.decode(self._opened(next(self._turns).cookie).values["visits"])

    def open_all(self) -> Any:
        body = self._opened(next(self._turns).cookie)
        return {key: values.decode(data) for key, data in body.values.items()}

    def _sealed(self, browser: "_Browser", encoded: dict[str, bytes]) -> str:
        head = replace(browser.head, body=record.encode_body(Body(encoded, [])))
        made = replace(browser.record, payload=record.write_payload(head))
        return self._store.seal(browser.token, made, self._site)

    def _opened(self, cookie: str) -> Body:
        found = self._store.open(cookie, self._site)
        assert found is not None
        _, carried = found
        head = record.read_payload(carried.payload)
        return record.open_body(head.body, self._plain, carried.id)

    def _seen(self, cookie: str) -> "_Browser":
        found = self._store.open(cookie, self._site)
        assert found is not None
        token, carried = found
        head = record.read_payload(carried.payload)
        return _Browser(cookie, token, carried, head, self._opened(cookie).values)


@dataclass(frozen=True, slots=True)
class _Browser:
    """A cookie, and what it holds."""

    cookie: str
    token: Token
    record: Record
    head: Head
    values: dict[str, bytes]


def _cookie_of(sessions: Sessions) -> str:
    """The value of the cookie that a new browser gets."""
    session = sessions.open(None)
    session.update(VALUES)
    session.login("user:4217")
    (header,) = sessions.commit(session)
    return header.partition(";")[0].partition("=")[2]


def _timer(work: Callable[[], object], count: int) -> Measure:
    def timed() -> float:
        begun = time.process_time()
        for _ in range(count):
            work()
        return (time.process_time() - begun) / count * 1e6

    return timed
