"""Compiled loops over text as Arrow holds it: bytes and offsets, no Python object a document.

Each module here is imported by the function that needs it: numba takes a moment to load. Entry
points are decorated with `compiled`; what only other kernels call, with numba's own `njit`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])
_CONFIG: Any = numba.config


@cache
def source_digest() -> str:
    """The version of all kernels and of what they tabulate: 16 hex digits of their source."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in (*sorted(here.glob("*.py")), here.parent / "words.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _cache_folder() -> Path:
    """Where machine code is kept: a folder named by the source of all kernels.

    numba itself looks at the file of the function alone, and would go on running old machine code
    where a kernel that it calls has changed in another file.
    """
    for home in (Path(__file__).parent / "__pycache__", Path.home() / ".cache" / "datagen"):
        folder = home / f"kernels-{source_digest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    # Never a shared folder: what lies there is run.
    return Path(tempfile.mkdtemp(prefix="datagen-kernels-"))


def compiled(function: _Function) -> _Function:
    """Compile a kernel at its first call, without the GIL; the machine code is kept on disk."""
    before = _CONFIG.CACHE_DIR
    _CONFIG.CACHE_DIR = str(_cache_folder())
    try:
        kernel: Any = numba.njit(nogil=True, cache=True)(function)
    finally:
        _CONFIG.CACHE_DIR = before
    return cast(_Function, kernel)
