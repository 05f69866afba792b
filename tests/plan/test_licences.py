"""Which licences are known, as whole identifiers."""

from __future__ import annotations

import pytest

from datagen.plan.licences import is_known_licence


@pytest.mark.parametrize(
    "licence",
    [
        "CC-BY-NC-SA-4.0",
        "LGPL-3.0-or-later",
        "CDLA-Sharing-1.0",
        "MIT",
        "GPL-2.0-only AND MIT",
        "(Apache-2.0 OR MIT)",
        "CC-BY-SA-3.0, GFDL-1.3-or-later",
        "LicenseRef-NVIDIA-Data-Agreement-for-Model-Training",
    ],
)
def test_known(licence: str) -> None:
    """Identifiers, expressions, lists, and terms with a name of their own."""
    assert is_known_licence(licence)


@pytest.mark.parametrize(
    "licence", ["", "unknown", "later", "SA-4.0", "CC-BY-NC-", "MIT AND other"]
)
def test_unknown(licence: str) -> None:
    """Neither nothing, nor a piece of an identifier, nor a list with an unknown part."""
    assert not is_known_licence(licence)
