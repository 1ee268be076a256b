"""Values that are compressed for a slow link, and are the same after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from simulation.engines.ray.zipped import Zipped
from simulation.worker.chunk import Part
from strategies.sums import Sums

ARRAYS = of_numpy.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_]),
    of_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
)


@given(st.dictionaries(st.text(max_size=3), ARRAYS, max_size=4))
def test_not_a_bit_is_lost(value: dict[str, Any]) -> None:
    found = Zipped.of(value).open()
    assert found.keys() == value.keys()
    for name, array in value.items():
        other = found[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape)
        assert other.tobytes() == array.tobytes()  # NaN has many patterns; its own is kept.


@pytest.mark.parametrize("clients", [1, 4, 64])
def test_partials_become_smaller(clients: int) -> None:
    draw = np.random.default_rng(clients)
    total = np.zeros(50_000)
    for _ in range(clients):
        total += 150 * draw.normal(0, 0.01, total.size).astype(np.float32).astype(np.float64)
    part = Part(Sums(total, weight=150.0 * clients), {"client": np.arange(clients)}, ())
    zipped = Zipped.of(part)
    assert sum(map(len, zipped.arrays)) < 0.75 * total.nbytes
    found = Part(*zipped.open())
    assert found.partial.delta.tobytes() == total.tobytes()
    assert found.partial.weight == part.partial.weight and found.lost == ()
