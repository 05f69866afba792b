"""The ledger: every model answer, recorded durably before anybody uses it.

    with Ledger(path) as ledger:
        found = ledger.get(request.key())           # None, or the Completion paid for earlier
        kept = await ledger.put(request, answer)    # returns after the commit is on the disk

One SQLite file in write-ahead mode with `synchronous=FULL`. A thread commits whatever puts have
gathered as one group, so that the cost of a flush is shared. Two processes may hold the same file;
when both are answered for one request, the first recorded answer stands and `put` returns it to
both. Errors and keys of services never enter: the table has no place for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

import orjson

from datagen.errors import DataError
from datagen.llm.wire import Completion, Request

_APPLICATION_ID = 0x44474C31
_BUSY_S = 60.0
_GROUP = 512
_NETWORK_FILE_SYSTEMS = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("fuse.sshfs", "fuse.glusterfs"),
)
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY NOT NULL,
  model TEXT NOT NULL,
  model_revision TEXT NOT NULL,
  prompt TEXT NOT NULL,
  prompt_sha256 TEXT NOT NULL,
  messages TEXT NOT NULL,
  answer TEXT NOT NULL,
  digest TEXT NOT NULL
)
"""
_INSERT = "INSERT OR IGNORE INTO answers VALUES "
_ONE = "(?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT answer, digest FROM answers WHERE key = ?"

_Row = tuple[str, ...]


class _Pending:
    """A put that waits for its commit, and the loop to wake when it is done."""

    __slots__ = ("done", "loop", "row")

    def __init__(self, row: _Row, loop: asyncio.AbstractEventLoop) -> None:
        self.row = row
        self.loop = loop
        self.done: asyncio.Future[Completion | None] = loop.create_future()


class Ledger:
    """Answers by request key; open it with `with`, share it between tasks and threads."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; `DataError` when it is foreign, damaged or on a network disk."""
        self.path = path
        _refuse_network_disk(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = _connect(path)
            self._writer = _connect(path)
            _flush_folder(path.parent)
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error
        places = self._writer.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self._most_at_once = min(_GROUP, places // _ONE.count("?"))
        self._read_lock = threading.Lock()
        self._reading: asyncio.AbstractEventLoop | None = None
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="datagen-ledger", daemon=True)
        self._thread.start()
        self._closed = False

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, key: str) -> Completion | None:
        """Look an answer up; `DataError` when its bytes are not those that were recorded."""
        try:
            with self._read_lock:
                self._begin_reading()
                found = self._reader.execute(_SELECT, (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return None if found is None else self._decoded(key, *found)

    def _begin_reading(self) -> None:
        """Let the look-ups of one round of the event loop share a transaction.

        Beginning one costs more than a look-up. What this round has not seen, nobody in it was
        told of: a put is acknowledged in a later one.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not None and loop is self._reading:
            return
        self._stop_reading()
        self._reading = loop
        if loop is not None:
            self._reader.execute("BEGIN")
            loop.call_soon(self._end_reading, loop)

    def _end_reading(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._read_lock:
            if self._reading is loop:
                self._stop_reading()

    def _stop_reading(self) -> None:
        self._reading = None
        if self._reader.in_transaction:
            self._reader.execute("COMMIT")

    async def put(self, request: Request, answer: Completion) -> Completion:
        """Record an answer; returns once it is durable, with the answer that stands."""
        if self._closed:
            raise RuntimeError("the ledger is closed")
        encoded = answer.encode()
        messages = [{"role": role, "content": content} for role, content in request.messages]
        row = (
            request.key(),
            request.model,
            request.revision,
            request.prompt,
            request.prompt_sha256,
            orjson.dumps(messages).decode(),
            encoded.decode(),
            _digest(encoded),
        )
        pending = _Pending(row, asyncio.get_running_loop())
        self._queue.put(pending)
        earlier = await pending.done
        return answer if earlier is None else earlier

    def __len__(self) -> int:
        """Count the recorded answers."""
        try:
            with self._read_lock:
                return int(self._reader.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Commit what is queued, fold the write-ahead file in, and close; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        with self._read_lock:
            self._reading = None
            self._reader.close()
        self._writer.close()

    def _write(self) -> None:
        """Commit groups of puts until `close`: the body of the writing thread."""
        closing = False
        while not closing:
            group: list[_Pending] = []
            item = self._queue.get()
            while item is not None:
                group.append(item)
                if len(group) >= self._most_at_once or self._queue.empty():
                    break
                item = self._queue.get()
            closing = item is None
            if group:
                self._commit(group)

    def _commit(self, group: list[_Pending]) -> None:
        outcome: list[tuple[_Pending, Completion | BaseException | None]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            new = sum(map(self._insert, _in_powers_of_two(group)))
            # Which of them had an answer already is only asked where any had.
            earlier = self._earlier if new < len(group) else lambda pending: None
            outcome = [(pending, earlier(pending)) for pending in group]
            self._writer.execute("COMMIT")
        except Exception as error:  # whatever it is, those who wait must hear of it
            failure = self._failure(error) if isinstance(error, sqlite3.Error) else error
            outcome = [(pending, failure) for pending in group]
            if self._writer.in_transaction:
                self._writer.rollback()
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Pending, object]]] = {}
        for pending, result in outcome:
            by_loop.setdefault(pending.loop, []).append((pending, result))
        for loop, results in by_loop.items():
            # A loop that has ended has nobody left to tell; its rows are on the disk all the same.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, results)

    def _insert(self, group: list[_Pending]) -> int:
        """Insert rows by one statement, during which the event loop's thread runs on."""
        rows = ", ".join([_ONE] * len(group))
        values = list(chain.from_iterable(pending.row for pending in group))
        return self._writer.execute(_INSERT + rows, values).rowcount

    def _earlier(self, pending: _Pending) -> Completion | None:
        """What is recorded for a request, where it is not what was just put."""
        key, answer = pending.row[0], pending.row[6]
        recorded = self._writer.execute(_SELECT, (key,)).fetchone()
        return None if recorded[0] == answer else self._decoded(key, *recorded)

    def _decoded(self, key: str, text: str, digest: str) -> Completion:
        try:
            encoded = text.encode()
            if _digest(encoded) == digest:
                return Completion.decode(encoded)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise DataError(
            f"the recorded answer {key} is damaged",
            where=str(self.path),
            fix=f"sqlite3 {self.path} \"delete from answers where key = '{key}'\" and run again: "
            "that one answer is asked for once more",
        )

    def _failure(self, error: sqlite3.Error | OSError) -> DataError:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        text = str(error)
        if "disk is full" in text or "No space left" in text:
            what, fix = (
                "the disk is full",
                "free some space and run again; nothing recorded is lost",
            )
        elif name.startswith("SQLITE_BUSY") or name.startswith("SQLITE_LOCKED"):
            what = f"another process holds the ledger ({text})"
            fix = "wait for the other build to end, or give this profile a 'ledger' of its own"
        elif name in ("SQLITE_NOTADB", "SQLITE_CORRUPT") or "malformed" in text:
            what = f"this is not an intact ledger ({text})"
            fix = (
                "save what can be read with `sqlite3 OLD .recover | sqlite3 NEW`, or move the file "
                "away: its answers are then asked for again"
            )
        else:
            what = f"the ledger cannot be read or written ({text})"
            fix = "check the path, its permissions, and the health and free space of the disk"
        return DataError(what, where=str(self.path), fix=fix)


def _in_powers_of_two(group: list[_Pending]) -> Iterator[list[_Pending]]:
    """Cut a group so that few statements, which SQLite has ready, serve groups of any size."""
    start = 0
    while left := len(group) - start:
        size = 1 << (left.bit_length() - 1)
        yield group[start : start + size]
        start += size


def _settle(results: list[tuple[_Pending, object]]) -> None:
    for pending, result in results:
        if pending.done.cancelled():
            continue
        if isinstance(result, BaseException):
            pending.done.set_exception(result)
        else:
            pending.done.set_result(result if isinstance(result, Completion) else None)


def _digest(encoded: bytes) -> str:
    return hashlib.blake2b(encoded, digest_size=8).hexdigest()


def _connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode, with the table there and the file known as ours."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        if not _is_ours(connection):
            connection.execute("BEGIN IMMEDIATE")
            # Another process may have made the table while this one waited for the lock.
            if not _is_ours(connection):
                _create(connection, path)
            connection.execute("COMMIT")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_ours(connection: sqlite3.Connection) -> bool:
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return owner == _APPLICATION_ID


def _create(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise DataError(
            "this SQLite file belongs to another program",
            where=str(path),
            fix="point the profile's 'ledger' at a file of its own",
        )
    connection.execute(_TABLE)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead mode; SQLite does not wait here by itself when others open too."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _flush_folder(folder: Path) -> None:
    """Make the new file's name durable, which flushing the file alone does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_network_disk(path: Path) -> None:
    """Refuse a file system known to be remote: write-ahead logs need one machine's memory."""
    if sys.platform != "linux":
        return
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    place, best, kind = str(path.absolute().parent.resolve()), "", ""
    for line in mounts:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise DataError(
            f"the ledger would lie on a network file system ({kind})",
            where=str(path),
            fix="point the profile's 'ledger' at a local disk; one ledger per writing machine",
        )
