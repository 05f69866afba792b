"""Live progress on stderr: a moving bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_PLAIN_INTERVAL_S = 10.0


class Progress:
    """Counts of the running step, shown as they grow; quiet shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self.begin("", None)

    def begin(self, step: str, expected_rows: int | None) -> None:
        """Start counting a step; `expected_rows` None where only running it would tell."""
        self._step = step
        self._expected_rows = expected_rows
        self._counts = dict.fromkeys(("rows", "kept", "rejected", "failed", "calls", "tokens"), 0)
        self._started = self._shown = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.reset(self._task, total=expected_rows, description=self._line())

    def advance(self, **counts: int) -> None:
        """Add to the counts (rows, kept, rejected, failed, calls, tokens) and show them."""
        for name, number in counts.items():
            self._counts[name] += number
        if self._bar is not None and self._task is not None:
            done = self._counts["rows"]
            self._bar.update(self._task, completed=done, description=self._line())
            return
        now = time.monotonic()
        if now - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = now
            self.note(self._line() + self._left(now))

    def finish(self) -> None:
        """Leave one line that says what the step came to."""
        self.note(self._line())

    def note(self, text: str) -> None:
        """Print one line of its own."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        counts = self._counts
        parts = [f"{self._step:<34} {counts['rows']:>6,} rows"]
        if counts["kept"] or counts["rejected"] or counts["failed"]:
            parts.append(f"{counts['kept']:,} kept  {counts['rejected']:,} rejected")
        if counts["failed"]:
            parts.append(f"{counts['failed']:,} failed")
        if counts["calls"]:
            parts.append(f"{counts['calls']:,} calls")
        if counts["tokens"]:
            parts.append(f"{counts['tokens'] / seconds:,.0f} tokens/s")
        return "  ".join([*parts, f"{seconds:.1f} s"])

    def _left(self, now: float) -> str:
        rows = self._counts["rows"]
        if not self._expected_rows or not 0 < rows < self._expected_rows:
            return ""
        left_s = (now - self._started) / rows * (self._expected_rows - rows)
        return f"  about {left_s:,.0f} s left"

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
