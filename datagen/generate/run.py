"""Run a method over seeds: many at once, results in seed order, every seed accounted for."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from datagen.errors import DataError, DatagenError, ServiceError, WorkspaceError
from datagen.generate.stamp import Stamp, reject_draft, reject_seed, stamp_draft
from datagen.llm.ask import AnswerRejected, CallRecord, SeedAsk
from datagen.llm.client import ServiceDown
from datagen.record import Draft, Record, Reject, Seed

_WAITING = 4
_GARBAGE = (20_000, 20, 100)

Method = Callable[..., Awaitable[list[Draft]]]


@dataclass(slots=True, kw_only=True)
class SeedResult:
    """What became of one seed: kept records, refused drafts, and the answers it used.

    A seed that ends early keeps only the answers that led to its end: what else arrived until then
    is chance.
    """

    records: list[Record] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    calls: list[CallRecord] = field(default_factory=list)


async def generate(
    seeds: Iterable[Seed],
    *,
    method: Method,
    arguments: Mapping[str, Any],
    stamp: Stamp,
    ask_for: Callable[[Seed], SeedAsk],
    stage: str,
    window: int,
) -> AsyncIterator[tuple[Seed, SeedResult]]:
    """Yield each seed with its result, in seed order, with at most `window` seeds in flight.

    A slow seed does not hold the others up: finished ones wait for it, up to `_WAITING` windows of
    them. A model that stays invalid rejects the seed, a request that stays unanswered fails it; a
    service that is down altogether raises ServiceDown, for nothing further can succeed.
    """
    running: deque[tuple[Seed, asyncio.Task[SeedResult]]] = deque()
    source = iter(seeds)
    changed = asyncio.Event()
    in_flight = 0

    def note_end(_: asyncio.Task[SeedResult]) -> None:
        nonlocal in_flight
        in_flight -= 1
        changed.set()

    with _collecting_rarely():
        try:
            while True:
                while in_flight < window and len(running) - in_flight < _WAITING * window:
                    if (seed := next(source, None)) is None:
                        break
                    work = _one_seed(seed, method, arguments, stamp, ask_for(seed), stage)
                    task = asyncio.create_task(work)
                    task.add_done_callback(note_end)
                    running.append((seed, task))
                    in_flight += 1
                if not running:
                    return
                if not running[0][1].done():
                    changed.clear()
                    await changed.wait()
                    continue
                seed, task = running.popleft()
                yield seed, task.result()
        finally:
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Let garbage wait: the collector would look through all seeds in flight every few calls."""
    before = gc.get_threshold()
    gc.set_threshold(*_GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _one_seed(
    seed: Seed,
    method: Method,
    arguments: Mapping[str, Any],
    stamp: Stamp,
    ask: SeedAsk,
    stage: str,
) -> SeedResult:
    result = SeedResult()
    reject = partial(reject_seed, seed, stamp.generator, stage)
    drafts: list[Draft] = []
    ended: AnswerRejected | None = None
    try:
        drafts = await method(seed, ask, **arguments)
    except ServiceDown:
        raise
    except ServiceError as error:
        failed = reject(status="failed", reason="service_error", detail=str(error))
        result.rejects.append(failed)
        return result
    except AnswerRejected as error:
        ended = error
    except DatagenError:
        raise
    except ModuleNotFoundError as error:
        raise WorkspaceError(
            f"the method needs the package {error.name!r}",
            where=stage,
            fix="pip install 'datagen[text]', or the extension that brings it",
        ) from error
    except Exception as error:
        raise DataError(
            f"method failed: {type(error).__name__}: {error}",
            where=f"{stage}, row {seed.row_key}",
            fix="mend the method, or the row that it cannot read",
        ) from error
    finally:
        await ask.close()
    ended = ask.over_budget() or ended
    if ended is None:
        result.calls = list(ask.calls)
        _sort_drafts(drafts, seed, stamp, stage, result)
        return result
    result.calls = [call for call in ask.calls if call.key in ended.calls]
    result.rejects.append(reject(status="rejected", reason=ended.reason, detail=ended.detail))
    return result


def _sort_drafts(
    drafts: list[Draft], seed: Seed, stamp: Stamp, stage: str, result: SeedResult
) -> None:
    """Stamp the drafts to keep and file the others; equal drafts of one seed count once."""
    if not drafts:
        result.rejects.append(
            reject_seed(
                seed,
                stamp.generator,
                stage,
                status="rejected",
                reason="no_draft",
                detail="the method found nothing to make of this row",
            )
        )
    seen: set[str] = set()
    for draft in drafts:
        if draft.rejected is not None:
            result.rejects.append(reject_draft(draft, seed, stamp.generator, stage))
            continue
        used = [call for call in result.calls if draft.calls is None or call.key in draft.calls]
        record = stamp_draft(draft, seed, stamp, calls=used)
        if record.id in seen:
            result.rejects.append(
                reject_draft(
                    Draft(text=draft.text, messages=draft.messages, rejected="same_draft_twice"),
                    seed,
                    stamp.generator,
                    stage,
                )
            )
            continue
        seen.add(record.id)
        result.records.append(record)
