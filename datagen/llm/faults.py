"""What can go wrong with one attempt, and what the service's state says about the whole run."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Literal

from datagen.errors import ServiceError

Kind = Literal[
    "unreachable",
    "timeout",
    "throttled",
    "unavailable",
    "server_error",
    "cut_body",
    "error_body",
    "empty_choices",
    "empty_message",
    "too_large",
    "refused",
    "denied",
]
LONGEST_RETRY_AFTER_S = 600.0


class ServiceDown(ServiceError):
    """No endpoint will answer anything: the build stops here and can be resumed."""


class RequestRefused(ServiceError):
    """The service refuses this one request (HTTP 400 and the like); asking again changes nothing.

    `reason` is None, or what rejects the seed instead of failing it: `too_long` for a prompt that
    does not fit the model's context, `unreadable` for output that the server itself cannot read.
    """

    reason: str | None = None


class Fault(Exception):
    """One failed attempt: its kind, a detail without secrets, and when to come back."""

    def __init__(self, kind: Kind, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether another attempt can fare better."""
        return self.kind not in ("too_large", "refused", "denied")

    @property
    def congestion(self) -> bool:
        """Whether the server says, or shows, that it has too much to do."""
        return self.kind in ("throttled", "unavailable", "timeout")

    @property
    def spoilt(self) -> bool:
        """Whether an answer came and was of no use, as by a cut connection."""
        return self.kind in ("cut_body", "error_body", "empty_choices", "empty_message")


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date against `now` (Unix time)."""
    if value is None:
        return None
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER_S) if wait == wait else None
