"""The histogram of staleness: its bins, and numbers that do not run into each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from analysis import plots


@pytest.mark.parametrize(("largest", "every"), [(4, 1), (60, 1), (953, 2)])
def test_numbers_of_the_bins_stand_apart(largest: int, every: int) -> None:
    stale = np.arange(largest + 1)
    frame = pd.DataFrame({"label": "FedAsync", "seed": 0, "staleness": stale, "used": True})
    ax = plots.staleness(frame)
    ax.figure.canvas.draw()
    boxes = [tick.get_window_extent() for tick in ax.get_xticklabels() if tick.get_text()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert len(boxes) == -(-len(ax.get_xticks()) // every)
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100.0)
