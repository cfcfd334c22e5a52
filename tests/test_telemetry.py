"""OpenTelemetry, by its own SDK: what is counted, timed and traced, and what it never tells."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from coatcheck import Session, StoreUnavailable
from coatcheck.stores.memory import MemoryStore
from coatcheck.telemetry import telemetry
from tests.sites import Site
from tests.test_laws import Flaky
from tests.test_sessions import Rivalled, put

MEMORY = ["memory", "memory-async"]


class Sink:
    """What the SDK of a process was told."""

    def __init__(self) -> None:
        self._reader, self._spans = InMemoryMetricReader(), InMemorySpanExporter()
        self.meters, self.tracers = MeterProvider([self._reader]), TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes of each data point, and the value or the count."""
        return [
            (dict(point.attributes or {}), getattr(point, "value", getattr(point, "count", None)))
            for point in self.found(name)
        ]

    def found(self, name: str) -> list[Any]:
        """The data points of an instrument."""
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def counted(self, name: str, *keys: str) -> dict[Any, Any]:
        """The values, by one attribute or several."""
        found = {}
        for attributes, value in self.points(name):
            key = tuple(attributes.get(key) for key in keys)
            found[key if len(key) > 1 else key[0]] = value
        return found


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    """An SDK of this test's own: a process has but one for good."""
    sink = Sink()
    monkeypatch.setattr(metrics, "get_meter", sink.meters.get_meter)
    monkeypatch.setattr(trace, "get_tracer", sink.tracers.get_tracer)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: sink.meters)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: sink.tracers)
    yield sink
    sink.meters.shutdown()
    sink.tracers.shutdown()


def used(site: Site) -> Session:
    """A login, a write, a logout."""
    owner = site.browser()
    session = owner.login()
    owner.visit(put("secret", "a value"))
    owner.visit(lambda s: s.logout())
    return session


class TestMetrics:
    def test_events_are_counted_by_name_and_reason(
        self, sink: Sink, make_site: Callable[..., Site]
    ) -> None:
        """With the store's kind and the name of the sessions."""
        site = make_site(name="shop")
        used(site)
        for cookie in ("garbage", "A" * 64):
            site.open(f"{site.sessions.cookie.full_name}={cookie}")

        assert {
            ("logged_in", None): 1,
            ("logged_out", None): 1,
            ("refused", "malformed"): 1,
            ("refused", "unknown"): 1,
        } == sink.counted("coatcheck.events", "coatcheck.event", "coatcheck.reason")
        assert {("shop", "MemoryStore")} == set(
            sink.counted("coatcheck.events", "coatcheck.sessions", "coatcheck.store")
        )

    @pytest.mark.parametrize("kind", MEMORY)
    def test_the_stores_calls_are_timed_by_verb(
        self, sink: Sink, make_site: Callable[..., Site], kind: str
    ) -> None:
        """In seconds; those that requests make. An anonymous write creates, a login is admitted."""
        site = make_site(kind)
        site.browser().visit(put("a", 1))
        used(site)
        bounds = [point.explicit_bounds for point in sink.found("coatcheck.store.duration")]
        assert {(0.0001, 1.0)} == {(each[0], each[-1]) for each in bounds}

        counts = sink.counted("coatcheck.store.duration", "coatcheck.verb")
        assert {"create": 1, "admit": 1, "load": 2, "save": 1, "delete": 1} == counts

    def test_calls_that_fail_are_told_apart(
        self, sink: Sink, make_site: Callable[..., Site]
    ) -> None:
        """By the error's type, as the conventions have it."""
        flaky = Flaky()
        site = make_site(store=flaky)
        owner = site.browser()
        owner.login()
        flaky.down = {"load"}
        owner.begin()

        counts = sink.counted("coatcheck.store.duration", "coatcheck.verb", "error.type")
        assert {("admit", None): 1, ("load", "StoreUnavailable"): 1} == counts

    def test_lost_races_are_counted(self, sink: Sink, make_site: Callable[..., Site]) -> None:
        """Each refused save, whether the last went through or not."""
        owner = make_site(store=Rivalled(3)).browser()
        owner.login()
        owner.visit(put("a", 1))

        assert [3] == [value for _, value in sink.points("coatcheck.store.lost_races")]


class TestSpans:
    @pytest.mark.parametrize("kind", MEMORY)
    def test_open_and_commit_are_spans(
        self, sink: Sink, make_site: Callable[..., Site], kind: str
    ) -> None:
        """With the public id; where the store is not asked there is none."""
        site = make_site(kind)
        session = used(site)
        site.commit(site.open())
        site.commit(site.open(f"{site.sessions.cookie.full_name}=garbage"))

        assert [
            "coatcheck.commit",
            *["coatcheck.open", "coatcheck.commit"] * 2,
        ] == [span.name for span in sink.spans]
        assert {session.id} == {(span.attributes or {})["session.id"] for span in sink.spans}

    def test_the_stores_own_spans_are_inside(
        self, sink: Sink, make_site: Callable[..., Site]
    ) -> None:
        """As the instrumentation of a driver makes them; what comes after is not."""

        class Traced(MemoryStore):
            def load(self, id: str, now: int) -> Any:
                with sink.tracers.get_tracer("driver").start_as_current_span("GET"):
                    return super().load(id, now)

        site = make_site(store=Traced())
        owner = site.browser()
        owner.login()
        owner.begin()
        inner, outer = sink.spans[-2:]

        assert ("GET", "coatcheck.open") == (inner.name, outer.name)
        assert inner.parent is not None
        assert outer.context.span_id == inner.parent.span_id
        assert trace.INVALID_SPAN is trace.get_current_span()

    def test_an_outage_is_an_error(self, sink: Sink, make_site: Callable[..., Site]) -> None:
        """Of the moment that met it."""
        flaky = Flaky()
        site = make_site(store=flaky)
        owner = site.browser()
        owner.login()
        flaky.down = {"save"}
        with pytest.raises(StoreUnavailable):
            owner.visit(put("a", 1))

        failed = [span for span in sink.spans if not span.status.is_ok]
        assert ["coatcheck.commit"] == [span.name for span in failed]
        assert ["StoreUnavailable"] == [(s.attributes or {})["error.type"] for s in failed]


@pytest.mark.parametrize("kind", ["memory", "cookie"])
def test_no_secret_is_told(sink: Sink, make_site: Callable[..., Site], kind: str) -> None:
    """The public id is, and no part of the token or of a value (law 12)."""
    site = make_site(kind)
    owner = site.browser()
    session = owner.login()
    owner.visit(put("secret", "a value"))
    token = owner.answers[0].partition("=")[2].partition(";")[0]
    told = "".join(span.to_json() for span in sink.spans) + repr(
        [sink.points(f"coatcheck.{name}") for name in ("events", "store.duration")]
    )

    assert "logged_in" in told
    if not site.is_carried:
        assert str(session.id) in told
    for part in (token, token[24:40], token[-16:], "a value"):
        assert part not in told


@pytest.mark.parametrize("version", ["none", "old"])
def test_without_a_recent_api_all_else_works(version: str, tmp_path: Path) -> None:
    """It is an extra: nothing needs it, and an old one harms nobody."""
    hidden = {
        "none": "sys.modules['opentelemetry'] = None",
        "old": "from opentelemetry.metrics import NoOpMeter\n"
        "NoOpMeter.create_histogram = lambda self, name, unit='', description='': None\n"
        "import opentelemetry.metrics\n"
        "opentelemetry.metrics.get_meter = NoOpMeter",
    }[version]
    program = f"""
import sys
{hidden}
from coatcheck import Sessions
from coatcheck.stores.memory import MemoryStore
sessions = Sessions(MemoryStore())
session = sessions.open(None)
session.login("user:42")
cookie = sessions.commit(session)[0].partition(";")[0]
print(sessions.open(cookie).subject, sessions._telemetry)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert ("user:42 None\n", "") == (ran.stdout, ran.stderr)


def test_where_nobody_listens_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API alone stands for none; a provider that is set later is met within a second."""
    now = [100.0]
    monkeypatch.setattr("coatcheck.telemetry.time.monotonic", lambda: now[0])
    seen = telemetry("shop", MemoryStore())
    assert seen is not None
    assert not seen.is_on()
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert not seen.is_on()
    now[0] += 1

    assert seen.is_on()
