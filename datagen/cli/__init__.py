"""Commands only: parse, call one function, print one result."""

from __future__ import annotations

from datagen.cli.group import run

__all__ = ["run"]
