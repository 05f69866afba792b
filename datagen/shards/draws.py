"""Orders that a seed fixes, the same for every room that draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shuffled(count: int, *seed: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1 that depends on the seeds alone, whatever numpy's version."""
    keys = np.random.PCG64(list(seed)).random_raw(count)
    return np.argsort(keys, kind="stable")
