"""Which entries of the flat model stay on a client."""

import numpy as np
import pytest

from strategies import Spec, catalog, keeping
from strategies.personal import local_entries

SPEC = Spec(
    ("net/a/kernel", "net/a/bias", "net/norm/gamma", "net/b/kernel", "net/norm/mean"),
    ((2, 2), (2,), (2,), (2, 3), (2,)),
    trainable=4,
)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("net/a/bias",), [4, 5]),
        (("*/norm/*",), [6, 7, 14, 15]),
        (("*/kernel", "*bias"), [*range(6), *range(8, 14)]),
        (("last:1",), list(range(8, 14))),
        (("last:2",), list(range(6, 16))),
    ],
)
def test_patterns_name_entries(patterns, expected):
    assert local_entries(SPEC, patterns).tolist() == expected


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: local_entries(SPEC, ("*conv*",)),
            f"local must name weights of the model ({', '.join(SPEC.names)}), got '*conv*'",
        ),
        (lambda: local_entries(SPEC, ("*",)), "local must leave weights to be averaged, got ['*']"),
        (
            lambda: local_entries(SPEC, ("last:x",)),
            "layers must be a whole number >= 1, got 'x'",
        ),
        (lambda: keeping(), "local must name a layer at least, got none"),
        (lambda: catalog.build("fedper", layers=0), "layers must be >= 1, got 0"),
    ],
)
def test_patterns_that_do_not_fit(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_entries_are_ascending_and_distinct():
    found = local_entries(SPEC, ("last:1", "*/b/*", "*gamma"))
    assert np.all(np.diff(found) > 0)
