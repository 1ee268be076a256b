"""Normal random numbers that nobody can draw again: from the operating system's entropy."""

from __future__ import annotations

from os import urandom
from typing import Any

import numpy as np


class SystemNormal:
    """Stands for NumPy's generator where the noise must be unpredictable."""

    def normal(self, loc: float, scale: float, size: int | None = None) -> Any:
        """Return ``size`` numbers of N(loc, scale^2), or a single one.

        The inverse of the normal distribution, applied to uniform numbers of 52 bits.
        """
        from scipy.special import ndtri  # Not at the start: `sunflower --help` needs none of it.

        count = 1 if size is None else size
        bits = np.frombuffer(urandom(8 * count), np.uint64) >> np.uint64(12)
        # In the middle of its cell each, so that none is 0 or 1, where the inverse is infinite.
        drawn = loc + scale * ndtri((bits + 0.5) * 2.0**-52)
        return float(drawn[0]) if size is None else drawn
