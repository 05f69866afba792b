"""Which licence names are known: SPDX identifiers met in training data, and named terms."""

from __future__ import annotations

import re
from collections.abc import Collection

from datagen.errors import WorkspaceError

_SPDX_NAMES = """
    0BSD AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 Artistic-2.0 BSD-2-Clause
    BSD-3-Clause BSL-1.0 CC0-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-NC-4.0
    CC-BY-NC-SA-4.0 CC-BY-SA-2.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CDLA-Permissive-1.0
    CDLA-Permissive-2.0 CDLA-Sharing-1.0 EPL-2.0 EUPL-1.2 GFDL-1.3-only GFDL-1.3-or-later
    GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later ISC LGPL-2.1-only
    LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later MIT MIT-0 MPL-2.0 ODbL-1.0 ODC-By-1.0
    OGL-UK-3.0 PDDL-1.0 Unlicense WTFPL Zlib
"""
_SPDX = frozenset(_SPDX_NAMES.split())
_NAMED = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_JOINED = re.compile(r"\s+(?:AND|OR|WITH)\s+|,\s*|[()]")


def is_known_licence(licence: str) -> bool:
    """Whether every part of an SPDX expression (or a list) is a known identifier.

    `LicenseRef-NAME` stands for terms that have a name and no SPDX identifier.
    """
    parts = [part for part in _JOINED.split(licence.strip()) if part]
    return bool(parts) and all(part in _SPDX or _NAMED.fullmatch(part) for part in parts)


def require_licence(licence: str, allowed: Collection[str], *, where: str) -> None:
    """Raise WorkspaceError for a licence that is neither known nor allowed by name."""
    if not is_known_licence(licence) and licence not in allowed:
        raise WorkspaceError(
            f"licence {licence!r} is not known",
            where=where,
            fix="write its SPDX identifier, or allow it by name: allow_licences in the profile",
        )
