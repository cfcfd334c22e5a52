"""OpenTelemetry metrics and spans, by themselves where its API is installed (the extra `otel`).

    coatcheck.events                 a counter of events, by name and reason
    coatcheck.store.lost_races       a counter of writes that another request's write came before
    coatcheck.store.duration         a histogram of what the store's calls took, in seconds
    coatcheck.open, coatcheck.commit spans of a request's two moments of I/O

Instruments and spans carry the store's kind, the name of the `Sessions` and the public session id,
never a secret. Nothing is imported before a `Sessions` is made, and providers may be configured
later still: while there are none, nothing is measured, and they are looked for once a second.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, cast

from coatcheck.events import Contended, Event, Merged

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["NO_SPAN", "Telemetry", "telemetry"]

S = TypeVar("S")

NO_SPAN: AbstractContextManager[object] = nullcontext()
"""What is entered where there is nothing to trace."""

_VERBS = ("load", "create", "save", "touch", "delete", "admit", "forbid")
_LOOK = 1.0
_IDLE = ("NoOp", "Proxy", "_Proxy")
"""How the names of providers begin that stand for none."""
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def telemetry(name: str, store: object) -> "Telemetry | None":
    """That of the sessions of this name over this store; None without a recent API."""
    try:
        return Telemetry(name, store)
    except (ImportError, TypeError):  # the latter of an API before 1.30
        return None


class Telemetry:
    """The instruments of one `Sessions`. Raises ImportError without the API."""

    def __init__(self, name: str, store: object) -> None:
        from opentelemetry import context, metrics, trace

        meter = metrics.get_meter("coatcheck")
        self._context, self._trace, self._metrics = context, trace, metrics
        self._look_at, self._is_on = 0.0, False
        self._tracer = trace.get_tracer("coatcheck")
        self._events = meter.create_counter(
            "coatcheck.events", unit="{event}", description="What happened to sessions."
        )
        self._lost_races = meter.create_counter(
            "coatcheck.store.lost_races",
            unit="{write}",
            description="Writes that another request of the session came before.",
        )
        self._duration = meter.create_histogram(
            "coatcheck.store.duration",
            unit="s",
            description="What a call of the store took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        kind = type(store).__name__.removeprefix("Async")
        self._common = {"coatcheck.sessions": name, "coatcheck.store": kind}

    def is_on(self) -> bool:
        """Whether anybody listens, to the second: the API alone does nothing, which takes time."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            providers = self._trace.get_tracer_provider(), self._metrics.get_meter_provider()
            self._is_on = not all(type(each).__name__.startswith(_IDLE) for each in providers)
        return self._is_on

    def count(self, event: Event) -> None:
        """Count what happened."""
        if not self.is_on():
            return
        told = {**self._common, "coatcheck.event": event.name}
        reason = getattr(event, "reason", None)
        self._events.add(1, told if reason is None else {**told, "coatcheck.reason": reason})
        if isinstance(event, Merged | Contended):
            self._lost_races.add(event.tries, self._common)

    def measured(self, store: S) -> S:
        """The verbs of this store, each of which records what it took."""
        timed = _awaited if iscoroutinefunction(getattr(store, "load", None)) else _called
        verbs = {
            verb: timed(self, store, verb, {**self._common, "coatcheck.verb": verb})
            for verb in _VERBS
            if hasattr(store, verb)
        }
        return cast("S", type("Measured", (), verbs)())

    def span(self, moment: str, session_id: str) -> AbstractContextManager[object]:
        """The span of one of a request's moments of I/O; the store's own spans are its children."""
        if not self.is_on():
            return NO_SPAN
        span = self._tracer.start_span(moment)
        if not span.is_recording():
            return NO_SPAN
        span.set_attributes({**self._common, "session.id": session_id})
        return _Current(self, span)


class _Current(AbstractContextManager[None]):
    """A recorded span, which is the current one inside."""

    def __init__(self, telemetry: Telemetry, span: "Span") -> None:
        self._telemetry, self._span = telemetry, span

    def __enter__(self) -> None:
        inside = self._telemetry._trace.set_span_in_context(self._span)
        self._token = self._telemetry._context.attach(inside)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._telemetry._context.detach(self._token)
        if kind is not None:
            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(self._telemetry._trace.StatusCode.ERROR)
        self._span.end()


def _called(
    telemetry: Telemetry, store: object, verb: str, attributes: dict[str, str]
) -> "staticmethod[..., Any]":
    """The verb, which tells how long it took, and what it raised."""
    duration = telemetry._duration

    def timed(*arguments: Any) -> Any:
        if not telemetry.is_on():
            return getattr(store, verb)(*arguments)
        start = time.perf_counter()
        try:
            answer = getattr(store, verb)(*arguments)
        except BaseException as error:
            failed = {**attributes, "error.type": type(error).__name__}
            duration.record(time.perf_counter() - start, failed)
            raise
        duration.record(time.perf_counter() - start, attributes)
        return answer

    return staticmethod(timed)


def _awaited(
    telemetry: Telemetry, store: object, verb: str, attributes: dict[str, str]
) -> "staticmethod[..., Any]":
    """`_called`, awaited."""
    duration = telemetry._duration

    async def measured(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            answer = await getattr(store, verb)(*arguments)
        except BaseException as error:
            failed = {**attributes, "error.type": type(error).__name__}
            duration.record(time.perf_counter() - start, failed)
            raise
        duration.record(time.perf_counter() - start, attributes)
        return answer

    def timed(*arguments: Any) -> Any:
        return (measured if telemetry.is_on() else getattr(store, verb))(*arguments)

    return staticmethod(timed)
