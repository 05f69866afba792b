"""The command group: lazy commands, and failures printed without a traceback."""

from __future__ import annotations

import errno
import importlib
import json
import sys
from collections.abc import Sequence

import click

from datagen import __version__
from datagen.errors import DataError, DatagenError

# Command -> the module that defines it and its one-line help, so that `--help` imports none.
_COMMANDS = {
    "build": ("make", "Make a mixture: packed token shards from pinned sources."),
    "try": ("make", "Run one recipe on a few rows and show what comes of them."),
    "plan": ("make", "Print steps, model calls, tokens and epochs before spending anything."),
    "check": ("inspect", "Validate the whole workspace without running anything."),
    "list": ("inspect", "List recipes, filters, mixtures, sources or models."),
    "doctor": ("inspect", "Say what this machine can run, and what is missing."),
    "pin": ("inspect", "Resolve hashes and revisions that are unknown."),
    "init": ("inspect", "Write a starter workspace."),
    "preview": ("look", "Show records of a recipe with where they come from."),
    "sql": ("look", "Query a build: records, rejects, documents, rows, calls, sources."),
    "explain": ("look", "Follow one record from its seed to its tokens."),
    "verify": ("look", "Check every hash of a build and what it rests on."),
    "gc": ("look", "Drop steps that no latest build needs; never the ledger."),
    "dedup": ("tables", "Drop exact and near duplicates from tables of your own."),
    "decontaminate": ("tables", "Take benchmark questions out of tables of your own."),
    "card": ("share", "Print the dataset card of a build."),
    "publish": ("share", "Upload a build and its card to Hugging Face."),
    "train": ("training", "Train a model on a build's token shards."),
    "merge": ("training", "Merge a run's snapshots as a decay of the learning rate would."),
}

# What a machine may refuse to any command; every other OSError is a mistake of ours.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class _Lazy(click.Group):
    """Imports the module of a command when it runs, not for `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a first visit."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"datagen.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="datagen")
def datagen() -> None:
    """Make, curate, mix and pack training data for language models, and train on it."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code."""
    try:
        code = datagen.main(args=list(arguments), prog_name="datagen", standalone_mode=False)
    except DatagenError as error:
        _print_error(error, as_json="--json" in arguments)
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted; the same command goes on where it stopped", err=True)
        return 130
    except click.ClickException as error:
        if "--json" in arguments:
            _print_json(error.format_message(), None, "datagen --help", error.exit_code)
        error.show()
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        failure = DataError(
            f"the system refuses: {error.strerror}",
            where=error.filename and str(error.filename),
            fix="free some space or mend the permissions, and run the same command",
        )
        _print_error(failure, as_json="--json" in arguments)
        return failure.exit_code
    return code if isinstance(code, int) else 0


def _print_error(error: DatagenError, *, as_json: bool) -> None:
    if as_json:
        _print_json(error.message, error.where, error.fix, error.exit_code)
    click.echo(f"error: {error}", err=True)


def _print_json(message: str, where: str | None, fix: str | None, code: int) -> None:
    document = {"message": message, "where": where, "fix": fix, "exit_code": code}
    click.echo(json.dumps({"error": document}))
