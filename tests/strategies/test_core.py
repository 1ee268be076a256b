"""The flat model and the random streams that everything stands on."""

import numpy as np
import pytest

from strategies import Algorithm, Mean, Round, Spec, WeightedMean, average, catalog, plain
from strategies.random_streams import stream
from strategies.schedules import at_round

SPEC = Spec(("kernel", "bias", "scalar", "moving"), ((2, 3), (3,), (), (2,)), trainable=3)


def arrays():
    return [np.full(shape, i + 1.0) for i, shape in enumerate(SPEC.shapes)]


def test_sizes():
    assert SPEC.sizes == (6, 3, 1, 2)
    assert (SPEC.size, SPEC.trainable_size) == (12, 10)


def test_ravel_and_unravel_are_inverse_and_unravel_gives_views():
    flat = SPEC.ravel(arrays())
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat, [1] * 6 + [2] * 3 + [3] + [4] * 2)
    parts = SPEC.unravel(flat)
    for part, array in zip(parts, arrays(), strict=True):
        np.testing.assert_array_equal(part, array)
    parts[1][0] = 9
    assert flat[6] == 9


def test_an_empty_model():
    empty = Spec((), (), 0)
    assert (empty.size, empty.trainable_size) == (0, 0)
    assert empty.ravel([]).shape == (0,)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Spec(("a",), (), 0), "1 names for 0 shapes"),
        (lambda: Spec(("a", "a"), ((1,), (2,)), 1), "names must be unique, got ['a', 'a']"),
        (
            lambda: SPEC.ravel(arrays()[:2]),
            "weights have shapes [(2, 3), (3,)], expected [(2, 3), (3,), (), (2,)]",
        ),
        (lambda: SPEC.unravel(np.zeros(5)), "vector has shape (5,), expected (12,)"),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_streams_are_named_by_their_whole_key():
    assert stream(1, 2, 3).random() == stream(1, 2, 3).random()
    keys = [(1, 2, 3), (1, 3, 2), (1, 2), (1, 2, 3, 1), (2, 2, 3)]
    assert len({stream(*key).random() for key in keys}) == len(keys)


def test_at_round_takes_numbers_and_schedules():
    assert at_round(2, 7) == 2.0
    assert at_round(lambda round: round / 2, 7) == 3.5


def test_scale_multiplies_the_trainable_part_alone():
    algorithm = Algorithm("x", plain(), WeightedMean(), average())
    mean = Mean(np.ones(12), scale=3.0)
    moved, _ = algorithm.step(SPEC, np.zeros(12, np.float32), {}, mean, Round(1, 1))
    np.testing.assert_array_equal(moved, [3] * 10 + [1] * 2)


def test_what_rule_and_server_share_goes_to_the_clients_together():
    algorithm = catalog.build("scaffold")
    shared = algorithm.share(algorithm.init(SPEC, np.zeros(12, np.float32)), 1)
    assert shared.keys() == {"c"} and shared["c"].shape == (10,)
    assert catalog.build("feddyn", alpha=0.5).share({}, 1) == {"alpha": 0.5}
