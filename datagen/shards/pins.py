"""Pins: the bytes that a manifest promises, checked against files and written into the YAML."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from datagen.errors import DataError, WorkspaceError
from datagen.shards.hub import hub_facts, model_revision
from datagen.shards.parquet import file_sha256, write_bytes
from datagen.shards.sources import SourceFile, resolve_files

HASH_CACHE = ".datagen/hashes.json"
_SETTLED_NS = 2_000_000_000


def verify_pins(
    pinned: Mapping[str, str | None], files: Sequence[SourceFile], *, root: Path, where: str
) -> dict[str, str]:
    """Hash `files`, compare those that `pinned` names, and return every file's sha256 by name.

    Hashes are remembered in the workspace's HASH_CACHE by path, size and modification time.
    DataError for a file that differs from its pin, or a pin that no file answers to.
    """
    names = {file.name for file in files}
    for name, promised in pinned.items():
        if promised is not None and name not in names:
            raise DataError(
                f"pinned file {name!r} is not among the files",
                where=where,
                fix="put the file back, or take its line out of 'sha256:'",
            )
    hashes = _hashes(files, root)
    for name, found in hashes.items():
        promised = pinned.get(name)
        if promised is not None and promised != found:
            raise DataError(
                f"{name} has sha256 {found[:12]}, the manifest pins {promised[:12]}",
                where=where,
                fix=f"put the pinned file back, or set its sha256 to null and run "
                f"'datagen pin' to accept these bytes ({found})",
            )
    return hashes


def _hashes(files: Sequence[SourceFile], root: Path) -> dict[str, str]:
    """Hash the files, or take a hash from the cache where size and time are unchanged."""
    cache_path = root / HASH_CACHE
    before = _read_cache(cache_path)
    after = dict(before)
    hashes = {}
    for file in files:
        path, status = str(file.path.resolve()), file.path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = before.get(path)
        known = entry[2] if isinstance(entry, list) and entry[:2] == stamp else None
        hashes[file.name] = known or file_sha256(file.path)
        # A file written this instant may change again within the clock's grain.
        if known is None and time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            after[path] = [*stamp, hashes[file.name]]
    if after != before:
        _write_cache(cache_path, after)
    return hashes


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {
        name: entry
        for name, entry in entries
        if isinstance(entry, list) and len(entry) == 3 and _is_sha256(entry[2])
    }


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _write_cache(path: Path, content: Mapping[str, Any]) -> None:
    # Two commands may write at once: each has its own temporary file, and the last one wins.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".hashes.")
    except OSError as error:
        # A read-only workspace can be looked at all the same: hashing again only costs time.
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return
        raise
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
    Path(temporary).replace(path)


# --- datagen pin ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What pinning wrote: the YAML key's path, and the value that was unknown before."""

    key: tuple[str, ...]
    value: str | int


def pin_model(manifest: Path, *, endpoint: str | None = None) -> list[Pinned]:
    """Fill a model manifest's unknown hub revision, in its own text, as `pin_source` does."""
    text = manifest.read_text(encoding="utf-8")
    hub = yaml.safe_load(text).get("hub")
    if not hub or hub.get("revision") is not None:
        return []
    where = str(manifest)
    value = model_revision(hub["id"], endpoint=endpoint, where=where)
    pin = Pinned(key=("hub", "revision"), value=value)
    write_bytes(manifest, set_scalar(text, pin.key, value, where=where).encode())
    return [pin]


def pin_source(manifest: Path, *, root: Path, endpoint: str | None = None) -> list[Pinned]:
    """Fill a source manifest's unknown hashes, hub revision and row count, in its own text.

    Every other byte of the YAML, comments too, stays as it was. Values that are set already are
    checked (hashes) or left alone (revision, rows). ServiceError, with nothing changed, when the
    hub does not answer; DataError for a file that differs from its pin.
    """
    text = manifest.read_text(encoding="utf-8")
    where = str(manifest)
    content = yaml.safe_load(text)
    found: list[Pinned] = []
    if sample := content.get("sample"):
        pinned: dict[str, str | None] = sample.get("sha256") or {}
        files = resolve_files(root, sample["files"], where=where)
        hashes = verify_pins(pinned, files, root=root, where=where)
        found += [
            Pinned(key=("sample", "sha256", name), value=value)
            for name, value in hashes.items()
            if pinned.get(name) is None
        ]
    hub = content.get("hub")
    if hub and hub.get("revision") is None:
        config, split = hub.get("config"), hub.get("split", "train")
        revision, rows = hub_facts(
            hub["id"], config=config, split=split, endpoint=endpoint, where=where
        )
        found.append(Pinned(key=("hub", "revision"), value=revision))
        if rows is not None and content.get("rows") is None:
            found.append(Pinned(key=("rows",), value=rows))
    edited = text
    for pin in found:
        edited = set_scalar(edited, pin.key, pin.value, where=where)
    if edited != text:
        write_bytes(manifest, edited.encode())
    return found


def set_scalar(text: str, key: Sequence[str], value: str | int, *, where: str) -> str:
    """Set one scalar of a YAML mapping and keep the rest of the text, comments too.

    Missing keys are added to the end of their mapping. WorkspaceError where the result would not
    read back as exactly that change.
    """
    expected = yaml.safe_load(text)
    inner = expected
    for name in key[:-1]:
        inner[name] = inner.get(name) or {}
        inner = inner[name]
    inner[key[-1]] = value
    try:
        plain = str(value) if yaml.safe_load(str(value)) == value else orjson.dumps(value).decode()
        edited = _edit(text, yaml.compose(text, Loader=yaml.SafeLoader), list(key), plain)
        if yaml.safe_load(edited) == expected:
            return edited
    except yaml.YAMLError:
        pass
    raise WorkspaceError(
        f"cannot write {'.'.join(key)} into this YAML",
        where=where,
        fix=f"write it by hand: {'.'.join(key)}: {value}",
    )


def _edit(text: str, mapping: Any, key: list[str], value: str) -> str:
    for name, child in mapping.value:
        if name.value == key[0]:
            if len(key) > 1 and isinstance(child, yaml.MappingNode) and child.value:
                return _edit(text, child, key[1:], value)
            return _replace(text, mapping, name, child, key, value)
    if mapping.flow_style:
        end: int = mapping.end_mark.index - 1
        joint = ", " if mapping.value else ""
        return f"{text[:end].rstrip()}{joint}{_flow(key, value)}{text[end:]}"
    indent = " " * mapping.value[0][0].start_mark.column
    end = _line_end(text, _last_mark(text, mapping))
    return f"{text[:end]}\n{indent}{_entry(key, value, indent)}{text[end:]}"


def _replace(text: str, mapping: Any, name: Any, child: Any, key: list[str], value: str) -> str:
    """Put a value where the key stands with another one, an empty mapping, or nothing."""
    colon: int = text.index(":", name.end_mark.index) + 1
    start: int = child.start_mark.index
    end: int = child.end_mark.index
    if start == end:
        start = end = colon
    if len(key) > 1 and not mapping.flow_style:
        line_end = _line_end(text, end)
        indent = " " * (name.start_mark.column + 2)
        below = f"\n{indent}{_entry(key[1:], value, indent)}"
        return f"{text[:colon]}{text[end:line_end].rstrip()}{below}{text[line_end:]}"
    scalar = value if len(key) == 1 else "{" + _flow(key[1:], value) + "}"
    return f"{text[:start].rstrip(' ')} {scalar}{text[end:]}"


def _entry(key: Sequence[str], value: str, indent: str) -> str:
    if len(key) == 1:
        return f"{_quoted(key[0])}: {value}"
    return f"{_quoted(key[0])}:\n{indent}  {_entry(key[1:], value, indent + '  ')}"


def _flow(key: Sequence[str], value: str) -> str:
    inner = value if len(key) == 1 else "{" + _flow(key[1:], value) + "}"
    return f"{_quoted(key[0])}: {inner}"


def _quoted(name: str) -> str:
    return name if name.replace("_", "").isalnum() else orjson.dumps(name).decode()


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _last_mark(text: str, node: Any) -> int:
    """Where a block mapping's last entry ends: its own mark lies past the comments below it."""
    key, value = node.value[-1]
    if value.start_mark.index == value.end_mark.index:
        return int(key.end_mark.index)
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        return _last_mark(text, value)
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        return len(text[: value.value[-1].end_mark.index].rstrip())
    return len(text[: value.end_mark.index].rstrip())
