"""The catalogue: complete entries, and errors that name the nearest right thing."""

import inspect
import re

import pytest

import strategies
from strategies import catalog
from strategies.citation import Citation
from strategies.ready import READY

every_entry = pytest.mark.parametrize("name", catalog.names())


@every_entry
def test_entries_are_complete(name):
    entry = catalog.entry(name)
    assert entry.key == name
    assert entry.build().name == entry.title == entry.builder(**entry.options).name
    # The one paper that is not on arXiv.
    assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.citation.arxiv) or name == "dnc"
    assert len(entry.rule) <= 100 and entry.rule.endswith(".")
    assert entry.rule.splitlines() == [entry.rule]


@every_entry
def test_entries_stay_small(name):
    assert len(inspect.getsource(catalog.entry(name).builder).splitlines()) <= 20


@every_entry
def test_bibtex_is_well_formed(name):
    text = catalog.entry(name).bibtex
    assert text.count("{") == text.count("}")
    assert text.startswith("@") and text.endswith("\n}")
    arxiv = catalog.entry(name).citation.arxiv
    assert (f"eprint = {{{arxiv}}}" in text) if arxiv else ("eprint" not in text)


@every_entry
def test_ready_made_strategies(name):
    entry = catalog.entry(name)
    make = READY[name]
    strategy = make(cohort=strategies.Cohort(size=3), evaluate=None, **entry.options)
    assert strategy.algorithm == entry.build()
    assert (strategy.cohort.size, strategy.evaluate) == (3, None)
    assert set(entry.options) <= set(inspect.signature(make).parameters)
    assert getattr(strategies, make.__name__) is make
    assert entry.citation.arxiv in make.__doc__


def test_options_and_defaults_come_from_the_builder():
    options = {"mu": 0.01, "learning_rate": 1.0, "weights": None}
    assert catalog.entry("fedprox").options == options
    assert catalog.build("fedprox", mu=0.5).client.share(1) == {"mu": 0.5}


def test_a_citation_prints_on_one_line():
    paper = Citation("k", ("Doe, Jane", "Roe, Max"), "A Title", 2020, "A Venue", "2001.00001")
    assert str(paper) == "Doe et al. (2020). A Title. A Venue. arXiv:2001.00001"
    assert paper.bibtex == "\n".join(
        [
            "@inproceedings{k,",
            "  title = {{A Title}},",
            "  author = {Doe, Jane and Roe, Max},",
            "  booktitle = {A Venue},",
            "  year = {2020},",
            "  eprint = {2001.00001},",
            "  archiveprefix = {arXiv},",
            "}",
        ]
    )


ALL = ", ".join(catalog.names())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("fedprx", {}, f"strategy must be one of {ALL}, got 'fedprx'; did you mean 'fedprox'?"),
        ("FedAvg", {}, f"strategy must be one of {ALL}, got 'FedAvg'; did you mean 'fedavg'?"),
        ("zzz", {}, f"strategy must be one of {ALL}, got 'zzz'"),
        (
            "fedprox",
            {"mux": 1},
            "option of fedprox must be one of mu, learning_rate, weights, got 'mux'; "
            "did you mean 'mu'?",
        ),
        ("fedprox", {"mu": -1.0}, "mu must be >= 0, got -1.0"),
        ("fedprox", {"mu": "1"}, "mu must be a number >= 0, got '1'"),
        ("fedavg", {"learning_rate": 0}, "learning_rate must be > 0, got 0"),
        ("fedadam", {"beta2": 1.5}, "beta2 must be in [0, 1), got 1.5"),
    ],
)
def test_bad_names_and_options(name, options, text):
    with pytest.raises(ValueError) as caught:
        catalog.build(name, **options)
    assert str(caught.value) == text
