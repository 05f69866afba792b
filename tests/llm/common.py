"""What the tests of this room share: a model pin, a request, and a seed's asker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datagen.llm.ask import SeedAsk
from datagen.llm.prompts import Prompt
from datagen.llm.teacher import Teacher
from datagen.llm.wire import Request
from datagen.workspace.specs import EndpointSpec, ModelSpec, Sampling

MODEL = ModelSpec(name="m", title="M", licence="Apache-2.0", served_as="m-served")


def endpoint(url: str, **fields: Any) -> EndpointSpec:
    """An endpoint at a URL."""
    return EndpointSpec(url=url, **fields)


def request(text: str = "say something of the sea", **fields: Any) -> Request:
    """A plain request."""
    given: dict[str, Any] = {
        "model": "m",
        "revision": "r1",
        "served_as": "m-served",
        "prompt": "p",
        "prompt_sha256": "0" * 64,
        "messages": (("user", text),),
        "sampling": Sampling(),
        "seed": 1,
    }
    return Request(**{**given, **fields})


def prompts(**sources: str) -> dict[str, Prompt]:
    """Parse templates given by name."""
    return {
        name: Prompt.parse(name, source.encode(), where=f"{name}.jinja")
        for name, source in sources.items()
    }


def asker(
    teacher: Teacher | None,
    templates: Mapping[str, Prompt],
    *,
    row_key: str = "1",
    number: int = 0,
    max_calls: int = 8,
    sampling: Mapping[str, Any] | None = None,
) -> SeedAsk:
    """An asker as the engine makes one for a seed."""
    return SeedAsk(
        teacher,
        templates,
        source="pages",
        row_key=row_key,
        number=number,
        build_seed=7,
        max_calls=max_calls,
        sampling=sampling,
        recipe="generators/x/recipe.yaml",
    )
