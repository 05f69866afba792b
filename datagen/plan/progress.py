"""Live progress on stderr: a moving line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_PLAIN_INTERVAL_S = 10.0
_LIVE_INTERVAL_S = 0.2


class Progress:
    """Counts of the running step, printed as they grow; quiet prints nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self._begin("", None)

    def _begin(self, step: str, expected_rows: int | None) -> None:
        self.step = step
        self.expected_rows = expected_rows
        self.counts = {"rows": 0, "kept": 0, "rejected": 0, "failed": 0, "calls": 0, "tokens": 0}
        self.started = self._shown = time.monotonic()

    def begin(self, step: str, expected_rows: int | None) -> None:
        """Start counting a step."""
        self._begin(step, expected_rows)

    def advance(self, **counts: int) -> None:
        """Add to the counts (rows, kept, rejected, failed, calls, tokens) and maybe print."""
        for name, number in counts.items():
            self.counts[name] += number
        now = time.monotonic()
        if now - self._shown >= (_LIVE_INTERVAL_S if self.live else _PLAIN_INTERVAL_S):
            self._shown = now
            self._print(self._line(), end="")

    def finish(self, *, cached: bool = False) -> None:
        """Say that the step is finished."""
        if cached:
            return
        self._print(self._line(), end="\n")

    def note(self, text: str) -> None:
        """Print one line that is not a count."""
        self._print(text, end="\n")

    def _line(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-6)
        counts = self.counts
        parts = [f"{self.step:<34} {counts['rows']:>6,} rows"]
        if counts["kept"] or counts["rejected"] or counts["failed"]:
            parts.append(f"{counts['kept']:,} kept")
            parts.append(f"{counts['rejected']:,} rejected")
        if counts["failed"]:
            parts.append(f"{counts['failed']:,} failed")
        if counts["calls"]:
            parts.append(f"{counts['calls']:,} calls")
        if counts["tokens"]:
            parts.append(f"{counts['tokens'] / seconds:,.0f} tokens/s")
        parts.append(f"{seconds:.1f} s")
        if self.expected_rows and 0 < counts["rows"] < self.expected_rows:
            left_s = seconds / counts["rows"] * (self.expected_rows - counts["rows"])
            parts.append(f"about {left_s:,.0f} s left")
        return "  ".join(parts)

    def _print(self, text: str, *, end: str) -> None:
        if self.quiet:
            return
        if self.live:
            sys.stderr.write("\r\x1b[2K" + text + end)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live and not self.quiet:
            sys.stderr.write("\r\x1b[2K")
