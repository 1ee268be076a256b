"""A run folder says which options its strategy had, those of the catalogue's defaults too."""

import pytest

from simulation import Experiment
from simulation.config.strategy import make_strategy
from simulation.runs.summary import about_strategy
from strategies import Algorithm, WeightedMean, average, catalog, proximal


def told(strategy: object, **more: object) -> object:
    experiment = Experiment.model_validate({"strategy": strategy, **more})
    return about_strategy(experiment, make_strategy(experiment))


def test_an_option_left_out_and_its_default_are_told_alike() -> None:
    options = {**catalog.entry("fedadam").options}
    plain = {"title": "FedAdam", "options": options, "changed": []}
    assert told("fedadam") == plain
    assert told({"name": "fedadam", "learning_rate": options["learning_rate"]}) == plain
    other = {"title": "FedAdam", "options": options | {"tau": 0.1}, "changed": ["tau"]}
    assert told({"name": "fedadam", "tau": 0.1, "beta1": options["beta1"]}) == other


def test_of_ones_own_only_what_is_given_is_known(tmp_path, monkeypatch) -> None:
    text = (
        "from strategies import Algorithm, WeightedMean, average, proximal\n"
        "def mine(part): return Algorithm('Mine', proximal(part), WeightedMean(), average())\n"
    )
    (tmp_path / "my_own_strategy.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = told({"name": "my_own_strategy:mine", "part": 0.5})
    assert found == {"title": "Mine", "options": {"part": 0.5}, "changed": ["part"]}


@pytest.mark.parametrize("name", ["Halved", "FedAvg"])
def test_of_an_object_only_the_name_is_known(name: str) -> None:
    object_ = Algorithm(name, proximal(0.5), WeightedMean(), average())
    experiment = Experiment(name=name)
    chosen = make_strategy(experiment, object_)
    assert about_strategy(experiment, chosen, given=True) == {"title": name}
    assert told("fedavg", mode="local") is None
