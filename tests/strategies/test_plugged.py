"""Plug-ins by entry point, and the example of a strategy of one's own."""

from importlib import metadata

import numpy as np
import pytest

import strategies
from examples.my_strategy import Signed, decayed, signed
from strategies import Algorithm, Federated, Mean, Round, Update, catalog, core, plugged
from strategies.citations import MCMAHAN_2017
from strategies.entry import Entry

GOOD = "examples.my_strategy:signed"


@pytest.fixture
def installed(monkeypatch):
    """Return a function that installs entry points, by name."""

    def clear():
        plugged.points.cache_clear()
        plugged.load.cache_clear()

    def install(**values):
        points = [metadata.EntryPoint(n, v, plugged.GROUP) for n, v in values.items()]
        monkeypatch.setattr(plugged, "entry_points", lambda group: points)
        clear()

    yield install
    monkeypatch.undo()
    clear()


def test_a_plugin_is_found_by_its_name(installed):
    installed(signed=GOOD, fedavg=GOOD)
    assert catalog.names()[-1] == "signed"
    made = catalog.build("signed", norm=2.0)
    assert isinstance(made, Algorithm) and made.reducer.norm == 2.0
    entry = catalog.entry("signed")
    assert (entry.title, entry.citation, entry.bibtex) == ("Signed", None, "")
    assert entry.options == {"strength": 0.001, "learning_rate": 0.01, "norm": 10.0}
    assert entry.rule.startswith("Decay on the clients")
    assert catalog.build("fedavg").name == "FedAvg"
    with pytest.raises(ValueError, match="option of signed must be one of strength"):
        catalog.build("signed", stength=1.0)


def test_a_plugin_may_bring_its_entry(installed):
    installed(mine=f"{__name__}:MINE")
    assert catalog.entry("mine") is MINE
    assert catalog.entry("mine").bibtex.startswith("@")


MINE = Entry("mine", "Mine", MCMAHAN_2017, signed)
NOTHING = 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            "no_such_module:thing",
            "strategy 'bad' must be a plug-in that imports, got 'no_such_module:thing' "
            "(ModuleNotFoundError: No module named 'no_such_module')",
        ),
        (
            f"{__name__}:NOTHING",
            "strategy 'bad' must be a function that returns an Algorithm, "
            f"got '{__name__}:NOTHING', which returns int",
        ),
    ],
)
def test_plugins_that_do_not_load(value, text, installed):
    installed(bad=value)
    with pytest.raises(ValueError) as caught:
        catalog.entry("bad")
    assert str(caught.value) == text


def test_plugins_may_import_what_core_has_always_given():
    """Copies of the example, and whoever named a type or a helper, import it from there."""
    public = {"Algorithm", "ClientRule", "Mean", "Reducer", "Round", "ServerRule", "Spec", "Update"}
    types = {"After", "Hook", "Local", "Noise", "Schedule", "State", "Vector"}
    helpers = {"at_round", "bound", "finish", "fold_all", "merge_all", "stream"}
    assert set(core.__all__) == public | types | helpers
    assert all(getattr(core, name) is getattr(strategies, name) for name in public)
    assert all(hasattr(core, name) for name in types | helpers)


def test_the_example_follows_its_formulas():
    rng = np.random.default_rng(1)
    x, m = rng.normal(size=5), np.zeros(5)
    rule, state = Signed(0.1, 0.5), {"m": np.zeros(5)}
    model = x.copy()
    for number in (1, 2, 3):
        delta = rng.normal(size=5)
        model, state = rule.step(model, state, Mean(delta), Round(number, 1))
        m = 0.5 * m + 0.5 * delta
        x = x + 0.1 * np.sign(m)
    np.testing.assert_allclose(model, x, rtol=1e-12)
    g, w = rng.normal(size=5), rng.normal(size=5)
    hook = decayed(0.3).hook
    np.testing.assert_allclose(hook(g, w, w, {"strength": 0.3}, {}), g + 0.3 * w)
    made = signed(norm=1.0)
    assert Federated(made).algorithm is made
    long = made.reducer.finish(made.reducer.lift(Update(0, 1, np.full(4, 5.0))))
    assert np.linalg.norm(long.delta) == pytest.approx(1.0)
