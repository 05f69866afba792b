"""Data sets on a Hugging Face hub: their rows at a pinned revision, and what a pin should say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datagen.errors import DataError, ServiceError, WorkspaceError
from datagen.shards.sources import PlacedRow, check_json_types, missing_columns, stored_columns


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises: OSError, its HTTP library's base error, and its own limits."""
    from huggingface_hub.errors import HfHubHTTPError

    # The HTTP library (httpx or httpx2) varies with the client's version; the base class does not.
    transport = HfHubHTTPError.__bases__[0]
    return (OSError, transport) if issubclass(transport, Exception) else (OSError,)


def hub_failure(error: BaseException, where: str, *, token_env: str = "HF_TOKEN") -> ServiceError:
    """Say what a failed hub request means for the reader; the token is never in the text."""
    while getattr(error, "response", None) is None and error.__cause__ is not None:
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    remedies = {
        400: "correct what the answer names; for metadata, that is the head of README.md",
        401: f"set {token_env} to a token that may read this, and write where you publish",
        403: f"the token in {token_env} lacks the right: ask for access, or use another token",
        404: "check the name; a private or gated repository answers 404 without a token "
        f"in {token_env}",
        409: "another writer changed the repository meanwhile: run the command again",
        429: "the hub asks for fewer requests: wait a few minutes and run the command again",
    }
    default = "check the network and HF_ENDPOINT, then run the command again"
    said = getattr(error, "server_message", None) or str(error) or type(error).__name__
    head = f"the hub answers {status}" if status else "the hub cannot be used"
    return ServiceError(
        f"{head}: {said.splitlines()[0]}", where=where, fix=remedies.get(status or 0, default)
    )


def read_hub(
    repo: str,
    *,
    revision: str | None,
    columns: Sequence[str],
    config: str | None = None,
    split: str = "train",
    files: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    where: str,
) -> Iterator[PlacedRow]:
    """Stream a data set's rows at its pinned revision, in its own file order.

    Only `columns` are kept, and of Parquet files only they are fetched. Code that a repository
    carries is never run. WorkspaceError for an unpinned revision, an unknown config or
    split, or a missing `hub` extra; ServiceError when the hub fails; DataError for columns.
    """
    if revision is None:
        raise WorkspaceError(
            f"hub data set {repo!r} has no pinned revision",
            where=where,
            fix="datagen pin NAME asks the hub for it and writes it into the manifest",
        )
    try:
        import datasets
    except ImportError as error:
        raise WorkspaceError(
            "reading hub data sets needs the extra 'hub'",
            where=where,
            fix="pip install 'datagen[hub]'",
        ) from error
    stored = stored_columns(columns, rename or {})
    place = f"{repo}@{revision[:12]}"
    chosen: dict[str, Any] = {"data_files": {split: list(files)}} if files else {}

    def open_stream(**options: Any) -> tuple[Any, str]:
        builder = datasets.load_dataset_builder(
            repo, config, revision=revision, **chosen, **options
        )
        return builder.as_streaming_dataset(split=split), builder.name

    failures = (datasets.exceptions.DatasetsError, *hub_errors())
    missing = (
        ValueError,
        datasets.exceptions.DatasetNotFoundError,
        datasets.exceptions.DataFilesNotFoundError,
    )
    try:
        stream, kind = open_stream()
        if stream.features is not None:
            _check_columns(stream.features.arrow_schema, stored, place)
            if kind == "parquet" and set(stored.values()) != set(stream.features):
                stream, _ = open_stream(columns=list(dict.fromkeys(stored.values())))
    except missing as error:
        raise WorkspaceError(
            f"the hub data set cannot be opened: {str(error).splitlines()[0]}",
            where=where,
            fix="check 'id:', 'config:', 'split:' and 'files:' against the data set's page; a "
            "gated or private one needs HF_TOKEN",
        ) from error
    except failures as error:
        raise hub_failure(error, place) from error
    yield from _hub_rows(stream, stored, split, place, failures)


def _check_columns(schema: Any, stored: Mapping[str, str], place: str) -> None:
    if missing := [column for column in stored.values() if column not in schema.names]:
        raise missing_columns(place, missing, schema.names)
    check_json_types(place, (schema.field(column) for column in stored.values()))


def _hub_rows(
    stream: Any,
    stored: Mapping[str, str],
    split: str,
    place: str,
    failures: tuple[type[Exception], ...],
) -> Iterator[PlacedRow]:
    try:
        for number, row in enumerate(stream):
            if missing := [column for column in stored.values() if column not in row]:
                raise missing_columns(place, missing, row)
            values = {name: row[column] for name, column in stored.items()}
            yield PlacedRow(f"{split}#{number}", values)
    except failures as error:
        raise hub_failure(error, place) from error
    except ValueError as error:
        raise DataError(
            f"a file of the data set cannot be read: {error}",
            where=place,
            fix="check 'files:' against the data set's page, or pin another revision",
        ) from error


def model_revision(repo: str, *, endpoint: str | None, where: str) -> str:
    """Ask the hub for a model's newest revision. ServiceError when the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi(endpoint=endpoint).model_info(repo, timeout=30).sha)
    except hub_errors() as error:
        raise hub_failure(error, where) from error


def hub_facts(
    repo: str, *, config: str | None, split: str, endpoint: str | None, where: str
) -> tuple[str, int | None]:
    """Ask the hub for a data set's newest revision and the rows its card states for the split.

    The count is None where the card has none. ServiceError when the hub does not answer.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint).dataset_info(repo, timeout=30)
    except hub_errors() as error:
        raise hub_failure(error, where) from error
    if info.sha is None:
        raise ServiceError(
            f"the hub names no revision of {repo!r}", where=where, fix="pin it by hand"
        )
    stated = vars(info.card_data).get("dataset_info") or [] if info.card_data else []
    for entry in [stated] if isinstance(stated, dict) else stated:
        if (entry.get("config_name") or "default") == (config or "default"):
            for part in entry.get("splits") or ():
                if part.get("name") == split:
                    return info.sha, part.get("num_examples")
    return info.sha, None
