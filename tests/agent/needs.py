"""Tests that run something in the sandbox say why where there is none."""

from __future__ import annotations

import pytest

from datagen.agent.sandbox import sandbox_problem


def needs_sandbox() -> pytest.MarkDecorator:
    """Skip a test, with the reason, where a layer of the sandbox is missing."""
    problem = sandbox_problem()
    return pytest.mark.skipif(problem is not None, reason=problem or "")
