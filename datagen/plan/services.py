"""What steps may use while they run: the ledger, and served models started when first needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from datagen.errors import WorkspaceError
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.teacher import Teacher
from datagen.llm.wire import Completion
from datagen.plan.teacher import override_endpoint
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import TIMEOUT_S, EmbeddedPin, EndpointSpec, ModelSpec, ProfileSpec


class Services:
    """Opened for one run; a model is only started, and the ledger only opened, when asked for.

    `memo` keeps what several steps of the run would otherwise load each for itself.
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        profile: Loaded[ProfileSpec],
        ledger: Path,
        endpoint: str | None,
    ) -> None:
        self.workspace = workspace
        self.profile = profile
        self.requests_sent = 0
        self.memo: dict[str, Any] = {}
        self._ledger_path = ledger
        self._endpoint = override_endpoint(endpoint)
        self._ledger: Ledger | None = None
        self._embedded: dict[str, EndpointSpec] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def ledger_folder(self) -> Path:
        """Where the ledger lies."""
        return self._ledger_path.parent

    @property
    def ledger(self) -> Ledger:
        """The ledger of model answers, opened at first use."""
        if self._ledger is None:
            self._ledger = self._stack.enter_context(Ledger(self._ledger_path))
        return self._ledger

    @asynccontextmanager
    async def teacher(
        self, model: ModelSpec, role: str, on_answer: Callable[[Completion], None]
    ) -> AsyncIterator[Teacher]:
        """The served model behind the ledger; no server is touched while the ledger answers."""
        served = self.profile.spec.models.get(role)
        timeout_s = TIMEOUT_S if served is None else served.timeout_s
        client = Client(model, lambda: self.endpoints(model, role), timeout_s=timeout_s)
        teacher = Teacher(client, self.ledger, on_answer)
        try:
            yield teacher
        finally:
            await teacher.drain()
            await client.close()
            self.requests_sent += client.requests_sent

    def vector_endpoints(self, model: ModelSpec, role: str) -> list[EndpointSpec]:
        """Where a model gives vectors: the profile's endpoints, or an embedded server of its own.

        The override is a teacher's.
        """
        served = self.profile.spec.models.get(role)
        if served is not None and served.endpoints:
            return list(served.endpoints)
        if model.embedded is None:
            raise WorkspaceError(
                f"model {model.name!r} has no endpoint that gives vectors",
                where=self.profile.where("models", role),
                fix="give it 'endpoints:' in the profile, or use an 'encoder'",
            )
        return [self._embed(model, model.embedded, embeddings=True)]

    def endpoints(self, model: ModelSpec, role: str) -> list[EndpointSpec]:
        """Where a model answers: the override, the profile's endpoints, or the embedded server."""
        if self._endpoint is not None:
            return [EndpointSpec(url=self._endpoint, api_key_env="OPENAI_API_KEY")]
        served = self.profile.spec.models.get(role)
        if served is not None and served.endpoints:
            return list(served.endpoints)
        if model.embedded is None:
            raise WorkspaceError(
                f"model {model.name!r} has no endpoint",
                where=self.profile.where("models", role),
                fix="give it 'endpoints:' in the profile, or pass --endpoint URL",
            )
        return [self._embed(model, model.embedded, embeddings=False)]

    def _embed(self, model: ModelSpec, pin: EmbeddedPin, *, embeddings: bool) -> EndpointSpec:
        """The server of the embedded model, started at first use: for vectors it is another one."""
        key = f"{model.name} vectors" if embeddings else model.name
        if key not in self._embedded:
            from datagen.llm.embedded import embedded_server, resolve_weights

            weights = resolve_weights(pin)
            server = embedded_server(pin, weights, served_as=model.served_as, embeddings=embeddings)
            self._embedded[key] = self._stack.enter_context(server)
        return self._embedded[key]
