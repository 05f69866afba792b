"""What can go wrong, said so that the reader can act: the place and the remedy."""

from __future__ import annotations


class DatagenError(Exception):
    """Any failure that datagen reports without a traceback.

    `where` names the place (a file:line, a URL, a shard and row); `fix` says what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        """Render as one screen: `where: message`, then the remedy on a line of its own."""
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}\n  fix: {self.fix}" if self.fix else head


class WorkspaceError(DatagenError):
    """The workspace (YAML, prompts, profile, command line) is wrong: exit code 2."""

    exit_code = 2


class ServiceError(DatagenError):
    """A served model, hub or other service does not answer as it must: exit code 3."""

    exit_code = 3


class DataError(DatagenError):
    """Bytes on disk (sources, shards, manifests) or SQL over them are wrong: exit code 4."""

    exit_code = 4
