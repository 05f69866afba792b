"""How fast one endpoint may be asked: adaptive concurrency, rests, and the breaker.

Times are seconds on one monotonic clock that the caller passes in; nothing here waits.
"""

from __future__ import annotations

from datagen.llm.faults import Fault

_START = 16.0
_GROWTH = 4.0
_TRIP_AFTER = 5
_REST_S = 1.0
_LONGEST_REST_S = 30.0
_REFUSED_REST_S = 0.1
_LONGEST_REFUSED_REST_S = 1.0


class Pace:
    """The concurrency limit of one endpoint and whether it may be asked at all.

    The limit doubles each round trip until the first sign of congestion, then grows by `_GROWTH`
    a round trip and halves on congestion, once for each batch that was under way. After
    `_TRIP_AFTER` failures in a row the endpoint rests, longer each time, and one request probes it;
    `rests` counts those since the last answer.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = float(ceiling)
        self.limit = min(_START, self.ceiling)
        self.in_flight = 0
        self.resting_until = 0.0
        self.unreachable_since: float | None = None
        self._failures = 0
        self._throttled = 0
        self._slow_start = True
        self._halved_at = -1.0
        self.rests = 0
        self._rested_at = -1.0

    @property
    def free(self) -> int:
        """How many more requests may start now, were it not resting."""
        probing = self._failures >= _TRIP_AFTER or self.unreachable_since is not None
        return (1 if probing else int(self.limit)) - self.in_flight

    @property
    def load(self) -> float:
        """The share of the limit in use, to choose the least loaded endpoint by."""
        return self.in_flight / self.limit

    def ready(self, now: float) -> bool:
        """Whether a request may start now."""
        return self.free > 0 and now >= self.resting_until

    def succeeded(self) -> None:
        """Note an answer: the endpoint is well, and the limit grows."""
        self.reached()
        self._failures = self._throttled = self.rests = 0
        step = 1.0 if self._slow_start else _GROWTH / self.limit
        self.limit = min(self.ceiling, self.limit + step)

    def reached(self) -> None:
        """Note that the server spoke, whatever it said."""
        self.unreachable_since = None

    def failed(self, fault: Fault, *, started: float, now: float) -> None:
        """Note a failed attempt that began at `started`: shrink, rest, or begin to doubt."""
        self._failures += 1
        if fault.kind == "unreachable":
            if self.unreachable_since is None:
                self.unreachable_since = started
            rest = min(_LONGEST_REFUSED_REST_S, _REFUSED_REST_S * 2 ** min(self._failures, 8))
            self.resting_until = now + rest
            return
        self.reached()
        if fault.congestion:
            self._slow_start = False
            if started > self._halved_at:
                self.limit = max(1.0, self.limit / 2)
                self._halved_at = now
        self._throttled = self._throttled + 1 if fault.kind == "throttled" else 0
        # One 429 among answers delays its own request only; two in a row hold for everybody.
        if self._throttled >= 2 and fault.retry_after_s is not None:
            self.resting_until = max(self.resting_until, now + fault.retry_after_s)
        # Failures of one batch are one event, however many requests it held.
        if self._failures >= _TRIP_AFTER and started > self._rested_at:
            rest = min(_LONGEST_REST_S, _REST_S * 2 ** min(self.rests, 8))
            self.resting_until = max(self.resting_until, now + rest)
            self.rests += 1
            self._rested_at = now
