"""Which entries of the flat model stay on a client."""

import numpy as np
import pytest

from strategies import (
    Algorithm,
    GaussianNoise,
    Spec,
    WeightedMean,
    average,
    catalog,
    clipped,
    keeping,
)
from strategies.client_rule import ClientRule
from strategies.clients import proximal_hook
from strategies.distilling import decorrelating
from strategies.personal import frozen_weights, local_entries, travelling
from strategies.phases import Phase
from strategies.sharpness import sharpness_aware

SPEC = Spec(
    ("net/a/kernel", "net/a/bias", "net/norm/gamma", "net/b/kernel", "net/norm/mean"),
    ((2, 2), (2,), (2,), (2, 3), (2,)),
    trainable=4,
)

CLIPPED = clipped(WeightedMean("uniform"), 1.0)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("net/a/bias",), [4, 5]),
        (("*/norm/*",), [6, 7, 14, 15]),
        (("*/kernel", "*bias"), [*range(6), *range(8, 14)]),
        (("last:1",), list(range(8, 14))),
        (("last:2",), list(range(6, 16))),
        (("first:1",), list(range(6))),
        (("except:last:1",), [*range(8), 14, 15]),
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
        (lambda: catalog.build("fedrep", layers=0), "layers must be >= 1, got 0"),
        (lambda: catalog.build("fedrep", head_epochs=0), "head_epochs must be > 0, got 0"),
        (lambda: catalog.build("ditto", mu=-1.0), "mu must be >= 0, got -1.0"),
        (lambda: catalog.build("ditto", personal_epochs=0), "epochs must be > 0, got 0"),
        (
            lambda: frozen_weights(SPEC, ("except:*conv*",)),
            f"frozen must name weights of the model ({', '.join(SPEC.names)}), got 'except:*conv*'",
        ),
        (
            lambda: frozen_weights(SPEC, ("first:2", "last:1")),
            "frozen must leave weights to be trained, got ['first:2', 'last:1']",
        ),
        (
            lambda: ClientRule("mine", proximal_hook, phases=(Phase(),)),
            "phases must say all that client rule 'mine' changes of a training, got hook beside "
            "them",
        ),
        (
            lambda: ClientRule(
                "mine",
                objective=decorrelating(0.1).objective,
                direction=sharpness_aware(0.1).direction,
            ),
            "objective of client rule 'mine' must be left out beside a direction",
        ),
        (
            lambda: ClientRule("mine", tuned=Phase(hook=proximal_hook)),
            "tuned of client rule 'mine' must have no hook, as nothing is shared when models are "
            "measured",
        ),
        (
            lambda: Algorithm(
                "x", ClientRule(frozen=("last:1",)), CLIPPED, average(), GaussianNoise(1.0)
            ),
            "parts of 'x' must fit together: noise would change the weights that nobody trains, "
            "got frozen layers last:1",
        ),
        (lambda: catalog.build("apfl", alpha=1.5), "alpha must be in [0, 1], got 1.5"),
        (lambda: catalog.build("apfl", adaptive=1), "adaptive must be true or false, got 1"),
        (lambda: catalog.build("pfedme", mu=0), "mu must be > 0, got 0"),
        (lambda: catalog.build("pfedme", steps=0), "steps must be >= 1, got 0"),
        (lambda: catalog.build("fedsam", rho=-1), "rho must be >= 0, got -1"),
        (lambda: catalog.build("fedasam", eta=-1), "eta must be >= 0, got -1"),
        (lambda: catalog.build("fedspeed", mu=0), "mu must be > 0, got 0"),
        (lambda: catalog.build("per-fedavg", rate=0), "rate must be > 0, got 0"),
        (lambda: catalog.build("per-fedavg", personal_steps=0), "steps must be >= 1, got 0"),
        (lambda: catalog.build("fedbabu", tuning_epochs=0), "tuning_epochs must be > 0, got 0"),
        (
            lambda: ClientRule("mine", second=True, phases=(Phase(second=True),)),
            "phases of client rule 'mine' must train the model that is sent, got none that does",
        ),
    ],
)
def test_patterns_that_do_not_fit(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


def test_entries_are_ascending_and_distinct():
    found = local_entries(SPEC, ("last:1", "*/b/*", "*gamma"))
    assert np.all(np.diff(found) > 0)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), set()),
        (("last:1",), {3}),
        (("except:last:1",), {0, 1, 2}),
        (("*/norm/*",), {2}),
        (("first:1", "*gamma"), {0, 1, 2}),
    ],
)
def test_frozen_weights_are_places_among_the_trained(patterns, expected):
    assert frozen_weights(SPEC, patterns) == expected


def test_what_nobody_trains_and_what_stays_does_not_travel():
    assert travelling(SPEC, ClientRule()) == SPEC.size
    assert travelling(SPEC, keeping("last:1")) == SPEC.size - 6
    assert travelling(SPEC, ClientRule(frozen=("last:1",))) == SPEC.size - 6
    assert travelling(SPEC, ClientRule(frozen=("last:1",), local=("*/norm/*",))) == 6
