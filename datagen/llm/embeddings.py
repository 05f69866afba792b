"""Vectors of texts from a served model, by the protocol of OpenAI's /v1/embeddings.

The ledger keeps answers of chat models, as text; vectors are kept by the step that asks for them,
shard by shard.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from datagen.errors import ServiceError
from datagen.workspace.specs import EndpointSpec

if TYPE_CHECKING:
    from openai import OpenAI

_BATCH = 32
_ATTEMPTS = 6
_WORKERS = 8


def embed(
    texts: Sequence[str], *, endpoints: Sequence[EndpointSpec], served_as: str, timeout_s: float
) -> npt.NDArray[np.float32]:
    """The vectors of some texts, (n, d), asked for in batches of 32 by turns of the endpoints.

    An empty text is not sent: its vector is zero. Raises ServiceError where no answer comes, or
    another number of vectors than texts.
    """
    from openai import OpenAI

    clients = [
        OpenAI(
            base_url=endpoint.url,
            api_key=os.environ.get(endpoint.api_key_env or "", "") or "none",
            max_retries=_ATTEMPTS - 1,
            timeout=timeout_s,
        )
        for endpoint in endpoints
    ]
    asked = [number for number, text in enumerate(texts) if text.strip()]
    batches = [asked[start : start + _BATCH] for start in range(0, len(asked), _BATCH)]

    def answer(number: int) -> npt.NDArray[np.float32]:
        client = clients[number % len(clients)]
        return _ask(client, [texts[place] for place in batches[number]], served_as)

    try:
        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            found = list(pool.map(answer, range(len(batches))))
    finally:
        for client in clients:
            client.close()
    width = found[0].shape[1] if found else 1
    vectors = np.zeros((len(texts), width), np.float32)
    if found:
        vectors[asked] = np.concatenate(found)
    return vectors


def _ask(client: OpenAI, texts: list[str], served_as: str) -> npt.NDArray[np.float32]:
    import openai

    where = str(client.base_url)
    try:
        reply = client.embeddings.create(model=served_as, input=texts, encoding_format="float")
    except openai.OpenAIError as error:
        raise ServiceError(
            f"no vectors of {served_as!r}: {error}",
            where=where,
            fix="serve a model for embeddings there; what is done is kept, so run again",
        ) from error
    rows = sorted(reply.data, key=lambda row: row.index)
    if len(rows) != len(texts) or len({len(row.embedding) for row in rows}) != 1:
        raise ServiceError(
            f"{len(rows)} vectors came for {len(texts)} texts", where=where, fix="mend the server"
        )
    return np.array([row.embedding for row in rows], np.float32)
